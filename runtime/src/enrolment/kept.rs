//! The leaf on disk, `identity.json`: certificate, key and pass, 0600.

use std::{path::Path, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_wire::identity::Pass;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{EnrolError, Enrolment, asking::Issued};
use crate::{
    disk::{self, DiskError},
    identity::{Leaf, LeafError},
    tls,
    trust::TrustRoots,
};

/// Layout of the file.
const LAYOUT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    chain: Vec<String>,
    key: String,
    pass: Option<(String, String)>,
    pass_roots: Vec<String>,
}

pub(super) fn store(file: &Path, issued: &Issued) -> Result<(), DiskError> {
    let text = |bytes: &Vec<u8>| STANDARD.encode(bytes);
    let answer = &issued.answer;
    let kept = Kept {
        chain: answer.chain.iter().map(text).collect(),
        key: text(&issued.key),
        pass: answer.pass.as_ref().map(|pass| (text(&pass.ticket), text(&pass.key))),
        pass_roots: answer.pass_roots.iter().map(text).collect(),
    };
    disk::store_versioned(file, LAYOUT, &kept)
}

/// The leaf, unless it is over, of somebody else, or of a root that is not the enrolment's.
pub(super) fn load(
    file: &Path,
    enrolment: &Enrolment,
    roots: &TrustRoots,
    now: SystemTime,
) -> Result<Option<Leaf>, EnrolError> {
    let Some(kept) = disk::load_versioned::<Kept>(file, LAYOUT)? else { return Ok(None) };
    let decode = |text: &String| STANDARD.decode(text).map_err(|error| LeafError::Certificate(error.to_string()));
    let chain: Vec<_> =
        kept.chain.iter().map(|text| decode(text).map(CertificateDer::from)).collect::<Result<_, _>>()?;
    let pass = match &kept.pass {
        Some((ticket, key)) => Some(Pass { ticket: decode(ticket)?, key: decode(key)? }),
        None => None,
    };
    let pass_roots = kept.pass_roots.iter().map(decode).collect::<Result<_, _>>()?;
    let leaf = Leaf::new(chain, &decode(&kept.key)?)?.with_pass(pass, pass_roots);
    tls::verify_chain(roots, leaf.chain(), now).map_err(LeafError::Name)?;
    Ok((claimed_by(&enrolment.token).is_none_or(|who| who == named(&leaf))).then_some(leaf))
}

fn named(leaf: &Leaf) -> (String, String) {
    (leaf.spiffe.namespace().to_owned(), leaf.spiffe.service_account().to_owned())
}

/// Namespace and service account that the enrolment token claims, not verified: a state directory that was another
/// workload's is told apart by it.
fn claimed_by(token: &str) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Claims {
        ns: String,
        sa: String,
    }
    let (claims, _) = token.split_once('.')?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Some((claims.ns, claims.sa))
}
