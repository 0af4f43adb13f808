//! Enrolments minted offline, on the CA's directory: what a process is given before anything runs.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use isthmus_core::name::{SpiffeId, TrustDomain};
use isthmus_runtime::enrolment::Enrolment;
use rustls_pki_types::CertificateDer;

use crate::{
    CaError, Settings,
    anchors::Anchors,
    plugged::Plugged,
    store,
    token::{self, Claims},
};

/// For whom an enrolment is asked.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The cluster's trust domain.
    pub trust_domain: TrustDomain,
    /// The workload's namespace.
    pub namespace: &'a str,
    /// Its service account.
    pub service_account: &'a str,
    /// Its name, for people.
    pub workload: &'a str,
    /// How long the token can be used.
    pub ttl: Duration,
    /// Where the cluster's control listens (15012), `host:port`.
    pub control: &'a str,
}

/// An enrolment; makes the CA in `ca_dir` when there is none.
///
/// # Errors
/// [`CaError`]: a bad name, a directory that is damaged or another cluster's.
pub fn mint(ca_dir: &Path, asked: &Asked<'_>) -> Result<Enrolment, CaError> {
    asked.check()?;
    let authority = store::open_or_create(ca_dir, &asked.trust_domain)?;
    Ok(enrolment(&[authority.root], &authority.token_key, asked))
}

/// An enrolment of a cluster whose CA somebody brought along, `plugged`: it believes that one, and what signs until then.
///
/// # Errors
/// As [`mint`].
pub fn mint_plugged(ca_dir: &Path, plugged: &Plugged, asked: &Asked<'_>) -> Result<Enrolment, CaError> {
    asked.check()?;
    let (token_key, _) = store::beside_plugged(ca_dir, &asked.trust_domain)?;
    let mut roots = Anchors::open(ca_dir, Settings::default().leaf_ttl, SystemTime::now())?.all();
    if !roots.contains(plugged.certificate()) {
        roots.push(plugged.certificate().clone());
    }
    Ok(enrolment(&roots, &token_key, asked))
}

impl Asked<'_> {
    /// The names are checked here, where somebody reads the error, and not when the token is used.
    fn check(&self) -> Result<(), CaError> {
        SpiffeId::new(self.trust_domain.clone(), self.namespace, self.service_account)?;
        Ok(())
    }
}

fn enrolment(roots: &[CertificateDer<'_>], token_key: &[u8], asked: &Asked<'_>) -> Enrolment {
    let claims = Claims {
        ns: asked.namespace.to_owned(),
        sa: asked.service_account.to_owned(),
        workload: asked.workload.to_owned(),
        exp: token::expiry(SystemTime::now(), asked.ttl),
    };
    Enrolment {
        trust_domain: asked.trust_domain.clone(),
        roots: roots.iter().map(|root| pem(root)).collect(),
        control: asked.control.to_owned(),
        token: token::mint(token_key, &claims),
    }
}

/// A certificate as PEM (RFC 7468).
#[must_use]
pub fn pem(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out.push_str("\n-----END CERTIFICATE-----\n");
    out
}
