//! Join tokens: `isthmus1.` and JSON in base64url. A token carries where to go, whom to believe there (the issuer's
//! root), and a secret of which the mesh keeps only the hash.

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{error::Refusal, state::Blob};

const PREFIX: &str = "isthmus1.";
/// Nothing that long is a token.
const LONGEST: usize = 64 * 1024;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The mesh.
    pub mesh: String,
    /// The cluster that may redeem it.
    pub cluster: String,
    /// Its id.
    pub id: String,
    /// 32 random bytes.
    pub secret: Blob,
    /// Where the issuer's member is, `host:port`.
    pub addresses: Vec<String>,
    /// The issuer's roots, DER: whoever answers must hold a leaf under one of them.
    pub roots: Vec<Blob>,
    /// The issuer's trust domain.
    pub trust_domain: String,
    /// The issuing cluster.
    pub issuer: String,
    /// Unix seconds.
    pub expires: u64,
}

/// SHA-256.
#[must_use]
pub fn hash(secret: &[u8]) -> Blob {
    Blob(digest::digest(&digest::SHA256, secret).as_ref().to_vec())
}

/// Random bytes.
///
/// # Errors
/// When the system has none.
pub fn random(length: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes).map_err(|_| Refusal::new("the system has no randomness", "try again"))?;
    Ok(bytes)
}

impl Token {
    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }

    /// From text.
    ///
    /// # Errors
    /// Says what is malformed and what to do.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let malformed = |reason: &str| {
            Refusal::new(
                format!("this is no join token: {reason}"),
                "copy it whole, from `isthmus token create` to the end of its line",
            )
        };
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(malformed("it is far too long"));
        }
        let encoded = text.strip_prefix(PREFIX).ok_or_else(|| malformed("it does not begin with isthmus1."))?;
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed("it is cut or changed"))?;
        serde_json::from_slice(&json).map_err(|_| malformed("it is cut or changed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_a_cut_one_says_so() {
        let token = Token {
            mesh: "mesh.local".into(),
            cluster: "west".into(),
            id: "a".into(),
            secret: Blob(vec![1; 32]),
            addresses: vec!["127.0.0.1:15443".into()],
            roots: vec![Blob(vec![2])],
            trust_domain: "east.mesh.local".into(),
            issuer: "east".into(),
            expires: 1,
        };
        let text = token.text();
        assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token));
        for bad in ["", "isthmus1.", "hello", &text[..text.len() - 2], &text.replace("isthmus1", "isthmus2")] {
            assert!(Token::parse(bad).unwrap_err().error.contains("no join token"), "{bad}");
        }
    }
}
