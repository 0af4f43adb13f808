//! Follows one other replica: what its clients say goes to the own desk, under streams of own numbers.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use isthmus_ca::Ca;
use isthmus_runtime::{backoff::Backoff, drain::Drain, grpc};
use isthmus_wire::{
    federation::SignedStatement,
    feed::Report,
    replicas::{FollowRequest, Registered, Told, replicas_client::ReplicasClient, told::Told as What},
};
use prost::Message as _;
use tonic::{Status, transport::Channel};

use crate::{
    clients::Role,
    handle::{Handle, Message},
};

/// The memory of a control with a long history; all else is far smaller.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// One stream from one replica, opened again whenever it ends.
pub struct Follower {
    /// The own name.
    pub name: String,
    /// The other one's.
    pub replica: String,
    /// To it.
    pub channel: Channel,
    /// The own desk.
    pub desk: Handle,
    /// The own certificate authority, which believes what the other one does.
    pub ca: Ca,
    /// Own numbers and roles of its streams.
    pub streams: BTreeMap<u64, (u64, Role)>,
}

impl Follower {
    /// Follows until the drain, or until it is dropped from the group.
    pub async fn run(mut self, dropped: Drain) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let ended = tokio::select! {
                ended = self.session(&mut backoff) => ended,
                () = dropped.draining() => break,
            };
            let reason = ended.err().map(|status| grpc::reason(&status));
            tracing::debug!(replica = self.replica, reason, "following ends");
            self.close().await;
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = dropped.draining() => break,
            }
        }
        self.close().await;
    }

    /// The other one's clients are lost to this one, until they are heard of again.
    async fn close(&mut self) {
        for (stream, _) in std::mem::take(&mut self.streams).into_values() {
            self.desk.pass(Message::Closed { stream }).await;
        }
    }

    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Status> {
        let mut client = ReplicasClient::new(self.channel.clone()).max_decoding_message_size(MOST_BYTES);
        let mut told = client.follow(FollowRequest { name: self.name.clone() }).await?.into_inner();
        while let Some(Told { told }) = told.message().await? {
            backoff.reset();
            if let Some(message) = told.map(|what| self.message(what)).transpose()?.flatten() {
                self.desk.pass(message).await;
            }
        }
        Ok(())
    }

    /// As the own desk takes it; `None`: of a stream that is not known, or only for this follower.
    fn message(&mut self, what: What) -> Result<Option<Message>, Status> {
        Ok(Some(match what {
            What::Anchors(bytes) => {
                self.ca.believe(&bytes, SystemTime::now()).map_err(unreadable)?;
                return Ok(None);
            }
            What::Memory(json) => Message::Memory(Some(Box::new(parsed(&json)?))),
            What::Deeds(json) => Message::Deeds(Box::new(parsed(&json)?)),
            What::Lease(bytes) => Message::OwnLease(SignedStatement::decode(bytes.as_slice()).map_err(unreadable)?),
            What::Opened(opened) => {
                let role = if opened.is_gateway { Role::Gateway } else { Role::Proxy };
                let stream = self.desk.next_stream();
                self.streams.insert(opened.stream, (stream, role));
                let identity = opened.identity.parse().map_err(unreadable)?;
                Message::Opened { stream, role, name: opened.name, identity }
            }
            What::Closed(closed) => match self.streams.remove(&closed.stream) {
                Some((stream, _)) => Message::Closed { stream },
                None => return Ok(None),
            },
            What::Sent(sent) => {
                let Some((stream, _)) = self.streams.get(&sent.stream).copied() else { return Ok(None) };
                Message::Sent { stream, nonce: sent.nonce, version: sent.version, keys: sent.keys }
            }
            What::Answered(answered) => {
                let Some((stream, _)) = self.streams.get(&answered.stream).copied() else { return Ok(None) };
                let refusals = answered.refusals.into_iter().collect();
                Message::Answered { stream, nonce: answered.nonce, refusals }
            }
            What::Registered(registered) => return self.registered(&registered),
            What::Reported(reported) => {
                let Some((stream, role)) = self.streams.get(&reported.stream).copied() else { return Ok(None) };
                let report = Report::decode(reported.report.as_slice()).map_err(unreadable)?;
                Message::Report { stream, role, report }
            }
        }))
    }

    fn registered(&self, said: &Registered) -> Result<Option<Message>, Status> {
        let Some((stream, _)) = self.streams.get(&said.stream).copied() else { return Ok(None) };
        if !said.refused.is_empty() {
            return Ok(Some(Message::RegistrationRefused { stream, reason: said.refused.clone() }));
        }
        // Nobody waits for the answer: its own replica has taken it.
        let (reply, _) = tokio::sync::oneshot::channel();
        Ok(Some(Message::Register { stream, registered: Box::new(parsed(&said.json)?), reply }))
    }
}

fn parsed<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(json).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("another replica tells what cannot be read: {error}"))
}
