//! What a cluster does to the membership, signed by that cluster. Each deed says what it meant when it was signed (the
//! key, the generation), so that nobody gains by playing an old one again.

use isthmus_wire::{
    federation::SignedDeed,
    signing::{self, FederationKey},
};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{Blob, Command};

/// A deed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "camelCase", deny_unknown_fields)]
pub enum Deed {
    /// Issues a token.
    Token {
        /// Its id, random.
        id: String,
        /// The cluster that may redeem it.
        cluster: String,
        /// SHA-256 of its secret.
        hash: Blob,
        /// Unix seconds.
        expires: u64,
    },
    /// Puts a member out. The key never comes in again.
    Eject {
        /// Which cluster.
        cluster: String,
        /// The federation key it has: a cluster that came back with another one is not meant.
        key: Blob,
    },
    /// Names the mesh's operators (DESIGN.md decision 10).
    Operators {
        /// All of them.
        clusters: Vec<String>,
        /// One above the generation it replaces.
        generation: u64,
    },
}

impl Deed {
    /// Signed for the log, as `by` of `mesh`.
    #[must_use]
    pub fn signed(&self, mesh: &str, by: &str, key: &FederationKey) -> Command {
        let content = serde_json::to_vec(self).unwrap_or_default();
        let mut deed = SignedDeed { mesh: mesh.into(), cluster: by.into(), content, signature: vec![] };
        key.sign_deed(&mut deed);
        Command::Deed { deed: Blob(deed.encode_to_vec()) }
    }

    /// Reads a deed of `mesh`, and who did it. `key_of` is a member's key, or why it has no say.
    pub(super) fn read(
        blob: &Blob,
        mesh: &str,
        key_of: impl FnOnce(&str) -> Result<Vec<u8>, String>,
    ) -> Result<(String, Self), String> {
        let signed = SignedDeed::decode(blob.0.as_slice()).map_err(|error| format!("a malformed deed: {error}"))?;
        if signed.mesh != mesh {
            return Err(format!("a deed for mesh {:?} is none of mesh {mesh:?}", signed.mesh));
        }
        signing::verify_deed(&signed, &key_of(&signed.cluster)?).map_err(|error| error.to_string())?;
        let deed = serde_json::from_slice(&signed.content).map_err(|error| format!("a malformed deed: {error}"))?;
        Ok((signed.cluster, deed))
    }
}
