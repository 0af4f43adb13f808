//! What of an object cannot be honoured, and of which kind that is: an object's status tells the kinds apart, people read the
//! reason.

use serde::{Deserialize, Serialize};

/// Of which kind it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// What is written cannot be honoured.
    #[default]
    Invalid,
    /// What is written leaves nothing of the object to be honoured.
    Void,
    /// Another object has all that it is about, and nothing of it is in force.
    Conflicted,
    /// Here other policies come first for all that it is for.
    Overridden,
    /// It exports a Service that is but a name of something outside.
    ExternalService,
    /// It names a service that is not here, and that no other cluster offers to this one.
    NoService,
    /// It names a subset that no DestinationRule has.
    NoSubset,
    /// It names a cluster that is no member of the mesh.
    NoCluster,
    /// It is a part of a capacity that no Service says.
    NoCapacity,
}

impl Kind {
    /// Whether what is wrong is that something else is not there: it may come, and then nothing is wrong.
    #[must_use]
    pub fn is_reference(self) -> bool {
        matches!(self, Self::NoService | Self::NoSubset | Self::NoCluster | Self::NoCapacity)
    }

    /// Whether nothing of the object is in force.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Void | Self::Conflicted)
    }
}

/// So many are named in a reason; the rest is counted.
const NAMED: usize = 3;

/// The first ones, for people.
pub(super) fn listed<'a>(all: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let first = all.take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

/// A part of an object that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}:{line}: {field}: {reason}")]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line its object begins at.
    pub line: u64,
    /// The field.
    pub field: String,
    /// Of which kind it is.
    pub kind: Kind,
    /// What is wrong and what would be right.
    pub reason: String,
}
