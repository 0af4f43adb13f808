//! What signs, kept in the CA's directory in `signing.json`. Who brought it along may replace the original, break it or take
//! it away at any time, also while no control runs: what signed signs on until another one was announced. Each has a number
//! above that of the one before, by which an older copy is told.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_core::name::TrustDomain;
use isthmus_runtime::disk;
use serde::{Deserialize, Serialize};

use super::{Entries, Plugged};
use crate::{CaError, issuing::Issuing};

/// The file.
pub(crate) const FILE: &str = "signing.json";
/// Layout of the file.
const LAYOUT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    trust_domain: TrustDomain,
    number: u64,
    /// The four, in base64.
    entries: BTreeMap<String, String>,
}

impl Plugged {
    /// What signs according to a CA's directory; `None`: a root of the cluster's own does, or nothing yet.
    ///
    /// # Errors
    /// [`CaError`]: what is kept there can sign no more, or is another cluster's.
    pub fn kept(dir: &Path, domain: &TrustDomain, now: SystemTime) -> Result<Option<Self>, CaError> {
        let path = dir.join(FILE);
        disk::read(&path)?.map(|bytes| Self::parse(&path, &bytes, domain, now)).transpose()
    }

    /// Reads what [`bytes`] made; `path` is for messages.
    pub(crate) fn parse(path: &Path, bytes: &[u8], domain: &TrustDomain, now: SystemTime) -> Result<Self, CaError> {
        let kept: Kept = disk::parse_versioned(path, LAYOUT, bytes)?;
        if kept.trust_domain != *domain {
            let (found, expected) = (kept.trust_domain, domain.clone());
            return Err(CaError::OtherDomain { path: path.to_owned(), found, expected });
        }
        let damaged = |reason: String| CaError::Damaged { path: path.to_owned(), reason };
        let decode = |(name, text): (String, String)| {
            let bytes = STANDARD.decode(text).map_err(|error| damaged(error.to_string()))?;
            Ok::<_, CaError>((name, bytes))
        };
        let entries: Entries = kept.entries.into_iter().map(decode).collect::<Result<_, _>>()?;
        let mut plugged = Self::read(&path.display().to_string(), &entries, domain, now)?;
        plugged.issuing.number = kept.number;
        Ok(plugged)
    }
}

/// As the file has it; `None`: a root of the cluster's own signs.
pub(crate) fn bytes(issuing: &Issuing, number: u64, domain: &TrustDomain) -> Result<Option<Vec<u8>>, CaError> {
    if issuing.entries.is_none() {
        return Ok(None);
    }
    let kept = Kept { trust_domain: domain.clone(), number, entries: encoded(issuing) };
    Ok(Some(disk::versioned(FILE, LAYOUT, &kept)?))
}

/// The number of what signs after what a CA's directory has, or of that itself.
pub(crate) fn number(dir: &Path, issuing: &Issuing) -> u64 {
    let kept = disk::load_versioned::<Kept>(dir.join(FILE), LAYOUT).ok().flatten();
    let is_it = |kept: &Kept| kept.entries == encoded(issuing);
    kept.map_or(issuing.number, |kept| if is_it(&kept) { kept.number } else { kept.number + 1 })
}

fn encoded(issuing: &Issuing) -> BTreeMap<String, String> {
    let entries = issuing.entries.iter().flatten();
    entries.map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes))).collect()
}

/// The file here where its number is higher; `None`: the one there holds.
pub(crate) fn merged(here: &[u8], there: &[u8]) -> Option<Vec<u8>> {
    let number = |bytes: &[u8]| disk::parse_versioned::<Kept>(FILE, LAYOUT, bytes).ok().map(|kept| kept.number);
    (number(here)? > number(there)?).then(|| here.to_vec())
}
