//! Opens a stream to another cluster: on which tunnel, how long its answer is waited for, and when another one is asked.
//!
//! A tunnel that is silent altogether is given up after half of the time there is, because its gateway may be gone; one
//! whose gateway drains, or that breaks, at once. What is sent again is a header and a ClientHello: nothing of a request.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use isthmus_core::name::ClusterName;
use isthmus_runtime::enrolment::system_identity;
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Accept, Answer, Header, Reason, Refuse, answer},
};
use quinn::{RecvStream, SendStream};

use crate::{
    context::Context,
    framed, pipe,
    refusal::refuse,
    tunnel::{StreamGuard, Tunnel},
};

/// An answer is waited for at least so long.
const ANSWER_LEAST: Duration = Duration::from_millis(250);
/// ... and at least so many round trips.
const ANSWER_TRIPS: u32 = 3;
/// Tunnels that one stream is tried on.
const MOST_TUNNELS: usize = 3;

/// A stream that was accepted.
pub struct Opened {
    /// On which tunnel.
    pub tunnel: Arc<Tunnel>,
    /// Its sending half.
    pub send: SendStream,
    /// Its receiving half.
    pub receive: RecvStream,
    /// What the client is told, and what came behind the answer already.
    pub front: BytesMut,
    /// It counts as open.
    pub stream: StreamGuard,
}

/// Why a tunnel brought no stream.
enum NoStream {
    /// The last word.
    Refused(Refuse),
    /// Another tunnel may do better.
    Elsewhere(Refuse),
}

impl From<Refuse> for NoStream {
    /// What the other cluster says holds for each of its gateways, unless it is about this one.
    fn from(refused: Refuse) -> Self {
        match refused.reason() {
            Reason::Draining | Reason::NoTunnel => Self::Elsewhere(refused),
            _ => Self::Refused(refused),
        }
    }
}

/// Opens one for a header with the bytes behind it.
///
/// # Errors
/// Why not, as the client is told.
pub async fn open(context: &Context, cluster: &ClusterName, header: Header, first: &[u8]) -> Result<Opened, Refuse> {
    let (began, mut tried, mut last) = (Instant::now(), Vec::new(), None);
    while tried.len() < MOST_TUNNELS
        && let Some((tunnel, has_other)) = context.links.pick(cluster, &tried, Instant::now())
    {
        tried.push(tunnel.clone());
        let limit = ANSWER_LEAST.max(tunnel.rtt() * ANSWER_TRIPS).saturating_sub(began.elapsed());
        let attempt = Attempt { context, tunnel, limit, has_other };
        match attempt.make(&header, first).await {
            Ok(opened) => return Ok(opened),
            Err(NoStream::Refused(refused)) => return Err(refused),
            Err(NoStream::Elsewhere(refused)) => last = Some(refused),
        }
    }
    Err(last.unwrap_or_else(|| no_tunnel(context, cluster)))
}

fn no_tunnel(context: &Context, cluster: &ClusterName) -> Refuse {
    let known = context.links.views().borrow().contains_key(cluster);
    let why = if known { "none is usable" } else { "none is up yet" };
    refuse(Reason::NoTunnel, &format!("no tunnel to {cluster}: {why}"))
}

/// A try on one tunnel.
struct Attempt<'a> {
    context: &'a Context,
    tunnel: Arc<Tunnel>,
    limit: Duration,
    has_other: bool,
}

