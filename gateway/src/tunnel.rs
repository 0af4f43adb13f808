//! Tunnels: connections between gateways, each with a control stream and then a stream for every inner connection.
//!
//! This module is the boundary of the transport. Beyond it a tunnel is something that says how it is ([`Tunnel::seen`],
//! [`Tunnel::rtt`]) and on which streams are opened; today the one transport is QUIC. The TCP+TLS fallback (DESIGN.md
//! decision 18) becomes a second kind of connection here and a second reader of its ALPN in [`crate::edge`]; nothing
//! else has to know.
//!
//! Each side dials [`PER_GATEWAY`] tunnels to each gateway of each remote cluster and opens its streams on those. Streams come
//! on every tunnel, because a cluster that nobody can dial is reached by what it dialled itself.

pub mod accept;
pub mod control;
pub mod dial;
pub mod endpoint;
pub mod row;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use isthmus_core::name::{ClusterName, TrustDomain};
use parking_lot::Mutex;
use quinn::VarInt;
use tokio::sync::watch;

pub use self::row::{Row, TRANSPORT};

use crate::{
    metrics::Metrics,
    path::{Pulse, Seen},
    pipe::Carried,
};

/// Tunnels that are dialled to each gateway: one connection would put everything behind one loss.
pub const PER_GATEWAY: usize = 2;
/// Codes that tunnels are closed with.
pub mod code {
    use quinn::VarInt;
    /// The gateway ends.
    pub const DRAINED: VarInt = VarInt::from_u32(0);
    /// The peer's cluster is not, or is no more, one of the mesh.
    pub const UNKNOWN_CLUSTER: VarInt = VarInt::from_u32(1);
    /// The peer does not speak the protocol.
    pub const PROTOCOL: VarInt = VarInt::from_u32(2);
}
/// The longest that a tunnel whose peer drains is used on for want of another one. Behind a load balancer all tunnels of a
/// gateway may lead to the one that drains, and the next has to be dialled first.
pub const HANDOVER: Duration = Duration::from_secs(5);
/// Loss is smoothed over some of these.
const LOSS_WEIGHT: f64 = 0.3;

/// Who a tunnel is and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// `<cluster>/<gateway address>/<index>`, a new index for one dialled beside one that drains; of one that a peer
    /// dialled, `<cluster>/<its address>/in`.
    pub id: String,
    /// The other cluster.
    pub cluster: ClusterName,
    /// The trust domain its peer proved.
    pub trust_domain: TrustDomain,
    /// Whether this side dialled it.
    pub dialled: bool,
}

impl Label {
    /// Which way it was dialled, for metrics and people.
    #[must_use]
    pub fn direction(&self) -> &'static str {
        if self.dialled { "out" } else { "in" }
    }
}

/// Whether it is left: its peer drains, or its address is not named any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    /// It does not.
    No,
    /// It said so then, and takes streams of those who have no other way yet.
    Said(Instant),
    /// It takes none any more.
    Shut,
}

/// One tunnel.
#[derive(Debug)]
pub struct Tunnel {
    /// Who it is.
    pub label: Label,
    /// The peer's name, as its hello says.
    pub peer: String,
    /// The connection.
    pub connection: quinn::Connection,
    /// Bytes of its streams.
    pub carried: Carried,
    /// Streams that this side opened, and that the peer did.
    opened: AtomicUsize,
    taken: AtomicUsize,
    /// The socket it was dialled from, where that is its own.
    pub endpoint: quinn::Endpoint,
    going: watch::Sender<Going>,
    /// Packets that had come when a stream got no answer; [`NO_DOUBT`]: none was left without.
    doubted: AtomicU64,
    pulse: Mutex<Pulse>,
    loss: Mutex<Loss>,
    counted: Mutex<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Loss {
    sent: u64,
    lost: u64,
    part: f64,
}

/// No stream was left without an answer.
const NO_DOUBT: u64 = u64::MAX;

/// A stream that counts as open on its tunnel.
#[derive(Debug)]
pub struct StreamGuard {
    tunnel: Arc<Tunnel>,
    count: fn(&Tunnel) -> &AtomicUsize,
}

impl Tunnel {
    /// A tunnel that came up at `now`.
    #[must_use]
    pub fn new(
        label: Label,
        peer: String,
        (endpoint, connection): (quinn::Endpoint, quinn::Connection),
        now: Instant,
    ) -> Self {
        Self {
            label,
            peer,
            connection,
            carried: Carried::default(),
            opened: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            endpoint,
            going: watch::Sender::new(Going::No),
            doubted: AtomicU64::new(NO_DOUBT),
            pulse: Mutex::new(Pulse::new(now)),
            loss: Mutex::new(Loss::default()),
            counted: Mutex::default(),
        }
    }

    /// Takes what the transport sent and received until `now`.
    pub fn listen(&self, now: Instant) {
        let stats = self.connection.stats();
        let frames = stats.frame_tx;
        // Those that a peer acknowledges (RFC 9000, 13.2.1) and that an established tunnel sends.
        let asking = [frames.stream, frames.ping, frames.reset_stream, frames.stop_sending];
        let credit = [frames.max_data, frames.max_stream_data, frames.max_streams_bidi];
        let asked = asking.into_iter().chain(credit).sum();
        self.pulse.lock().carried(asked, stats.udp_rx.datagrams, now);
    }

