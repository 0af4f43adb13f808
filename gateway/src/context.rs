//! What every part of a gateway shares.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_core::name::ClusterName;
use isthmus_runtime::{drain::Drain, identity::Identity, places::Places};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    door::Door,
    links::Links,
    metrics::Metrics,
    open::Open,
    table::Table,
    tunnel::{Tunnel, endpoint::Setup},
};

/// Who a gateway is, what it runs on and what it counts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its name.
    pub name: Arc<str>,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its zone.
    pub zone: Arc<str>,
    /// Its identity.
    pub identity: Identity,
    /// What is in force.
    pub table: Table,
    /// Its tunnels.
    pub links: Links,
    /// Open connections by endpoint.
    pub open: Open,
    /// What it counts.
    pub metrics: Metrics,
    /// When it ends.
    pub drain: Drain,
    /// Whether it takes new streams.
    pub door: Arc<Door>,
    /// How tunnels are set up.
    pub setup: Setup,
    /// Its QUIC endpoint.
    pub endpoint: quinn::Endpoint,
    /// Leases heard on tunnels, for control.
    pub leases: mpsc::Sender<Bytes>,
    /// What is taken at most.
    pub limits: Limits,
}

impl Context {
    /// Whether new streams are refused, because it drains and everybody has had time to hear it.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.door.is_shut()
    }

    /// A stream of a tunnel broke, one `in` or `out`; where the peer's drain closed it, that is counted here, where somebody
    /// still asks.
    pub fn broke(&self, direction: &str, tunnel: &Tunnel, error: &std::io::Error) {
        if tunnel.was_drained() {
            let labels = [direction, tunnel.label.cluster.as_str()];
            self.metrics.closed_at_drain.with_label_values(&labels).inc();
        }
        tracing::debug!(tunnel = tunnel.label.id, %error, "a stream broke");
    }
}

/// Bounds on what strangers and peers can make a gateway hold. A stranger has a place, which it may have to leave for
/// the next one; who is known has a permit, which nobody takes from it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections on 15444/tcp that have not shown a pass yet.
    pub unproven: Places,
    /// Connections on 15444/tcp that have.
    pub local: Arc<Semaphore>,
    /// Connections on 15443/tcp whose protocol is not known yet, or is for so short a time that they may be anyone's.
    pub callers: Places,
    /// Connections on 15443/tcp, all of them.
    pub edge: Arc<Semaphore>,
    /// QUIC handshakes going on.
    pub handshakes: Places,
    /// Streams of peers, all tunnels together.
    pub streams: Arc<Semaphore>,
}

impl Default for Limits {
    /// More than the file descriptors of a usual process allow, less than would fill its memory. Half of the edge is
    /// kept for members that have been there for a while.
    fn default() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self {
            unproven: Places::new(1_024),
            local: of(32_768),
            callers: Places::new(512),
            edge: of(1_024),
            handshakes: Places::new(256),
            streams: of(32_768),
        }
    }
}
