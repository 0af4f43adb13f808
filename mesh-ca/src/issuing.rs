//! What signs leaves: a key, the certificate of that key, and what is handed out behind a leaf.

use std::time::SystemTime;

use isthmus_runtime::certificate;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{CaError, plugged::Entries};

/// Whether a certificate is of this key.
pub(crate) fn is_key_of(key: &KeyPair, certificate: &CertificateDer<'_>) -> bool {
    let parsed = X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *key.public_key_raw())
}

/// What signs leaves.
pub(crate) struct Issuing {
    /// The certificate of the key: it signs leaves of this trust domain and of no other, so it is what others believe them
    /// by, be it a root or not.
    pub(crate) anchor: CertificateDer<'static>,
    /// What goes out behind each leaf: the way from the anchor to its root, which is left out itself.
    pub(crate) behind: Vec<CertificateDer<'static>>,
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) not_before: SystemTime,
    /// No leaf lives longer.
    pub(crate) not_after: SystemTime,
    /// The files of it, where somebody brought them along; `None`: a root of the cluster's own.
    pub(crate) entries: Option<Entries>,
    /// How often what signs was replaced: of two the higher one holds.
    pub(crate) number: u64,
}

impl Issuing {
    /// By a root of the cluster's own.
    pub(crate) fn of_root(root: CertificateDer<'static>, key: KeyPair) -> Result<Self, CaError> {
        let (not_before, not_after) =
            certificate::validity(&root).map_err(|error| CaError::Crypto(error.to_string()))?;
        if !is_key_of(&key, &root) {
            return Err(CaError::Crypto("the key is not the root's".into()));
        }
        let issuer = Issuer::from_ca_cert_der(&root, key)?;
        Ok(Self { anchor: root, behind: Vec::new(), issuer, not_before, not_after, entries: None, number: 0 })
    }

    /// A leaf's chain, leaf first.
    pub(crate) fn chain(&self, leaf: &CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        std::iter::once(leaf).chain(&self.behind).cloned().collect()
    }
}