impl Attempt<'_> {
    async fn make(self, header: &Header, first: &[u8]) -> Result<Opened, NoStream> {
        let stream = self.tunnel.opens();
        // The remote gateway tries endpoints no longer than somebody waits for its answer.
        let waits = u32::try_from(self.limit.as_millis()).unwrap_or(u32::MAX);
        let deadline_ms = if header.deadline_ms == 0 { waits } else { header.deadline_ms.min(waits) };
        let header = Header { deadline_ms, ..header.clone() };
        let Asked { send, receive, answer, behind } = self.answered(&header, first).await?;
        match answer.answer {
            Some(answer::Answer::Accept(accept)) => {
                let front = self.front(accept, first.len(), &behind)?;
                Ok(Opened { tunnel: self.tunnel, send, receive, front, stream })
            }
            Some(answer::Answer::Refuse(refused)) => {
                if refused.reason() == Reason::Draining {
                    self.tunnel.shut();
                    self.context.links.nudge();
                }
                Err(refused.into())
            }
            None => Err(refuse(Reason::Forbidden, "the remote gateway's answer is empty").into()),
        }
    }

    /// The answer, within the limit; a tunnel on which nothing comes at all gets half of it when there is another one.
    async fn answered(&self, header: &Header, first: &[u8]) -> Result<Asked, NoStream> {
        let late =
            || refuse(Reason::Timeout, &format!("{} did not answer within {:?}", self.tunnel.label.id, self.limit));
        let (half, before) = (self.limit / 2, self.tunnel.received());
        let is_silent = || self.tunnel.received() == before;
        let asking = ask(&self.tunnel, header, first);
        tokio::pin!(asking);
        if let Ok(asked) = tokio::time::timeout(half, &mut asking).await {
            return Ok(asked?);
        }
        if is_silent() && self.has_other {
            self.tunnel.doubt();
            return Err(NoStream::Elsewhere(late()));
        }
        match tokio::time::timeout(self.limit - half, asking).await {
            Ok(asked) => Ok(asked?),
            Err(_) => {
                if is_silent() {
                    self.tunnel.doubt();
                }
                Err(NoStream::Refused(late()))
            }
        }
    }

    /// What the client is told, with what this gateway knows of the way.
    fn front(&self, mut accept: Accept, sent: usize, behind: &[u8]) -> Result<BytesMut, Refuse> {
        let tunnel = &self.tunnel;
        accept.tunnel.clone_from(&tunnel.label.id);
        accept.rtt_us = u64::try_from(tunnel.rtt().as_micros()).unwrap_or(u64::MAX);
        accept.local_gateway = self.context.name.to_string();
        let remote = system_identity(&tunnel.label.trust_domain, "gateway");
        accept.gateway_identity = remote.map_or_else(|_| String::new(), |identity| identity.to_string());
        let answer = Answer { answer: Some(answer::Answer::Accept(accept)) };
        let mut front = BytesMut::with_capacity(256 + behind.len());
        tunnel.carried.sent.fetch_add(sent as u64, Ordering::Relaxed);
        tunnel.carried.received.fetch_add(behind.len() as u64, Ordering::Relaxed);
        frame::put(Kind::Answer, &answer, &mut front).map_err(|error| refuse(Reason::Forbidden, &error.to_string()))?;
        front.extend_from_slice(behind);
        Ok(front)
    }
}

/// What came of asking.
struct Asked {
    send: SendStream,
    receive: RecvStream,
    answer: Answer,
    behind: BytesMut,
}

/// Header and first inner bytes in one write; then the answer. Dropped before that, the stream is reset.
async fn ask(tunnel: &Tunnel, header: &Header, first: &[u8]) -> Result<Asked, Refuse> {
    let broken = |error: String| refuse(Reason::NoTunnel, &format!("{} broke: {error}", tunnel.label.id));
    let mut bytes = BytesMut::with_capacity(first.len() + 512);
    frame::put(Kind::Header, header, &mut bytes).map_err(|error| refuse(Reason::Forbidden, &error.to_string()))?;
    bytes.extend_from_slice(first);
    let (send, mut receive) = tunnel.connection.open_bi().await.map_err(|error| broken(error.to_string()))?;
    let mut send = ResetOnDrop(Some(send));
    if let Some(send) = send.0.as_mut() {
        send.write_chunk(bytes.freeze()).await.map_err(|error| broken(error.to_string()))?;
    }
    let mut behind = BytesMut::new();
    let frame = framed::next(&mut receive, &mut behind).await.map_err(|error| broken(error.to_string()))?;
    let answer = frame::decode(Kind::Answer, frame).map_err(|error| broken(error.to_string()))?;
    let send = send.0.take().ok_or_else(|| broken("it has no sending half".into()))?;
    Ok(Asked { send, receive, answer, behind })
}

/// A sending half that is dropped ends as if all had been said; one that was given up must not.
struct ResetOnDrop(Option<SendStream>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(send) = &mut self.0 {
            let _ = send.reset(pipe::BROKEN);
        }
    }
}
