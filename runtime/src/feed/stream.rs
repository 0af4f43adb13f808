//! One stream after the other to control.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use isthmus_core::model::{Resource, others};
use isthmus_wire::{
    WIRE_VERSIONS,
    feed::{self as wire, FeedRequest, FeedResponse, feed_client::FeedClient, feed_request::Request},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    AckHandle, Hello, Registration, Report, Update,
    cache::{Cache, Entry},
};
use crate::{
    backoff::Backoff, drain::Drain, enrolment::system_identity, grpc, identity::Identity, tls::Accept,
    trust::TrustRoots,
};

/// Longest message that is read, bytes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Most resources that are kept: more than any mesh has, less than fills memory.
const MAX_RESOURCES: usize = 200_000;
/// Messages that wait for the stream.
const OUTGOING: usize = 32;
/// Waits between streams.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Key and reason.
type Refusals = Vec<(String, String)>;

/// The ends that the owner does not hold.
pub(super) struct Links {
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) registrations: watch::Receiver<Option<Registration>>,
    pub(super) connected: watch::Sender<bool>,
}

pub(super) struct Subscriber {
    identity: Identity,
    control: String,
    hello: Hello,
    cache: Cache,
    links: Links,
}

/// An update that the receiver has not answered yet.
struct Pending {
    nonce: u64,
    run: String,
    upserts: Vec<(String, Entry)>,
    removals: Vec<String>,
    refusals: Refusals,
    answer: oneshot::Receiver<Refusals>,
}

impl Subscriber {
    pub(super) fn new(identity: Identity, control: String, hello: Hello, cache_dir: PathBuf, links: Links) -> Self {
        Self { identity, control, hello, cache: Cache::open(cache_dir), links }
    }

    pub(super) async fn run(mut self, drain: Drain) {
        tokio::spawn(self.cache.keep(drain.clone()));
        tokio::select! {
            () = self.forever() => {}
            () = drain.closed() => {}
        }
    }

