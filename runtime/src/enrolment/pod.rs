//! What a pod enrols with: a service account token that the kubelet projects and keeps fresh, bound to the pod and to an
//! audience of ours, and the roots of the trust domain, which control writes into the namespace.

use std::path::{Path, PathBuf};

use isthmus_core::name::TrustDomain;
use serde::{Deserialize, Serialize};

use super::{EnrolError, Enrolment};
use crate::disk;

/// The audience of the tokens.
pub const AUDIENCE: &str = "isthmus.dev";

/// Where things are in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodEnrolment {
    /// The token's file.
    pub service_account_token: PathBuf,
    /// The roots, PEM.
    pub roots: PathBuf,
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// Where control listens (15012), `host:port`.
    pub control: String,
}

impl PodEnrolment {
    pub(super) fn read(&self) -> Result<Enrolment, EnrolError> {
        let enrolment = Enrolment {
            trust_domain: self.trust_domain.clone(),
            roots: vec![text(&self.roots)?],
            control: self.control.clone(),
            token: text(&self.service_account_token)?.trim().to_owned(),
        };
        let bad = |path: &Path, reason: String| Err(EnrolError::BadEnrolment { path: path.to_owned(), reason });
        let roots = enrolment.trust_roots();
        if let Some(refused) = roots.refused().first() {
            return bad(&self.roots, refused.to_string());
        }
        if roots.roots(&self.trust_domain).is_empty() {
            return bad(&self.roots, "it holds no root".into());
        }
        if enrolment.token.is_empty() {
            return bad(&self.service_account_token, "it is empty".into());
        }
        Ok(enrolment)
    }
}

fn text(path: &Path) -> Result<String, EnrolError> {
    let bad = |reason: String| EnrolError::BadEnrolment { path: path.to_owned(), reason };
    let bytes = disk::read(path)?.ok_or_else(|| bad("there is no such file; is its volume mounted?".into()))?;
    String::from_utf8(bytes).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_or_empty_part_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (token, roots) = (folder.path().join("token"), folder.path().join("roots.pem"));
        let pod = PodEnrolment {
            service_account_token: token.clone(),
            roots: roots.clone(),
            trust_domain: "east.mesh.test".parse().unwrap(),
            control: "control:15012".into(),
        };
        let read = || pod.read().unwrap_err().to_string();
        assert!(read().contains("roots.pem") && read().contains("no such file"), "{}", read());
        std::fs::write(&roots, "nothing").unwrap();
        assert!(read().contains("token"), "{}", read());
        std::fs::write(&token, "\n").unwrap();
        assert!(read().contains("holds no root"), "{}", read());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        std::fs::write(&roots, root.pem()).unwrap();
        assert!(read().contains("token") && read().contains("it is empty"), "{}", read());
        std::fs::write(&token, "a.b.c\n").unwrap();
        assert_eq!(pod.read().unwrap().token, "a.b.c");
    }
}
