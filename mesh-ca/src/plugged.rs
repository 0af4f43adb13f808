//! A certificate authority that somebody brings along, in the layout of Istio's `cacerts` (its "Plug in CA
//! Certificates"): `ca-cert.pem` and `ca-key.pem` sign, `cert-chain.pem` leads from there to `root-cert.pem`.
//!
//! Many clusters may have one root, each with an intermediate of its own, and then the root says nothing of who is of
//! which cluster: whoever it signed could name anybody. So what others believe a cluster's leaves by is the certificate
//! that signs them, never what is above it. The root serves those outside the mesh, who get the chain that leads to it.
//!
//! All of it is tried when it is read: a leaf is signed and verified, so what is taken works.

mod error;
mod files;
pub(crate) mod kept;

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use isthmus_core::name::TrustDomain;
use isthmus_runtime::{disk, enrolment::system_identity, tls, trust::TrustRoots};
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::CertificateDer;

pub use error::PluggedError;
use files::Files;

use crate::{issuing::Issuing, leaf};

/// The certificate that signs.
pub const CERTIFICATE: &str = "ca-cert.pem";
/// Its key.
pub const KEY: &str = "ca-key.pem";
/// Where the chain ends.
pub const ROOT: &str = "root-cert.pem";
/// What is between them.
pub const CHAIN: &str = "cert-chain.pem";

/// The content of the four, by name.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// A certificate authority that somebody brought along, tried and found good.
pub struct Plugged {
    pub(crate) issuing: Issuing,
}

impl Plugged {
    /// Reads and tries the four. `place`: the Secret or the directory, for messages; `domain`: whose leaves it is to sign.
    ///
    /// # Errors
    /// [`PluggedError`]: one, of the first entry that is at fault.
    pub fn read(place: &str, entries: &Entries, domain: &TrustDomain, now: SystemTime) -> Result<Self, PluggedError> {
        let files = Files { place, entries };
        let (anchor, (not_before, not_after)) = files.certificate(now)?;
        let key = files.key(&anchor)?;
        let roots = files.roots(now)?;
        let behind = files.behind(&anchor, &roots)?;
        let issuer = Issuer::from_ca_cert_der(&anchor, key)
            .map_err(|error| files.wrong(CERTIFICATE, format!("it cannot sign: {error}"), files::ANOTHER))?;
        let issuing = Issuing { anchor, behind, issuer, not_before, not_after, entries: Some(files.four()), number: 0 };
        try_out(&files, &issuing, &roots, domain, now)?;
        Ok(Self { issuing })
    }

    /// As [`Plugged::read`], of the files of a directory.
    ///
    /// # Errors
    /// [`PluggedError`].
    pub fn read_dir(dir: &Path, domain: &TrustDomain, now: SystemTime) -> Result<Self, PluggedError> {
        let place = format!("directory {}", dir.display());
        let mut entries = Entries::new();
        for entry in [CERTIFICATE, KEY, ROOT, CHAIN] {
            let unreadable = |error: disk::DiskError| PluggedError {
                place: place.clone(),
                entry,
                reason: error.to_string(),
                remedy: "let control read it",
            };
            if let Some(bytes) = disk::read(dir.join(entry)).map_err(unreadable)? {
                entries.insert(entry.to_owned(), bytes);
            }
        }
        Self::read(&place, &entries, domain, now)
    }

    /// The certificate that signs.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.issuing.anchor
    }
}

/// Signs a leaf and verifies it twice: as the mesh does, by the certificate that signs, and by the root.
fn try_out(
    files: &Files<'_>,
    issuing: &Issuing,
    roots: &[CertificateDer<'static>],
    domain: &TrustDomain,
    now: SystemTime,
) -> Result<(), PluggedError> {
    let useless =
        |reason: String| files.wrong(CERTIFICATE, format!("no leaf can be signed with it: {reason}"), files::ANOTHER);
    let id = system_identity(domain, "control").map_err(|error| useless(error.to_string()))?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| useless(error.to_string()))?;
    let (leaf, _) = leaf::sign(&id, &key, issuing, now, leaf::SHORTEST).map_err(|error| useless(error.to_string()))?;
    let chain = issuing.chain(leaf.der());
    let alone = TrustRoots::of_domain(domain, [issuing.anchor.clone()]);
    tls::verify_chain(&alone, &chain, now).map_err(|refused| useless(refused.to_string()))?;
    let by_root = TrustRoots::of_domain(domain, roots.iter().cloned());
    tls::verify_chain(&by_root, &chain, now).map(drop).map_err(|refused| files.not_led(&refused))
}
