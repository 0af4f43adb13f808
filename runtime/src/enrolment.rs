//! How a process comes by its leaf and keeps it fresh: by a minted token the first time and by its own identity from then
//! on; in a pod each time by the service account token that the kubelet keeps fresh, so that a leaf dies with its pod.
//!
//! A leaf is renewed at half its life with jitter, kept on disk, and swapped in place; connections notice nothing.
//! While the CA cannot be reached the old leaf serves on, and one warning says until when.

mod asking;
mod kept;
mod pod;
mod renewal;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use isthmus_core::name::{InvalidName, SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::{
    backoff::Backoff,
    config::Common,
    disk::{self, DiskError},
    drain::Drain,
    identity::{Identity, LeafError},
    trust::TrustRoots,
};
use asking::{Asker, NotIssued};
pub use pod::{AUDIENCE, PodEnrolment};

/// Where a process finds what its first leaf is asked for with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Enrolling {
    /// In an [`Enrolment`] file.
    File(PathBuf),
    /// In its pod.
    Pod(PodEnrolment),
}

impl From<PathBuf> for Enrolling {
    fn from(file: PathBuf) -> Self {
        Self::File(file)
    }
}

impl Enrolling {
    /// What is there now.
    ///
    /// # Errors
    /// [`EnrolError::Disk`], [`EnrolError::BadEnrolment`].
    pub fn read(&self) -> Result<Enrolment, EnrolError> {
        match self {
            Self::File(path) => Enrolment::read(path),
            Self::Pod(pod) => pod.read(),
        }
    }
}

/// What a process is given to get its first leaf: a file, JSON, 0600.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// Its roots, PEM.
    pub roots: Vec<String>,
    /// Where control listens (15012), `host:port`.
    pub control: String,
    /// What the CA minted; a secret.
    pub token: String,
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Enrolment({} at {})", self.trust_domain, self.control)
    }
}

impl Enrolment {
    /// Reads the file.
    ///
    /// # Errors
    /// [`EnrolError::Disk`], [`EnrolError::BadEnrolment`].
    pub fn read(path: &Path) -> Result<Self, EnrolError> {
        let bad = |reason: String| EnrolError::BadEnrolment { path: path.to_owned(), reason };
        let bytes = disk::read(path)?.ok_or_else(|| bad("there is no such file".into()))?;
        let enrolment: Self = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        let roots = enrolment.trust_roots();
        match roots.refused().first() {
            Some(refused) => Err(bad(refused.to_string())),
            None if roots.roots(&enrolment.trust_domain).is_empty() => Err(bad("it names no root".into())),
            None => Ok(enrolment),
        }
    }

    /// Writes the file, 0600.
    ///
    /// # Errors
    /// [`EnrolError::Disk`].
    pub fn write(&self, path: &Path) -> Result<(), EnrolError> {
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| EnrolError::BadEnrolment { path: path.to_owned(), reason: error.to_string() })?;
        Ok(disk::write_atomic(path, &bytes)?)
    }

    /// Its roots, ready to verify with.
    #[must_use]
    pub fn trust_roots(&self) -> TrustRoots {
        TrustRoots::from_pem(&self.trust_domain, self.roots.iter().map(String::as_str))
    }
}

/// Why a process has no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The configuration does not say.
    #[error("the configuration has no `common.enrolment`; name an enrolment file, or what a pod has in its place")]
    Nowhere,
    /// The enrolment file is not one.
    #[error("{path} is no enrolment file: {reason}", path = .path.display())]
    BadEnrolment {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What the CA issued cannot be used.
    #[error("cannot use the issued leaf")]
    Leaf(#[from] LeafError),
    /// A name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The CA said no; asking again with the same token does not help.
    #[error("the CA at {ca} refuses {who} an identity: {reason}")]
    Refused {
        /// Who asked.
        who: String,
        /// The CA's address.
        ca: String,
        /// What it said.
        reason: String,
    },
    /// The process ends before it had an identity.
    #[error("the process drained before it had an identity")]
    Drained,
}

/// The well-known identities of a cluster's own parts: `spiffe://<td>/ns/isthmus-system/sa/<account>`.
///
/// # Errors
/// When `account` is no name.
pub fn system_identity(domain: &TrustDomain, account: &str) -> Result<SpiffeId, InvalidName> {
    SpiffeId::new(domain.clone(), "isthmus-system", account)
}

/// The identity of this process: from its state directory while that one is valid, else from the CA, asked until it
/// answers. Renewal goes on in the background of the current Tokio runtime until everything closes.
///
/// # Errors
/// [`EnrolError`]: nowhere to ask, the CA refuses, the disk fails, or the process drains first.
pub async fn enrol(common: &Common, drain: &Drain) -> Result<Identity, EnrolError> {
    disk::make_dir(&common.state_dir)?;
    let enrolling = common.enrolment.clone().ok_or(EnrolError::Nowhere)?;
    let asker = Asker::new(common, enrolling)?;
    let identity = match asker.kept() {
        Some(identity) => identity,
        None => first(&asker, drain).await?,
    };
    tokio::spawn(renewal::keep_fresh(asker, identity.clone(), drain.clone()));
    Ok(identity)
}

async fn first(asker: &Asker, drain: &Drain) -> Result<Identity, EnrolError> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut said = String::new();
    loop {
        let reason = match drain.unless(asker.ask(None)).await.ok_or(EnrolError::Drained)? {
            Ok(issued) => return asker.begin(issued),
            Err(NotIssued::Refused(reason)) => {
                let (who, ca) = (asker.who.clone(), asker.enrolment.control.clone());
                return Err(EnrolError::Refused { who, ca, reason });
            }
            Err(NotIssued::NoAnswer(reason)) => reason,
        };
        if reason != said {
            tracing::info!(ca = asker.enrolment.control, reason, "waiting for the CA");
            said = reason;
        }
        drain.unless(tokio::time::sleep(backoff.next())).await.ok_or(EnrolError::Drained)?;
    }
}
