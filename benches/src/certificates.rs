//! A root and two P-256 leaves for the contenders that bring no certificate authority of their own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

/// The identity of the end that asks.
pub const CLIENT: &str = "spiffe://bench.mesh.local/ns/bench/sa/client";

/// The identity of the end that answers.
pub const SERVER: &str = "spiffe://bench.mesh.local/ns/bench/sa/server";

/// The DNS name in both leaves, for proxies that check names only.
pub const NAME: &str = "bench.mesh.local";

/// Where the PEM files are.
#[derive(Clone, Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes and writes them.
    ///
    /// # Errors
    /// A key cannot be made or a file not be written.
    pub fn create(directory: &Path) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = named("bench root");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        write(directory, "root.pem", &root.pem())?;
        for (name, spiffe) in [("client", CLIENT), ("server", SERVER)] {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
            params.distinguished_name = named(name);
            params.subject_alt_names.push(SanType::URI(spiffe.try_into()?));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
            let leaf = params.signed_by(&key, &issuer)?;
            write(directory, &format!("{name}.pem"), &leaf.pem())?;
            write(directory, &format!("{name}.key"), &key.serialize_pem())?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// Path of `root.pem`, `client.pem`, `client.key`, `server.pem` or `server.key`.
    #[must_use]
    pub fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }
}

/// A subject of its own for each certificate: OpenSSL takes one whose issuer has its own name for self-signed.
fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let path = directory.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
