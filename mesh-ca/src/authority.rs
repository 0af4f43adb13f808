//! The CA of a cluster.

mod rotation;
mod server;
pub mod shared;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use isthmus_core::name::{ClusterName, MeshDomain, SpiffeId, TrustDomain};
use isthmus_runtime::{
    disk,
    drain::Drain,
    identity::{Identity, Leaf},
    pass,
    trust::TrustRoots,
};
use isthmus_wire::identity::{IssueResponse, Pass};
use parking_lot::Mutex;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
pub use server::ServerLeaf;
use tokio::sync::watch;

use crate::{
    CaError,
    anchors::Anchors,
    issuing::Issuing,
    leaf,
    passes::PassRoots,
    plugged::{Entries, Plugged, kept},
    store,
    token::{self, TokenError},
};

/// The namespace of the cluster's own parts.
const SYSTEM: &str = "isthmus-system";

/// How a CA issues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Life of a leaf, and the most a caller can ask for.
    pub leaf_ttl: Duration,
    /// Age at which a pass root gets its successor.
    pub pass_rotation: Duration,
    /// Whether there are replicas: then whoever has what they share makes the next pass root, and not who signs.
    pub replicated: bool,
}

impl Default for Settings {
    /// A day: a stolen leaf ages soon, a CA may rest overnight. A week: passes are checked inside the cluster only.
    fn default() -> Self {
        Self {
            leaf_ttl: Duration::from_secs(24 * 3600),
            pass_rotation: Duration::from_secs(7 * 24 * 3600),
            replicated: false,
        }
    }
}

/// The CA of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Ca(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    trust_domain: TrustDomain,
    issuing: Mutex<Arc<Issuing>>,
    anchors: Mutex<Anchors>,
    roots: watch::Sender<Vec<CertificateDer<'static>>>,
    believed: watch::Sender<Vec<u8>>,
    token_key: Vec<u8>,
    passes: Mutex<PassRoots>,
    settings: Settings,
}

/// A leaf's chain with the pass beside it.
struct Issued {
    chain: Vec<CertificateDer<'static>>,
    pass: Option<Pass>,
    pass_roots: Vec<Vec<u8>>,
}

impl Ca {
    /// Opens the CA of a cluster in its directory, or makes it.
    ///
    /// # Errors
    /// [`CaError`]: the directory is damaged or another cluster's, or the disk fails.
    pub fn open_or_create(
        dir: &Path,
        mesh: &MeshDomain,
        cluster: &ClusterName,
        settings: Settings,
    ) -> Result<Self, CaError> {
        let authority = store::open_or_create(dir, &cluster.trust_domain(mesh))?;
        let issuing = Issuing::of_root(authority.root, authority.key)
            .map_err(|error| CaError::Damaged { path: store::file(dir), reason: error.to_string() })?;
        Self::open(dir, authority.trust_domain, (issuing, None), authority.token_key, settings)
    }

