//! Bugs to be planted, so that every invariant is seen to bite. They live in the adapters around the production types,
//! never in them.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Entries are acknowledged at once, and written with the next ones.
    LogLate,
    /// A vote is kept in memory only.
    VoteForgotten,
    /// The state machine forgets that a token was used.
    TokenAgain,
    /// The view takes whatever comes, however old.
    ViewUnversioned,
    /// What comes is not verified.
    Unverified,
    /// A watcher misses an event now and then.
    EventDropped,
    /// The versions of a cluster's old key count against its new one.
    OldVersionsCount,
    /// A member skips a command now and then.
    CommandSkipped,
}
