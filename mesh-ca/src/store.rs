//! The CA's directory: `authority.json` with root, key and token key, made once; `pass-roots.json` beside it, see
//! [`crate::passes`]. Where somebody brought a CA along, `token-key.json` has the token
//! key in place of the first. All 0600.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_core::name::TrustDomain;
use isthmus_runtime::disk;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{CaError, leaf};

/// Layout of the file.
const LAYOUT: u32 = 1;
/// Life of a root, years.
const ROOT_YEARS: i64 = 10;
/// Bytes of the key that signs enrolment tokens.
const TOKEN_KEY: usize = 32;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    trust_domain: TrustDomain,
    root: String,
    key: String,
    token_key: String,
}

#[derive(Serialize)]
struct Whole<'a, T> {
    version: u32,
    body: &'a T,
}

/// What the directory holds.
pub(crate) struct Authority {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) root: CertificateDer<'static>,
    pub(crate) key: KeyPair,
    pub(crate) token_key: Vec<u8>,
}

pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join("authority.json")
}

/// Opens the CA of `domain`, or makes it. Two processes that race get the same one.
pub(crate) fn open_or_create(dir: &Path, domain: &TrustDomain) -> Result<Authority, CaError> {
    let path = file(dir);
    if let Some(stored) = disk::load_versioned(&path, LAYOUT)? {
        return check(&path, stored, domain);
    }
    disk::make_dir(dir)?;
    create_versioned(&path, &create(domain)?)?;
    let stored = disk::load_versioned(&path, LAYOUT)?;
    let gone = || CaError::Damaged { path: path.clone(), reason: "it went away while it was opened".into() };
    check(&path, stored.ok_or_else(gone)?, domain)
}

/// Reads what a file of that name held; `path` is for messages.
pub(crate) fn parse(path: &Path, bytes: &[u8], domain: &TrustDomain) -> Result<Authority, CaError> {
    check(path, disk::parse_versioned(path, LAYOUT, bytes)?, domain)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenKey {
    trust_domain: TrustDomain,
    token_key: String,
}

/// What a CA that was brought along has in the directory of `domain`: the key of enrolment tokens, made where there is none;
/// and the root that signed before, if there was one.
pub(crate) fn beside_plugged(
    dir: &Path,
    domain: &TrustDomain,
) -> Result<(Vec<u8>, Option<CertificateDer<'static>>), CaError> {
    let path = file(dir);
    if let Some(stored) = disk::load_versioned(&path, LAYOUT)? {
        let own = check(&path, stored, domain)?;
        return Ok((own.token_key, Some(own.root)));
    }
    disk::make_dir(dir)?;
    let path = dir.join("token-key.json");
    let load = || disk::load_versioned::<TokenKey>(&path, LAYOUT);
    let damaged = |reason: String| CaError::Damaged { path: path.clone(), reason };
    let stored = match load()? {
        Some(stored) => stored,
        None => {
            let body = TokenKey { trust_domain: domain.clone(), token_key: STANDARD.encode(random(TOKEN_KEY)?) };
            create_versioned(&path, &body)?;
            load()?.ok_or_else(|| damaged("it went away while it was opened".into()))?
        }
    };
    if stored.trust_domain != *domain {
        let (found, expected) = (stored.trust_domain, domain.clone());
        return Err(CaError::OtherDomain { path, found, expected });
    }
    let key = STANDARD.decode(&stored.token_key).map_err(|error| damaged(error.to_string()))?;
    if key.len() == TOKEN_KEY { Ok((key, None)) } else { Err(damaged("the token key has the wrong length".into())) }
}

/// Of two that make it at once, one does.
fn create_versioned(path: &Path, body: &impl Serialize) -> Result<(), CaError> {
    let bytes =
        serde_json::to_vec(&Whole { version: LAYOUT, body }).map_err(|error| CaError::Crypto(error.to_string()))?;
    disk::create_atomic(path, &bytes)?;
    Ok(())
}

fn check(path: &Path, stored: Stored, domain: &TrustDomain) -> Result<Authority, CaError> {
    let damaged = |reason: String| CaError::Damaged { path: path.to_owned(), reason };
    if stored.trust_domain != *domain {
        let (found, expected) = (stored.trust_domain, domain.clone());
        return Err(CaError::OtherDomain { path: path.to_owned(), found, expected });
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| damaged(error.to_string()));
    let key = PrivatePkcs8KeyDer::from(decode(&stored.key)?);
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| damaged(format!("the root's key: {error}")))?;
    let (root, token_key) = (CertificateDer::from(decode(&stored.root)?), decode(&stored.token_key)?);
    if token_key.len() != TOKEN_KEY {
        return Err(damaged("the token key has the wrong length".into()));
    }
    Ok(Authority { trust_domain: stored.trust_domain, root, key, token_key })
}

fn create(domain: &TrustDomain) -> Result<Stored, CaError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let root = root_params(domain)?.self_signed(&key)?;
    Ok(Stored {
        trust_domain: domain.clone(),
        root: STANDARD.encode(root.der()),
        key: STANDARD.encode(key.serialize_der()),
        token_key: STANDARD.encode(random(TOKEN_KEY)?),
    })
}

fn root_params(domain: &TrustDomain) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - leaf::BACKDATED;
    params.not_after = now + time::Duration::days(365 * ROOT_YEARS);
    params.serial_number = Some(leaf::serial()?);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Isthmus");
    // A common name has at most 64 characters (RFC 5280, upper bound ub-common-name); a domain may be longer.
    params.distinguished_name.push(DnType::CommonName, domain.as_str().chars().take(64).collect::<String>());
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
    Ok(params)
}

/// Bytes nobody can guess.
pub(crate) fn random(bytes: usize) -> Result<Vec<u8>, CaError> {
    let mut out = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut out).map_err(|_| CaError::Crypto("the system has no randomness".into()))?;
    Ok(out)
}