    /// This process itself stood still from `from` to `now`.
    pub fn excuse(&self, from: Instant, now: Instant) {
        let rtt = self.rtt();
        self.pulse.lock().excuse(from, now, rtt);
    }

    /// Packets that came in all.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// A stream got no answer, and nothing else came either: until anything comes, others are better.
    pub fn doubt(&self) {
        self.doubted.store(self.received(), Ordering::Relaxed);
    }

    /// Whether nothing came since it was doubted.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        let then = self.doubted.load(Ordering::Relaxed);
        then != NO_DOUBT && then == self.received()
    }

    /// How it is.
    #[must_use]
    pub fn seen(&self, now: Instant) -> Seen {
        let rtt = self.rtt();
        if self.pulse.lock().is_suspect(now, rtt) {
            Seen::Suspect
        } else if self.is_draining() {
            Seen::Draining
        } else {
            Seen::Up
        }
    }

    /// Round trip of the last probes; before the first is answered, the transport's.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        let probed = self.pulse.lock().trip();
        probed.unwrap_or_else(|| self.connection.rtt())
    }

    /// When anything was heard last on its control stream.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.pulse.lock().last_heard()
    }

    /// Streams open now.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.opened() + self.taken()
    }

    /// Those of them that this side opened.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Those of them that the peer opened.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Counts a stream that this side opens, until the guard is dropped.
    pub fn opens(self: &Arc<Self>) -> StreamGuard {
        StreamGuard::of(self, |tunnel| &tunnel.opened)
    }

    /// Counts a stream that the peer opened, until the guard is dropped.
    pub fn takes(self: &Arc<Self>) -> StreamGuard {
        StreamGuard::of(self, |tunnel| &tunnel.taken)
    }

    /// Whether its peer said that it drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.going.borrow() != Going::No
    }

    /// Its peer says at `now` that it drains.
    pub fn drains(&self, now: Instant) {
        self.going.send_if_modified(|going| {
            let is_news = *going == Going::No;
            if is_news {
                *going = Going::Said(now);
            }
            is_news
        });
    }

    /// Its peer refused a stream because it drains.
    pub fn shut(&self) {
        self.going.send_replace(Going::Shut);
    }

    /// Whether new streams go by it although its peer drains, where there is no other tunnel.
    #[must_use]
    pub fn still_takes(&self, now: Instant) -> bool {
        matches!(*self.going.borrow(), Going::Said(at) if now.saturating_duration_since(at) < HANDOVER)
    }

    /// Ends when its peer drains.
    pub async fn goes(&self) {
        // The sender lives as long as `self`.
        let _ = self.going.subscribe().wait_for(|going| *going != Going::No).await;
    }

    /// Whether its peer closed it because its drain came to its end.
    #[must_use]
    pub fn was_drained(&self) -> bool {
        use quinn::ConnectionError::ApplicationClosed;
        matches!(self.connection.close_reason(), Some(ApplicationClosed(why)) if why.error_code == code::DRAINED)
    }

    /// Closes it, unless it is closed already: the first reason stays.
    pub fn close(&self, code: VarInt, reason: &str) {
        if self.connection.close_reason().is_none() {
            self.connection.close(code, reason.as_bytes());
        }
    }

    /// Takes what was sent and lost since the last beat into the smoothed loss, and what was carried into `metrics`.
    pub fn beat(&self, metrics: &Metrics) {
        self.count(metrics);
        let path = self.connection.stats().path;
        let mut loss = self.loss.lock();
        let (sent, lost) = (path.sent_packets.saturating_sub(loss.sent), path.lost_packets.saturating_sub(loss.lost));
        (loss.sent, loss.lost) = (path.sent_packets, path.lost_packets);
        if sent > 0 {
            let part = (lost as f64 / sent as f64).min(1.0);
            loss.part += LOSS_WEIGHT * (part - loss.part);
        }
    }

    /// Takes what was carried since the last time into `metrics`.
    pub fn count(&self, metrics: &Metrics) {
        let direction = self.label.direction();
        let mut counted = self.counted.lock();
        let now = (self.carried.sent.load(Ordering::Relaxed), self.carried.received.load(Ordering::Relaxed));
        let news = [("sent", now.0.saturating_sub(counted.0)), ("received", now.1.saturating_sub(counted.1))];
        *counted = now;
        for (way, bytes) in news {
            metrics.bytes.with_label_values(&[direction, self.label.cluster.as_str(), way]).inc_by(bytes);
        }
    }

    /// Smoothed loss, parts per million of packets.
    #[must_use]
    pub fn loss_ppm(&self) -> u32 {
        (self.loss.lock().part * 1e6) as u32
    }
}

impl StreamGuard {
    fn of(tunnel: &Arc<Tunnel>, count: fn(&Tunnel) -> &AtomicUsize) -> Self {
        count(tunnel).fetch_add(1, Ordering::Relaxed);
        Self { tunnel: tunnel.clone(), count }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        (self.count)(&self.tunnel).fetch_sub(1, Ordering::Relaxed);
    }
}
