//! The control stream of a tunnel: hellos, then probes and their answers, leases, and the word that a peer drains.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use isthmus_runtime::drain::Drain;
use isthmus_wire::{
    WIRE_VERSIONS,
    frame::{self, FrameError, Kind},
    tunnel::{Goaway, Probe, ProbeAnswer, TunnelHello, TunnelMessage, tunnel_message::Message},
};
use quinn::{RecvStream, SendStream};
use tokio::time::{Interval, MissedTickBehavior};

use super::Tunnel;
use crate::{
    context::Context,
    framed::{self, ReadError},
};

/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// A peer's leases are passed on at most so often.
const LEASE_EVERY: Duration = Duration::from_millis(100);

/// Why a control stream ends.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// What came is no frame, or none came.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A message could not be written.
    #[error("the control stream broke: {0}")]
    Write(#[from] quinn::WriteError),
    /// The connection is gone.
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
    /// Something else than a hello came first.
    #[error("the peer did not begin with a hello")]
    NoHello,
    /// No version in common.
    #[error("the peer speaks wire versions {min} to {max}, this build {ours:?}", ours = WIRE_VERSIONS)]
    Version {
        /// The lowest it speaks.
        min: u32,
        /// The highest it speaks.
        max: u32,
    },
}

impl From<FrameError> for ControlError {
    fn from(error: FrameError) -> Self {
        Self::Read(error.into())
    }
}

/// The two halves of a control stream and what was read of it already.
#[derive(Debug)]
pub struct Channel {
    send: SendStream,
    receive: RecvStream,
    buffer: BytesMut,
}

impl Channel {
    /// On a stream; its frames go out before those of all others.
    #[must_use]
    pub fn new((send, receive): (SendStream, RecvStream)) -> Self {
        let _ = send.set_priority(1);
        Self { send, receive, buffer: BytesMut::new() }
    }

    async fn say(&mut self, message: Message) -> Result<(), ControlError> {
        let frame = frame::encode(Kind::Control, &TunnelMessage { message: Some(message) })?;
        Ok(self.send.write_chunk(frame).await?)
    }

    /// Exchanges hellos; the peer's.
    ///
    /// # Errors
    /// [`ControlError`]: no hello in time, or no version in common.
    pub async fn greet(&mut self, context: &Context) -> Result<TunnelHello, ControlError> {
        let hello = TunnelHello {
            wire_min: *WIRE_VERSIONS.start(),
            wire_max: *WIRE_VERSIONS.end(),
            cluster: context.cluster.to_string(),
            gateway: context.name.to_string(),
            zone: context.zone.to_string(),
        };
        self.say(Message::Hello(hello)).await?;
        let first = framed::first(&mut self.receive, &mut self.buffer).await?;
        let TunnelMessage { message: Some(Message::Hello(peer)) } = frame::decode(Kind::Control, first)? else {
            return Err(ControlError::NoHello);
        };
        if peer.wire_max < *WIRE_VERSIONS.start() || peer.wire_min > *WIRE_VERSIONS.end() {
            return Err(ControlError::Version { min: peer.wire_min, max: peer.wire_max });
        }
        Ok(peer)
    }

    /// Speaks until the tunnel is gone; why.
    pub async fn converse(self, context: &Context, tunnel: &Arc<Tunnel>) -> ControlError {
        let mut probes = tokio::time::interval(PROBE_EVERY);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = Session { channel: self, context, tunnel, probes, passed_on: None };
        match session.run().await {
            Ok(never) => never,
            Err(error) => error,
        }
    }
}

/// Ends when the peer should open no stream on it any more; why.
async fn goes(drain: &Drain, tunnel: &Tunnel) -> String {
    tokio::select! {
        () = drain.draining() => drain.reason().unwrap_or_default(),
        () = tunnel.goes() => "the tunnel is left".into(),
    }
}

struct Session<'a> {
    channel: Channel,
    context: &'a Context,
    tunnel: &'a Arc<Tunnel>,
    probes: Interval,
    passed_on: Option<Instant>,
}

impl Session<'_> {
    async fn run(&mut self) -> Result<ControlError, ControlError> {
        let (mut lease, mut said_goaway) = (self.context.table.lease(), false);
        lease.mark_changed();
        let drain = self.context.drain.clone();
        let connection = self.tunnel.connection.clone();
        loop {
            let channel = &mut self.channel;
            tokio::select! {
                frame = framed::next(&mut channel.receive, &mut channel.buffer) => {
                    let message: TunnelMessage = frame::decode(Kind::Control, frame?)?;
                    self.hear(message).await?;
                }
                _ = self.probes.tick(), if self.context.links.carries(self.tunnel) => {
                    let sequence = self.tunnel.pulse.lock().probe(Instant::now());
                    channel.say(Message::Probe(Probe { sequence })).await?;
                }
                Ok(()) = lease.changed() => {
                    let statement = lease.borrow_and_update().to_vec();
                    if !statement.is_empty() {
                        channel.say(Message::Statement(statement)).await?;
                    }
                }
                reason = goes(&drain, self.tunnel), if !said_goaway => {
                    said_goaway = true;
                    channel.say(Message::Goaway(Goaway { reason })).await?;
                }
                error = connection.closed() => return Ok(error.into()),
            }
        }
    }

    async fn hear(&mut self, message: TunnelMessage) -> Result<(), ControlError> {
        let now = Instant::now();
        match message.message {
            Some(Message::Probe(Probe { sequence })) => {
                self.tunnel.pulse.lock().heard(now);
                self.channel.say(Message::ProbeAnswer(ProbeAnswer { sequence })).await?;
            }
            Some(Message::ProbeAnswer(ProbeAnswer { sequence })) => {
                let was = self.tunnel.seen(now);
                self.tunnel.pulse.lock().answered(sequence, now);
                if was != self.tunnel.seen(now) {
                    self.context.links.nudge();
                }
            }
            Some(Message::Statement(statement)) => self.pass_on(statement.into(), now),
            Some(Message::Goaway(Goaway { reason })) => {
                tracing::info!(
                    tunnel = self.tunnel.label.id,
                    reason,
                    "the peer opens no streams here any more, and takes none"
                );
                self.tunnel.drains(now);
                self.context.links.nudge();
            }
            // A newer peer may say more than this build knows.
            Some(Message::Hello(_)) | None => {}
        }
        Ok(())
    }

    /// A lease is for control, which verifies it; one that does not fit in is followed by the next.
    fn pass_on(&mut self, statement: Bytes, now: Instant) {
        if self.passed_on.is_none_or(|at| now.saturating_duration_since(at) >= LEASE_EVERY) {
            self.passed_on = Some(now);
            let _ = self.context.leases.try_send(statement);
        }
    }
}
