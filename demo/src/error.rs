//! What can go wrong before an application serves; afterwards only single requests fail.

use std::net::SocketAddr;

/// Why an application does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not to be had.
    #[error("cannot listen on {address}: another process may hold it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Why a call to another service failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address of the service is malformed.
    #[error("{url} is no address: {reason}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer.
    #[error("{url} did not answer: {reason}")]
    Unanswered {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// An answer that is no success.
    #[error("{url} answered {status}: {body}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: http::StatusCode,
        /// The answer's beginning.
        body: String,
    },
}
