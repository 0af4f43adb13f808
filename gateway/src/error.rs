//! Why a gateway does not run.

use isthmus_runtime::{admin::AdminError, disk::DiskError, identity::EnrolError};

/// Why a gateway does not begin, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the admin port.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// No identity.
    #[error("the gateway has no identity")]
    Enrol(#[from] EnrolError),
    /// The state directory.
    #[error("the gateway's state directory")]
    Disk(#[from] DiskError),
    /// A port cannot be had; the text names it.
    #[error(transparent)]
    Listen(#[from] std::io::Error),
    /// A metric is registered twice.
    #[error("metrics")]
    Metrics(#[from] prometheus::Error),
    /// The tunnels' TLS cannot be used for QUIC.
    #[error("the tunnels cannot be set up: {0}")]
    Tunnels(String),
}
