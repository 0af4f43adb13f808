//! Enrolment tokens: who may have a first leaf, until when, said by the CA to itself.
//!
//! `base64url(claims JSON) . base64url(HMAC-SHA256)`. Whoever reads one can be that workload until it expires: it is
//! kept like a key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Longest token that is looked at, bytes.
const MAX_TOKEN: usize = 4096;
/// In front of what is signed, so that the key's signatures mean nothing elsewhere.
const DOMAIN: &str = "isthmus-enrolment-v1.";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Namespace.
    pub ns: String,
    /// Service account.
    pub sa: String,
    /// The workload it was minted for; for people.
    pub workload: String,
    /// Unix seconds after which it is void.
    pub exp: u64,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none.
    #[error("this is no enrolment token: {0}")]
    Malformed(&'static str),
    /// Somebody else wrote it, or it was changed.
    #[error(
        "the enrolment token was not minted by this cluster's CA: another cluster's, a reinstalled one's, or changed"
    )]
    Forged,
    /// Its time is over.
    #[error("the enrolment token of workload {workload:?} expired {seconds} s ago; mint a new one")]
    Expired {
        /// Whose.
        workload: String,
        /// Seconds since.
        seconds: u64,
    },
}

/// A token.
#[must_use]
pub fn mint(key: &[u8], claims: &Claims) -> String {
    let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap_or_default());
    let tag = hmac::sign(&hmac_key(key), signed(&text).as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// When something that lasts `ttl` from `now` is over, Unix seconds.
#[must_use]
pub fn expiry(now: SystemTime, ttl: Duration) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(ttl).as_secs()
}

/// What a token says, once it is known that this CA said it and that it still holds.
///
/// # Errors
/// [`TokenError`].
pub fn verify(key: &[u8], token: &str, now: SystemTime) -> Result<Claims, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed("it is too long"));
    }
    let (text, tag) = token.split_once('.').ok_or(TokenError::Malformed("it has no signature"))?;
    let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| TokenError::Malformed("its signature is not base64url"))?;
    hmac::verify(&hmac_key(key), signed(text).as_bytes(), &tag).map_err(|_| TokenError::Forged)?;
    let claims = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed("it is not base64url"))?;
    let claims: Claims =
        serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed("it is of another version"))?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match now.checked_sub(claims.exp) {
        Some(seconds) => Err(TokenError::Expired { workload: claims.workload, seconds }),
        None => Ok(claims),
    }
}

fn signed(text: &str) -> String {
    format!("{DOMAIN}{text}")
}

fn hmac_key(key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_until_it_expires_and_no_changed_byte_passes() {
        let (key, now) = ([1u8; 32], SystemTime::now());
        let claims = Claims {
            ns: "bookinfo".into(),
            sa: "reviews".into(),
            workload: "reviews-v1".into(),
            exp: expiry(now, Duration::from_secs(60)),
        };
        let token = mint(&key, &claims);
        assert_eq!(verify(&key, &token, now), Ok(claims.clone()));
        assert_eq!(verify(&[2; 32], &token, now), Err(TokenError::Forged));
        let later = verify(&key, &token, now + Duration::from_secs(61)).unwrap_err();
        assert!(later.to_string().contains("reviews-v1"), "{later}");
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            if changed != token {
                assert!(verify(&key, &changed, now).is_err(), "byte {at}");
            }
        }
        for nonsense in ["", ".", "a.b", &"x".repeat(10_000)] {
            assert!(verify(&key, nonsense, now).is_err());
        }
    }
}
