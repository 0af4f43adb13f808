//! What every part of a gateway shares.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_core::name::ClusterName;
use isthmus_runtime::{drain::Drain, identity::Identity};
use tokio::sync::{Semaphore, mpsc};

use crate::{links::Links, metrics::Metrics, open::Open, table::Table, tunnel::endpoint::Setup};

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
    /// How tunnels are set up.
    pub setup: Setup,
    /// Its QUIC endpoint.
    pub endpoint: quinn::Endpoint,
    /// Leases heard on tunnels, for control.
    pub leases: mpsc::Sender<Bytes>,
    /// What is taken at most.
    pub limits: Limits,
}

/// Bounds on what strangers and peers can make a gateway hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections on 15444/tcp.
    pub local: Arc<Semaphore>,
    /// Connections on 15443/tcp.
    pub edge: Arc<Semaphore>,
    /// QUIC handshakes going on.
    pub handshakes: Arc<Semaphore>,
    /// Streams of peers, all tunnels together.
    pub streams: Arc<Semaphore>,
}

impl Default for Limits {
    /// More than the file descriptors of a usual process allow, less than would fill its memory.
    fn default() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self { local: of(32_768), edge: of(1_024), handshakes: of(256), streams: of(32_768) }
    }
}
