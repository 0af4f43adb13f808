//! A tunnel as people see it.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::Tunnel;
use crate::path::Seen;

impl Tunnel {
    /// As `GET /tunnels` shows it.
    #[must_use]
    pub fn row(&self, now: Instant) -> Row {
        let path = self.connection.stats().path;
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Row {
            tunnel: self.label.id.clone(),
            cluster: self.label.cluster.to_string(),
            direction: self.label.direction(),
            gateway: self.peer.clone(),
            address: self.connection.remote_address().to_string(),
            state: match self.seen(now) {
                Seen::Up => "up",
                Seen::Draining => "draining",
                Seen::Suspect => "suspect",
            },
            transport: TRANSPORT,
            congestion: "bbr, bounded",
            rtt_us: micros(self.rtt()),
            loss_ppm: self.loss_ppm(),
            silent_ms: u64::try_from(now.saturating_duration_since(self.heard()).as_millis()).unwrap_or(u64::MAX),
            streams: self.streams(),
            bytes_sent: self.carried.sent.load(Ordering::Relaxed),
            bytes_received: self.carried.received.load(Ordering::Relaxed),
            window_bytes: path.cwnd,
            mtu: path.current_mtu,
        }
    }
}

/// The one transport of today, as status shows it.
pub const TRANSPORT: &str = "quic";

/// A tunnel as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its id.
    pub tunnel: String,
    /// The other cluster.
    pub cluster: String,
    /// `out`: dialled by this gateway; `in`: by the peer.
    pub direction: &'static str,
    /// The peer's name.
    pub gateway: String,
    /// The peer's address.
    pub address: String,
    /// up, draining, suspect.
    pub state: &'static str,
    /// quic.
    pub transport: &'static str,
    /// Who bounds what is in flight.
    pub congestion: &'static str,
    /// Smoothed round trip, microseconds.
    pub rtt_us: u64,
    /// Smoothed loss, parts per million of packets.
    pub loss_ppm: u32,
    /// Milliseconds since anything was heard on the control stream.
    pub silent_ms: u64,
    /// Streams open.
    pub streams: usize,
    /// Bytes of streams, from this side.
    pub bytes_sent: u64,
    /// Bytes of streams, to this side.
    pub bytes_received: u64,
    /// Congestion window.
    pub window_bytes: u64,
    /// Bytes a packet may have.
    pub mtu: u16,
}
