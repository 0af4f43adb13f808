//! By which certificates the leaves of a cluster are believed: the one that signs, one that is about to, and those that
//! signed until a while ago, as long as leaves of theirs live. On disk, `anchors.json`, because a control that restarts
//! must go on believing what it issued.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_runtime::disk;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::CaError;

/// Layout of the file.
const LAYOUT: u32 = 1;
/// Most that are kept: of an authority that is replaced again and again the oldest goes first.
const MOST: usize = 8;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    certificate: String,
    /// Unix seconds until which leaves of it live; none: it signs, or is about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// The certificates, the one that signs first.
pub(crate) struct Anchors {
    file: PathBuf,
    kept: Vec<Kept>,
    /// How long leaves live after the last was signed.
    leaf_life: Duration,
}

impl Anchors {
    pub(crate) fn open(dir: &Path, leaf_life: Duration) -> Result<Self, CaError> {
        let file = dir.join("anchors.json");
        let kept = disk::load_versioned(&file, LAYOUT)?.unwrap_or_default();
        Ok(Self { file, kept, leaf_life })
    }

    /// One that is about to sign.
    pub(crate) fn coming(&mut self, der: &CertificateDer<'_>) -> Result<(), CaError> {
        let certificate = STANDARD.encode(der);
        let mut kept = self.kept.clone();
        match kept.iter_mut().find(|one| one.certificate == certificate) {
            Some(known) => known.until = None,
            None => kept.push(Kept { certificate, until: None }),
        }
        self.put(kept)
    }

    /// The one that signs from now on; what did so before retires.
    pub(crate) fn signing(&mut self, der: &CertificateDer<'_>, now: SystemTime) -> Result<(), CaError> {
        let certificate = STANDARD.encode(der);
        let until = unix(now + self.leaf_life);
        let mut kept = vec![Kept { certificate: certificate.clone(), until: None }];
        let others = self.kept.iter().filter(|one| one.certificate != certificate);
        kept.extend(others.map(|one| Kept { until: one.until.or(Some(until)), ..one.clone() }));
        kept.truncate(MOST);
        self.put(kept)
    }

    /// Lets go of those whose leaves are over; whether there were any.
    pub(crate) fn forget(&mut self, now: SystemTime) -> Result<bool, CaError> {
        let live = |one: &&Kept| one.until.is_none_or(|until| until > unix(now));
        let kept: Vec<_> = self.kept.iter().filter(live).cloned().collect();
        let changed = kept.len() != self.kept.len();
        self.put(kept).map(|()| changed)
    }

    fn put(&mut self, kept: Vec<Kept>) -> Result<(), CaError> {
        if kept != self.kept {
            disk::store_versioned(&self.file, LAYOUT, &kept)?;
        }
        self.kept = kept;
        Ok(())
    }

    pub(crate) fn all(&self) -> Vec<CertificateDer<'static>> {
        self.kept.iter().filter_map(|one| STANDARD.decode(&one.certificate).ok()).map(CertificateDer::from).collect()
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_signed_is_believed_as_long_as_leaves_of_it_live_over_a_restart_too() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Anchors::open(dir.path(), Duration::from_secs(100)).unwrap();
        let [old, new] = [[1u8], [2]].map(|der| CertificateDer::from(der.to_vec()));
        let now = SystemTime::now();
        let mut anchors = open();
        anchors.signing(&old, now).unwrap();
        assert_eq!(open().all(), std::slice::from_ref(&old));
        anchors.coming(&new).unwrap();
        assert_eq!(open().all(), [old.clone(), new.clone()]);
        anchors.signing(&new, now).unwrap();
        let mut again = open();
        assert_eq!(again.all(), [new.clone(), old]);
        assert!(!again.forget(now + Duration::from_secs(99)).unwrap());
        assert!(again.forget(now + Duration::from_secs(101)).unwrap());
        assert_eq!(open().all(), [new]);
    }
}
