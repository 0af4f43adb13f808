//! Why four files are no certificate authority, in words that say which one to look at.

/// Four files are no certificate authority that could be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}, entry {entry}: {reason}; {remedy}")]
pub struct PluggedError {
    /// The Secret, or the directory.
    pub place: String,
    /// Which of the four.
    pub entry: &'static str,
    /// What is wrong with it.
    pub reason: String,
    /// What to do.
    pub remedy: &'static str,
}
