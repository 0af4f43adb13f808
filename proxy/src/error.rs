//! Why a sidecar does not begin or go on.

/// Why a sidecar ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its address is taken.
    #[error(transparent)]
    Admin(#[from] isthmus_runtime::admin::AdminError),
    /// It has no identity.
    #[error(transparent)]
    Enrol(#[from] isthmus_runtime::enrolment::EnrolError),
    /// A port, a thread or a file.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A metric could not be registered.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
