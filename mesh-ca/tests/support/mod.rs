//! Certificate authorities as operators bring them along: a root, and intermediates of it, one a cluster.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test may fail loudly")]

use std::time::{Duration, SystemTime};

use isthmus_ca::{
    Ca, Plugged, PluggedError, Settings,
    plugged::{CERTIFICATE, CHAIN, Entries, KEY, ROOT},
};
use isthmus_core::name::{ClusterName, MeshDomain};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::OffsetDateTime;

pub const PLACE: &str = "Secret isthmus-system/cacerts";

/// A certificate that may sign, with its key.
pub struct Authority {
    pub pem: String,
    pub key: String,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::OrganizationName, "Istio");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(3600);
    params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(24 * 3600 * 365);
    params
}

impl Authority {
    pub fn root(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (params("Root CA"), KeyPair::generate().unwrap());
        change(&mut params);
        let (pem, text) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        Self { pem, key: text, issuer: Issuer::new(params, key) }
    }

    /// What it signs, all of one name: names tell nobody apart.
    pub fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        self.intermediate_of(KeyPair::generate().unwrap(), change)
    }

    pub fn intermediate_of(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params("Intermediate CA");
        change(&mut params);
        let (pem, text) = (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem());
        Self { pem, key: text, issuer: Issuer::new(params, key) }
    }

    /// As a Secret has it.
    pub fn entries(&self, chain: &[&Self], root: &Self) -> Entries {
        let all: String = std::iter::once(&self).chain(chain).map(|one| one.pem.as_str()).collect();
        let entries = [(CERTIFICATE, &self.pem), (KEY, &self.key), (ROOT, &root.pem), (CHAIN, &(all + &root.pem))];
        entries.map(|(name, text)| (name.to_owned(), text.clone().into_bytes())).into()
    }
}

/// Reads it for the cluster east.
pub fn read(entries: &Entries) -> Result<Plugged, PluggedError> {
    Plugged::read(PLACE, entries, &"east.mesh.test".parse().unwrap(), SystemTime::now())
}

/// The CA of a cluster that signs with it.
pub fn ca(dir: &tempfile::TempDir, cluster: &str, entries: &Entries) -> Ca {
    let (mesh, cluster): (MeshDomain, ClusterName) = ("mesh.test".parse().unwrap(), cluster.parse().unwrap());
    let plugged = Plugged::read(PLACE, entries, &cluster.trust_domain(&mesh), SystemTime::now()).unwrap();
    Ca::open_plugged(dir.path(), &mesh, &cluster, plugged, Settings::default()).unwrap()
}
