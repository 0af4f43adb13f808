//! What can go wrong in a CA.

use std::path::PathBuf;

use isthmus_core::name::{InvalidName, TrustDomain};
use isthmus_runtime::{disk::DiskError, identity::LeafError};

use crate::{plugged::PluggedError, token::TokenError};

/// What can go wrong in a CA.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The CA's directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The directory holds something else.
    #[error("{path} holds no usable CA: {reason}; restore it from a backup, or remove it and enrol everything anew",
            path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The directory is of another cluster.
    #[error("{path} is the CA of trust domain {found}, not of {expected}: is it another cluster's directory?",
            path = .path.display())]
    OtherDomain {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: TrustDomain,
        /// Whose it should be.
        expected: TrustDomain,
    },
    /// What somebody brought along is no CA.
    #[error(transparent)]
    Plugged(#[from] PluggedError),
    /// The certificate that signs has expired.
    #[error("the certificate of the certificate authority has expired: nobody would believe a leaf; bring another one")]
    Over,
    /// So many signed or are about to that nobody can be told of one more.
    #[error(
        "{most} certificate authorities signed within the life of a leaf, and one more cannot be believed yet; leave \
             in place what is there, and it signs when the leaves of the first are over"
    )]
    Crowded {
        /// How many are believed.
        most: usize,
    },
    /// The CSR cannot be used.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The name is not one this CA vouches for.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The caller shows neither a token nor an identity of this trust domain.
    #[error("{0}")]
    Stranger(String),
    /// Making a key or signing failed.
    #[error("no certificate can be made: {0}")]
    Crypto(String),
    /// What was made cannot be used.
    #[error("the issued leaf cannot be used")]
    Leaf(#[from] LeafError),
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}
