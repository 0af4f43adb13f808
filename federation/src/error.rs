//! Why a member does not begin, or refuses.

use std::path::{Path, PathBuf};

/// Why a member does not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of its state is not whole.
    #[error(
        "{} is damaged and is not used: {reason}; other members have the same content: move the member's folder away \
         and join again with a token, or restore the file from a backup",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system does not let a file of its state be used; what is in it is not at fault.
    #[error("{} cannot be used: {source}; nothing in it is lost: make room, or give access, and begin again", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of its own.
    #[error(transparent)]
    Disk(#[from] isthmus_runtime::disk::DiskError),
    /// The federation key.
    #[error(transparent)]
    Key(#[from] isthmus_runtime::key::KeyError),
    /// Its address is taken.
    #[error(transparent)]
    Admin(#[from] isthmus_runtime::admin::AdminError),
    /// It has no identity.
    #[error(transparent)]
    Enrol(#[from] isthmus_runtime::enrolment::EnrolError),
    /// Its port is taken.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Raft stopped.
    #[error(
        "the member stops, and loses nothing that was committed: {0}; where the disk is full make room, then it begins \
         again from what it has"
    )]
    Raft(String),
    /// A metric could not be registered.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl Error {
    /// What redb says of a file: the system's word, or its content's fault.
    pub(crate) fn of_file(path: &Path, error: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match error.into() {
            redb::Error::Io(source) if source.raw_os_error().is_some() => Self::Refused { path, source },
            error => Self::Damaged { path, reason: error.to_string() },
        }
    }
}

/// Why a write, a join or a token is refused, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{error}; {remedy}")]
pub struct Refusal {
    /// The thing and the reason.
    pub error: String,
    /// What to do.
    pub remedy: String,
}

impl Refusal {
    pub(crate) fn new(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { error: error.into(), remedy: remedy.into() }
    }

    /// Of a member that nobody has bootstrapped or joined.
    pub(crate) fn of_no_mesh() -> Self {
        Self::new("this member is of no mesh yet", "bootstrap it, or join it with a token")
    }
}
