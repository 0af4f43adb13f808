//! A root that signs whatever a test asks of it, and a place to listen.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test file uses a part; a test may fail loudly")]

use std::{net::SocketAddr, time::Duration};

use isthmus_core::name::{SpiffeId, TrustDomain};
use isthmus_runtime::{
    identity::{Identity, Leaf},
    listen,
    trust::TrustRoots,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::net::TcpListener;

/// A root key, and nothing that stops it.
pub struct Root {
    pub certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "root of a test");
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub fn trust(&self, domain: &str) -> TrustRoots {
        TrustRoots::of_domain(&domain.parse().unwrap(), [self.der()])
    }

    /// What a CA would sign, but for what `change` does to it.
    pub fn sign(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(60);
        params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(600);
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }

    pub fn leaf(&self, name: &str) -> Leaf {
        let (der, key) = self.sign(&[name], |_| {});
        Leaf::new(vec![der], &key.serialize_der()).unwrap()
    }

    pub fn identity(&self, name: &str) -> Identity {
        let id: SpiffeId = name.parse().unwrap();
        Identity::new(self.leaf(name), self.trust(id.trust_domain().as_str()))
    }
}

/// Both domains' roots.
pub fn both(one: (&Root, &str), other: (&Root, &str)) -> TrustRoots {
    let mut roots = one.0.trust(one.1);
    let domain: TrustDomain = other.1.parse().unwrap();
    roots.add(&domain, other.0.der());
    roots
}

pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// No wait in a test is longer.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(60), future).await;
    ended.unwrap_or_else(|_| panic!("{what} did not happen within 60 s"))
}
