//! Who this process is, and whom it can recognise: its leaf and everybody's roots, both replaceable while connections
//! are open. An open connection keeps what it was made with; a new one takes what is there now.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use isthmus_core::name::SpiffeId;
use isthmus_wire::identity::Pass;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use crate::certificate;
pub use crate::enrolment::{EnrolError, Enrolment, enrol};
pub use crate::trust::TrustRoots;

/// A certificate with its key and what the CA gave beside it.
#[derive(Clone)]
pub struct Leaf {
    /// The identity it proves.
    pub spiffe: SpiffeId,
    /// The chain, leaf first, and the key, as rustls takes them.
    pub certified: Arc<CertifiedKey>,
    /// Not valid before.
    pub not_before: SystemTime,
    /// Not valid after.
    pub not_after: SystemTime,
    /// The right to open streams at the local gateways.
    pub pass: Option<Pass>,
    /// Only of gateways: the keys that passes are derived from, newest first.
    pub pass_roots: Vec<Vec<u8>>,
}

/// Why bytes are not a leaf.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeafError {
    /// There is no certificate.
    #[error("the chain is empty")]
    Empty,
    /// The certificate cannot be parsed.
    #[error("the leaf cannot be read: {0}")]
    Certificate(String),
    /// The certificate names nobody, or more than one.
    #[error(transparent)]
    Name(#[from] crate::tls::PeerRefused),
    /// The key cannot be used.
    #[error("the leaf's key cannot be used: {0}")]
    Key(String),
}

impl Leaf {
    /// From a chain (leaf first) and the leaf's key as PKCS#8 DER.
    ///
    /// # Errors
    /// [`LeafError`].
    pub fn new(chain: Vec<CertificateDer<'static>>, pkcs8: &[u8]) -> Result<Self, LeafError> {
        let first = chain.first().ok_or(LeafError::Empty)?;
        let spiffe = crate::tls::spiffe_of(first)?;
        let (not_before, not_after) =
            certificate::validity(first).map_err(|error| LeafError::Certificate(error.to_string()))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
        let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der).map_err(|e| LeafError::Key(e.to_string()))?;
        let certified = Arc::new(CertifiedKey::new(chain, key));
        certified.keys_match().map_err(|error| LeafError::Key(error.to_string()))?;
        Ok(Self { spiffe, certified, not_before, not_after, pass: None, pass_roots: Vec::new() })
    }

    /// With what the CA gave beside the certificate.
    #[must_use]
    pub fn with_pass(mut self, pass: Option<Pass>, pass_roots: Vec<Vec<u8>>) -> Self {
        self.pass = pass;
        self.pass_roots = pass_roots;
        self
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Whether it is valid at `now`.
    #[must_use]
    pub fn is_valid(&self, now: SystemTime) -> bool {
        now >= self.not_before && now < self.not_after
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("spiffe", &self.spiffe).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The own leaf and everybody's roots. Cheap to clone; all clones see a change at once.
#[derive(Clone)]
pub struct Identity(Arc<Shared>);

struct Shared {
    leaf: ArcSwap<Leaf>,
    trust: ArcSwap<TrustRoots>,
    trust_version: AtomicU64,
    leaves: watch::Sender<u64>,
    trusts: watch::Sender<u64>,
}

impl Identity {
    /// From a leaf and the roots that are known.
    #[must_use]
    pub fn new(leaf: Leaf, trust: TrustRoots) -> Self {
        Self(Arc::new(Shared {
            leaf: ArcSwap::from_pointee(leaf),
            trust: ArcSwap::from_pointee(trust),
            trust_version: AtomicU64::new(1),
            leaves: watch::Sender::new(0),
            trusts: watch::Sender::new(1),
        }))
    }

    /// The own leaf.
    #[must_use]
    pub fn leaf(&self) -> Arc<Leaf> {
        self.0.leaf.load_full()
    }

    /// Takes a new leaf for new connections.
    pub fn set_leaf(&self, leaf: Leaf) {
        self.0.leaf.store(Arc::new(leaf));
        self.0.leaves.send_modify(|count| *count += 1);
    }

    /// Everybody's roots.
    #[must_use]
    pub fn trust(&self) -> Arc<TrustRoots> {
        self.0.trust.load_full()
    }

    /// Takes new roots. The own domain's roots stay when the new set has none of them, whatever it says: without
    /// them this process could not even be told that it is wrong.
    pub fn set_trust(&self, mut trust: TrustRoots) {
        let current = self.trust();
        trust.keep_domain(self.spiffe().trust_domain(), &current);
        if trust.same_roots(&current) {
            return;
        }
        self.0.trust.store(Arc::new(trust));
        let version = self.0.trust_version.fetch_add(1, Ordering::AcqRel) + 1;
        self.0.trusts.send_replace(version);
    }

    /// Counts changes of the roots.
    #[must_use]
    pub fn trust_version(&self) -> u64 {
        self.0.trust_version.load(Ordering::Acquire)
    }

    /// Wakes at each change of the roots: a connection whose peer's domain is gone has to be closed.
    #[must_use]
    pub fn trust_changes(&self) -> watch::Receiver<u64> {
        self.0.trusts.subscribe()
    }

    /// Who this process is.
    #[must_use]
    pub fn spiffe(&self) -> SpiffeId {
        self.0.leaf.load().spiffe.clone()
    }

    /// Ends at the next [`Identity::set_leaf`].
    pub async fn renewed(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.leaves.subscribe().changed().await;
    }

    /// Wakes at each new leaf; a subscription that misses none between two waits.
    #[must_use]
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.0.leaves.subscribe()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.spiffe())
    }
}