    /// Whether a root of the cluster's own is in its directory.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        store::file(dir).exists()
    }

    /// Opens the CA of a cluster that signs with what somebody brought along; what else it needs is in its directory.
    ///
    /// # Errors
    /// As [`Ca::open_or_create`].
    pub fn open_plugged(
        dir: &Path,
        mesh: &MeshDomain,
        cluster: &ClusterName,
        mut plugged: Plugged,
        settings: Settings,
    ) -> Result<Self, CaError> {
        plugged.issuing.number = kept::number(dir, &plugged.issuing);
        let domain = cluster.trust_domain(mesh);
        let (token_key, before) = store::beside_plugged(dir, &domain)?;
        Self::open(dir, domain, (plugged.issuing, before), token_key, settings)
    }

    /// `before`: a root that signed before anything is remembered of it.
    fn open(
        dir: &Path,
        trust_domain: TrustDomain,
        (issuing, before): (Issuing, Option<CertificateDer<'static>>),
        token_key: Vec<u8>,
        settings: Settings,
    ) -> Result<Self, CaError> {
        // A root is announced for the life of a leaf and then used for at least as long.
        let rotation = settings.pass_rotation.max(settings.leaf_ttl * 2);
        let passes = Mutex::new(PassRoots::open_or_create(dir, rotation, settings.leaf_ttl)?);
        let now = SystemTime::now();
        let mut anchors = Anchors::open(dir, settings.leaf_ttl, now)?;
        if let Some(before) = before.filter(|_| anchors.all().is_empty()) {
            anchors.coming(&before, now)?;
        }
        anchors.signing(&issuing.anchor, now)?;
        keep(dir, &issuing, &trust_domain)?;
        let (roots, believed) = (watch::Sender::new(anchors.all()), watch::Sender::new(anchors.bytes()?));
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            trust_domain,
            issuing: Mutex::new(Arc::new(issuing)),
            anchors: Mutex::new(anchors),
            roots,
            believed,
            token_key,
            passes,
            settings,
        })))
    }

    /// The trust domain it vouches for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// Roots of its trust domain, DER, the one that signs first: what is signed by one of these keys is of this cluster.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.0.roots.borrow().clone()
    }

    /// The same, and each change of them.
    #[must_use]
    pub fn watch_roots(&self) -> watch::Receiver<Vec<CertificateDer<'static>>> {
        self.0.roots.subscribe()
    }

    /// From when and until when the certificate that signs is valid.
    #[must_use]
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        let issuing = self.issuing();
        (issuing.not_before, issuing.not_after)
    }

    /// The same, ready to verify with.
    #[must_use]
    pub fn trust_roots(&self) -> TrustRoots {
        TrustRoots::of_domain(self.trust_domain(), self.roots())
    }

    /// Whom an enrolment token is for.
    ///
    /// # Errors
    /// [`CaError::Token`].
    pub fn enrolled(&self, token: &str, now: SystemTime) -> Result<SpiffeId, CaError> {
        let claims = token::verify(&self.0.token_key, token, now)?;
        SpiffeId::new(self.0.trust_domain.clone(), &claims.ns, &claims.sa)
            .map_err(|_| TokenError::Malformed("it names no identity").into())
    }

    /// Issues a leaf to `id` for the public key of a CSR; nothing else in the CSR counts. `ttl`: the caller's wish,
    /// cut to the setting; none: the setting.
    ///
    /// # Errors
    /// [`CaError`]: a CSR that cannot be used, an id of another trust domain.
    pub fn issue(&self, id: &SpiffeId, csr: &[u8], ttl: Option<Duration>) -> Result<IssueResponse, CaError> {
        let issued = self.sign(id, &leaf::public_key(csr)?, ttl)?;
        Ok(IssueResponse {
            chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
            roots: self.roots().iter().map(|der| der.to_vec()).collect(),
            pass: issued.pass,
            pass_roots: issued.pass_roots,
        })
    }

    /// Issues a leaf in process, key included: for control, which the CA lives in.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn issue_local(&self, id: &SpiffeId) -> Result<Leaf, CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let issued = self.sign(id, &key, None)?;
        Ok(Leaf::new(issued.chain, &key.serialize_der())?.with_pass(issued.pass, issued.pass_roots))
    }

    /// An identity of the own process, renewed at half life by a task on the current Tokio runtime until it closes.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn local_identity(&self, id: &SpiffeId, drain: Drain) -> Result<Identity, CaError> {
        let identity = Identity::new(self.issue_local(id)?, self.trust_roots());
        let (ca, id, kept) = (self.clone(), id.clone(), identity.clone());
        let half = self.0.settings.leaf_ttl / 2;
        tokio::spawn(async move {
            let renewing = async {
                loop {
                    tokio::time::sleep(half).await;
                    match ca.issue_local(&id) {
                        Ok(leaf) => kept.set_leaf(leaf),
                        Err(error) => tracing::error!(%error, "the own leaf is not renewed"),
                    }
                }
            };
            tokio::select! {
                () = renewing => {}
                () = drain.closed() => {}
            }
        });
        Ok(identity)
    }

    /// What signs, as it was brought along; `None`: a root of the cluster's own signs.
    #[must_use]
    pub fn brought(&self) -> Option<Entries> {
        self.issuing().entries.clone()
    }

    fn issuing(&self) -> Arc<Issuing> {
        Arc::clone(&self.0.issuing.lock())
    }

    fn sign(&self, id: &SpiffeId, key: &impl PublicKeyData, ttl: Option<Duration>) -> Result<Issued, CaError> {
        if id.trust_domain() != self.trust_domain() {
            return Err(CaError::Stranger(format!(
                "{id} is not of {}, which this CA vouches for",
                self.trust_domain()
            )));
        }
        let longest = self.0.settings.leaf_ttl;
        let ttl = ttl.map_or(longest, |wish| wish.min(longest)).max(leaf::SHORTEST);
        let now = SystemTime::now();
        let issuing = self.issuing();
        if now >= issuing.not_after {
            return Err(CaError::Over);
        }
        let (certificate, not_after) = leaf::sign(id, key, &issuing, now, ttl)?;
        let mut passes = self.0.passes.lock();
        if !self.0.settings.replicated
            && let Err(error) = passes.rotate(now)
        {
            tracing::warn!(%error, "the pass roots are not rotated, the old ones serve on");
        }
        let pass = passes.in_use(now).map(|root| pass::issue(&root, id, not_after));
        let gateway = id.namespace() == SYSTEM && id.service_account() == "gateway";
        let pass_roots = if gateway { passes.decoded() } else { Vec::new() };
        Ok(Issued { chain: issuing.chain(certificate.der()), pass, pass_roots })
    }
}

/// What was brought along is kept before it signs.
fn keep(dir: &Path, issuing: &Issuing, domain: &TrustDomain) -> Result<(), CaError> {
    let Some(bytes) = kept::bytes(issuing, issuing.number, domain)? else { return Ok(()) };
    let path = dir.join(kept::FILE);
    if disk::read(&path)?.as_ref() != Some(&bytes) {
        disk::write_atomic(&path, &bytes)?;
    }
    Ok(())
}
