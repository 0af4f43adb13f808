//! Why a peer was refused, in words that say what to look at.

use isthmus_core::name::{SpiffeId, TrustDomain};

/// Why a certificate is not accepted.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// The bytes cannot be parsed.
    #[error("the peer's certificate cannot be read: {reason}")]
    NotACertificate {
        /// What the parser said.
        reason: String,
    },
    /// Not exactly one URI name.
    #[error("the peer's certificate has {count} URI names; exactly one SPIFFE id is accepted")]
    Names {
        /// How many it has.
        count: usize,
    },
    /// The URI name is no SPIFFE id.
    #[error("the peer's certificate names no workload: {reason}")]
    NotASpiffeId {
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody told us any root of that domain.
    #[error(
        "certificate of {id}: trust domain {domain} is not known here (no roots); the cluster never joined, was \
         ejected, or its bundle has not arrived yet"
    )]
    UnknownDomain {
        /// Who it claims to be.
        id: SpiffeId,
        /// The domain of that name.
        domain: TrustDomain,
    },
    /// The chain leads elsewhere.
    #[error(
        "certificate of {id} is signed by no root of its own trust domain {domain} (known roots: {roots}): {reason}"
    )]
    ForeignRoot {
        /// Who it claims to be.
        id: SpiffeId,
        /// The domain of that name.
        domain: TrustDomain,
        /// How many roots of that domain are known.
        roots: usize,
        /// What the path builder said.
        reason: String,
    },
    /// Its time has not begun.
    #[error("certificate of {id} is not valid yet, for another {seconds} s: is a clock wrong?")]
    NotYet {
        /// Whose.
        id: SpiffeId,
        /// Seconds until it is.
        seconds: u64,
    },
    /// Its time is over.
    #[error("certificate of {id} expired {seconds} s ago: does its renewal fail, or is a clock wrong?")]
    Expired {
        /// Whose.
        id: SpiffeId,
        /// Seconds since.
        seconds: u64,
    },
    /// What signed it is over.
    #[error(
        "what signed the certificate of {id} expired {seconds} s ago: does {domain} need a new certificate authority, or \
         is a clock wrong?"
    )]
    AuthorityExpired {
        /// Whose.
        id: SpiffeId,
        /// The domain of that name.
        domain: TrustDomain,
        /// Seconds since.
        seconds: u64,
    },
    /// The chain is right but not for this use, or malformed.
    #[error("certificate of {id} is not usable: {reason}")]
    Unusable {
        /// Whose.
        id: SpiffeId,
        /// What the verifier said.
        reason: String,
    },
    /// Verified, but not whom we mean to talk to.
    #[error("the peer is {id}; expected {expected}")]
    NotExpected {
        /// Who it is.
        id: SpiffeId,
        /// Whom we want.
        expected: String,
    },
}

/// In the same words: rustls and quinn print a verifier's own errors as debug output, into logs that people read.
impl std::fmt::Debug for PeerRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