    async fn forever(&mut self) {
        self.deliver_kept().await;
        let Ok(control) = system_identity(self.identity.spiffe().trust_domain(), "control") else { return };
        let channel = grpc::channel(&self.identity, &self.control, Accept::one(control));
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut said = String::new();
        while !self.links.updates.is_closed() {
            let reason = match self.stream(channel.clone(), &mut backoff, &mut said).await {
                Ok(()) => "control ended the stream".to_owned(),
                Err(status) => grpc::reason(&status),
            };
            self.links.connected.send_replace(false);
            if reason != said {
                tracing::info!(control = self.control, reason, "no feed; what is in force stays in force");
                said = reason;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// The last good from disk. What the receiver refuses of it is asked for again.
    async fn deliver_kept(&mut self) {
        let good = self.cache.good();
        if good.entries.is_empty() {
            return;
        }
        let entries = || good.entries.iter();
        entries().for_each(|(key, entry)| drop(self.learn(key, &entry.resource)));
        let upserts = entries().map(|(key, entry)| (key.clone(), entry.version, entry.resource.clone())).collect();
        let (ack, answer) = oneshot::channel();
        let update = Update { upserts, removals: Vec::new(), synced: false, from_disk: true, ack: AckHandle(ack) };
        if self.links.updates.send(update).await.is_err() {
            return;
        }
        let refused: Vec<_> = match answer.await {
            Ok(refusals) => refusals.into_iter().map(|(key, _)| key).collect(),
            Err(_) => entries().map(|(key, _)| key.clone()).collect(),
        };
        self.cache.apply(&good.run, Vec::new(), &refused);
    }

    async fn stream(&mut self, channel: Channel, backoff: &mut Backoff, said: &mut String) -> Result<(), Status> {
        let (out, requests) = mpsc::channel(OUTGOING);
        send(&out, Request::Hello(self.greeting())).await?;
        let registration = self.links.registrations.borrow_and_update().clone();
        if let Some(registration) = registration {
            send(&out, Request::Registration(registration)).await?;
        }
        let mut client = FeedClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut responses = client.stream(ReceiverStream::new(requests)).await?.into_inner();
        while self.links.reports.try_recv().is_ok() {}
        self.links.connected.send_replace(true);
        if !said.is_empty() {
            tracing::info!(control = self.control, "the feed is back");
        }
        let mut pending = None;
        loop {
            if self.step(&mut responses, &out, &mut pending).await?.is_none() {
                return Ok(());
            }
            // Control speaks to us: the next break is a new one.
            backoff.reset();
            said.clear();
        }
    }

    /// Whatever comes first; a message is read only when the one before it is answered. `None`: the stream ended.
    async fn step(
        &mut self,
        responses: &mut Streaming<FeedResponse>,
        out: &mpsc::Sender<FeedRequest>,
        pending: &mut Option<Pending>,
    ) -> Result<Option<()>, Status> {
        tokio::select! {
            answer = answered(pending) => {
                if let Some(pending) = pending.take() {
                    self.settle(pending, answer, out).await?;
                }
            }
            response = responses.message(), if pending.is_none() => match response? {
                Some(response) => *pending = Some(self.begin(response).await?),
                None => return Ok(None),
            },
            changed = self.links.registrations.changed() => {
                changed.map_err(|_| Status::cancelled("nobody reports any more"))?;
                let registration = self.links.registrations.borrow_and_update().clone();
                if let Some(registration) = registration {
                    send(out, Request::Registration(registration)).await?;
                }
            }
            Some(report) = self.links.reports.recv() => {
                let _ = out.try_send(FeedRequest { request: Some(Request::Report(report)) });
            }
            () = self.links.updates.closed() => return Ok(None),
        }
        Ok(Some(()))
    }

    fn greeting(&self) -> wire::Hello {
        let good = self.cache.good();
        let have: HashMap<_, _> = good.entries.iter().map(|(key, entry)| (key.clone(), entry.version)).collect();
        wire::Hello {
            wire_min: *WIRE_VERSIONS.start(),
            wire_max: *WIRE_VERSIONS.end(),
            role: self.hello.role.into(),
            name: self.hello.name.clone(),
            node: self.hello.node.clone(),
            have,
            run: good.run,
        }
    }

    /// Reads a message, applies roots, and hands the rest to the receiver.
    async fn begin(&mut self, response: FeedResponse) -> Result<Pending, Status> {
        let FeedResponse { nonce, run, upserts, mut removals, synced, partial } = response;
        let (mut told, mut good, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        let room = MAX_RESOURCES.saturating_sub(self.cache.good().entries.len());
        for resource in upserts {
            match if told.len() < room { read(&resource) } else { Err("too many resources".to_owned()) } {
                Ok(read) => told.push((resource.key, Entry { version: resource.version, resource: read })),
                Err(reason) => refusals.push((resource.key, reason)),
            }
        }
        if partial {
            (told, removals) = self.beside_others(told, removals);
        }
        for (key, entry) in told {
            match self.learn(&key, &entry.resource) {
                Ok(()) => good.push((key, entry)),
                Err(reason) => refusals.push((key, reason)),
            }
        }
        // Roots change, they are not removed: without them nobody could be told anything any more.
        removals.retain(|key| key != "trust");
        let (ack, answer) = oneshot::channel();
        let upserts = good.iter().map(|(key, entry)| (key.clone(), entry.version, entry.resource.clone())).collect();
        let update = Update { upserts, removals: removals.clone(), synced, from_disk: false, ack: AckHandle(ack) };
        self.links.updates.send(update).await.map_err(|_| Status::cancelled("nobody takes updates any more"))?;
        Ok(Pending { nonce, run, upserts: good, removals, refusals, answer })
    }

    /// What control says of its own cluster alone, with what is known here of others. It has no version in any run, for control
    /// knows none of the kind.
    fn beside_others(
        &self,
        upserts: Vec<(String, Entry)>,
        removals: Vec<String>,
    ) -> (Vec<(String, Entry)>, Vec<String>) {
        let good = self.cache.good();
        let before = |key: &str| good.entries.get(key).map(|entry| &entry.resource);
        let upserts = upserts.into_iter().map(|(_, entry)| entry.resource).collect();
        let (upserts, removals) = others::keep(before, upserts, removals);
        let unversioned = |resource: Resource| (resource.key(), Entry { version: 0, resource });
        (upserts.into_iter().map(unversioned).collect(), removals)
    }

    /// Roots come into force before the update that may need them.
    fn learn(&self, key: &str, resource: &Resource) -> Result<(), String> {
        let Resource::Trust(trust) = resource else { return Ok(()) };
        let roots = TrustRoots::from_model(trust);
        if roots.domains().next().is_none() {
            return Err("it holds no usable root; the roots in force stay".to_owned());
        }
        if let Some(refused) = roots.refused().first() {
            tracing::warn!(key, %refused, "the other roots are in force");
        }
        self.identity.set_trust(roots);
        Ok(())
    }

    /// What was accepted is the last good from now on; control learns what was not.
    async fn settle(
        &mut self,
        pending: Pending,
        answer: Option<Refusals>,
        out: &mpsc::Sender<FeedRequest>,
    ) -> Result<(), Status> {
        let Pending { nonce, run, mut upserts, removals, mut refusals, .. } = pending;
        match answer {
            Some(more) => {
                upserts.retain(|(key, _)| !more.iter().any(|(refused, _)| refused == key));
                refusals.extend(more);
            }
            None => {
                refusals.extend(upserts.drain(..).map(|(key, _)| (key, "the receiver gave no answer".to_owned())));
            }
        }
        self.cache.apply(&run, upserts, &removals);
        if refusals.is_empty() {
            return send(out, Request::Ack(wire::Ack { nonce })).await;
        }
        let refusals = refusals.into_iter().map(|(key, reason)| wire::Refusal { key, reason }).collect();
        send(out, Request::Nack(wire::Nack { nonce, refusals })).await
    }
}

/// The receiver's answer to the pending update; never, while there is none.
async fn answered(pending: &mut Option<Pending>) -> Option<Refusals> {
    match pending {
        Some(pending) => (&mut pending.answer).await.ok(),
        None => std::future::pending().await,
    }
}

async fn send(out: &mpsc::Sender<FeedRequest>, request: Request) -> Result<(), Status> {
    let request = FeedRequest { request: Some(request) };
    out.send(request).await.map_err(|_| Status::unavailable("the stream is gone"))
}

fn read(resource: &wire::Resource) -> Result<Resource, String> {
    let read: Resource = serde_json::from_slice(&resource.body)
        .map_err(|error| format!("it cannot be read, control may be newer than this build: {error}"))?;
    if read.key() == resource.key { Ok(read) } else { Err(format!("its content is of key {:?}", read.key())) }
}
