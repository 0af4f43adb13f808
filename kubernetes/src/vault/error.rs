//! Why there are no files of a Secret, in words that say which one to look at.

use isthmus_runtime::disk::DiskError;

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The API server refuses.
    #[error("Secret {namespace}/{name} cannot be {doing}; control's Role in {namespace} must allow it")]
    Refused {
        /// `read`, `written`.
        doing: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// It holds less than it should.
    #[error("Secret {namespace}/{name} has no entry {entry}; restore it from a backup, or delete it to begin anew")]
    Lacks {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is missing.
        entry: String,
    },
    /// The own disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Whoever makes them could not.
    #[error("what Secret {namespace}/{name} is to hold could not be made: {reason}")]
    NotMade {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// What it holds cannot be used.
    #[error("Secret {namespace}/{name} cannot be used: {reason}")]
    Broken {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Which entry, why, and what to do.
        reason: String,
    },
    /// The process ends.
    #[error("the process drained before the API server answered")]
    Drained,
}

impl VaultError {
    /// What the API server said, or why it said nothing.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Refused { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }

    /// Whether asking again may help: nobody answered, or the API server says so itself.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        match &**source {
            kube::Error::Api(status) => status.code == 429 || status.code >= 500,
            kube::Error::HyperError(_) | kube::Error::Service(_) => true,
            _ => false,
        }
    }
}
