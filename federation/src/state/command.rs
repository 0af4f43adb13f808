//! What may be written to the log, and what becomes of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are base64 in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What may be written. A kind this build does not know stops apply: it is never skipped (DESIGN.md decision 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase", deny_unknown_fields)]
pub enum Command {
    /// The first member; only in an empty log.
    Bootstrap {
        /// The mesh's domain.
        mesh: String,
        /// A `MemberRecord`, countersigned by itself.
        record: Blob,
    },
    /// A token was redeemed.
    Join {
        /// Its id.
        token: String,
        /// A `MemberRecord`, countersigned by the issuer.
        record: Blob,
    },
    /// What a member did to the membership.
    Deed {
        /// A `SignedDeed`; [`super::Deed`] is what it says.
        deed: Blob,
    },
    /// Statements, as `SignedStatement`s.
    Statements {
        /// Each encoded.
        statements: Vec<Blob>,
    },
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bootstrap { mesh, .. } => write!(f, "bootstrap {mesh}"),
            Self::Join { token, .. } => write!(f, "join by token {token}"),
            Self::Deed { .. } => write!(f, "a change of the membership"),
            Self::Statements { statements } => write!(f, "{} statements", statements.len()),
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is so now.
    Done,
    /// It changes nothing, with the reason.
    Refused(String),
}
