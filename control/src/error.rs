//! Why control cannot begin. Once it runs, nothing of a peer, a file or a user ends it.

use std::{net::SocketAddr, path::PathBuf};

/// Control cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not there.
    #[error(transparent)]
    Admin(#[from] isthmus_runtime::admin::AdminError),
    /// A file of its state is unreadable.
    #[error("control cannot read its state")]
    Disk(#[from] isthmus_runtime::disk::DiskError),
    /// The federation key cannot be had.
    #[error(transparent)]
    Key(#[from] isthmus_runtime::key::KeyError),
    /// The certificate authority cannot begin.
    #[error("the certificate authority in {} cannot begin", dir.display())]
    Ca {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        source: isthmus_ca::CaError,
    },
    /// The certificate authority that was brought along cannot be used.
    #[error(transparent)]
    Plugged(#[from] isthmus_ca::PluggedError),
    /// A port is taken.
    #[error("control cannot listen on {address}; another process may hold it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is not one source of objects.
    #[error(
        "control's configuration has {0}; it takes its objects from one source: write `config_dir: <directory>` for files, \
         or `kubernetes: {{}}` for the API server of the cluster it runs in"
    )]
    Source(&'static str),
    /// There is no way to the API server.
    #[error(transparent)]
    Kubernetes(Box<isthmus_kubernetes::client::ClientError>),
    /// What all replicas have the same cannot be had.
    #[error(transparent)]
    Vault(Box<isthmus_kubernetes::vault::VaultError>),
    /// How pods get sidecars cannot be read.
    #[error("{} says not how pods get sidecars: {reason}", file.display())]
    Injection {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The webhooks cannot be served.
    #[error("the webhooks cannot begin")]
    Webhook(#[from] crate::webhook::certificate::CertificateError),
    /// A metric's name is taken.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// A name is not one.
    #[error(transparent)]
    Name(#[from] isthmus_core::name::InvalidName),
}

impl From<isthmus_kubernetes::client::ClientError> for Error {
    fn from(error: isthmus_kubernetes::client::ClientError) -> Self {
        Self::Kubernetes(Box::new(error))
    }
}
