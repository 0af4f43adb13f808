//! What was heard, as it is kept on disk.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use isthmus_wire::federation::Snapshot;
use serde::{Deserialize, Serialize};

use super::Heard;

/// What is kept on disk: protobuf messages in base64, so that they are verified again when loaded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HeardOnDisk {
    revision: u64,
    history: String,
    members: Vec<String>,
    pub(super) statements: Vec<String>,
}

impl HeardOnDisk {
    /// The messages; what cannot be read is left out.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { statements: decode(&self.statements), members: decode(&self.members) }
    }

    /// Where the watch stood.
    pub(super) fn resume(self) -> (u64, String) {
        (self.revision, self.history)
    }
}

impl Heard {
    /// What to keep on disk.
    #[must_use]
    pub fn on_disk(&self) -> HeardOnDisk {
        HeardOnDisk {
            revision: self.revision,
            history: self.history.clone(),
            members: self.records.values().map(encode).collect(),
            statements: self.signed.values().map(encode).collect(),
        }
    }
}

fn encode(message: &impl prost::Message) -> String {
    STANDARD.encode(message.encode_to_vec())
}

fn decode<M: prost::Message + Default>(texts: &[String]) -> Vec<M> {
    texts.iter().filter_map(|text| M::decode(STANDARD.decode(text).ok()?.as_slice()).ok()).collect()
}
