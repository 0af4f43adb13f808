//! A try that brought no answer, and what may be done about it.

use std::{rc::Rc, time::Duration};

use http::{Request, Response};
use isthmus_core::retry::Fault;

use crate::{body::Body, pool::Peer};

/// An answer and who gave it, or why there is none.
pub(crate) type Answered = Result<(Response<Body>, Rc<Peer>), Failed>;

/// A try that brought no answer.
pub(crate) struct Failed {
    pub(crate) fault: Fault,
    pub(crate) detail: String,
    /// Whether anything of the request may have left.
    pub(crate) sent: bool,
    /// The request, when nothing of it was sent.
    pub(crate) unsent: Option<Box<Request<Body>>>,
    /// The path to a whole cluster went, not the request's own connection.
    pub(crate) path_lost: bool,
}

impl Failed {
    fn sent(fault: Fault, detail: String) -> Self {
        Self { fault, detail, sent: true, unsent: None, path_lost: false }
    }

    /// Nothing of the request left.
    pub(super) fn unsent(request: Request<Body>, fault: Fault, detail: String) -> Self {
        Self { fault, detail, sent: false, unsent: Some(Box::new(request)), path_lost: false }
    }

    /// Whether it tells nothing of who was asked: the connection had closed while it idled.
    pub(super) fn says_nothing(&self) -> bool {
        self.unsent.is_some() && self.fault == Fault::UpstreamConnectionTermination
    }

    /// There was nothing to try.
    pub(super) fn nowhere() -> Self {
        Self { sent: false, ..Self::sent(Fault::NoHealthyUpstream, "no endpoint could be tried".into()) }
    }

    /// An answer came that is worth another try.
    pub(super) fn answered(upstream: &str, why: &str) -> Self {
        Self::sent(Fault::UpstreamRetryLimitExceeded, format!("{upstream} answered {why}"))
    }

    pub(super) fn timed_out(within: Duration) -> Self {
        Self::sent(Fault::UpstreamRequestTimeout, format!("no answer within {within:?}"))
    }

    pub(super) fn path_lost(detail: String) -> Self {
        Self { path_lost: true, ..Self::sent(Fault::UpstreamConnectionTermination, detail) }
    }

    /// What hyper says; `message` is the request when it did not leave.
    pub(super) fn unanswered(message: Option<Request<Body>>, error: &hyper::Error) -> Self {
        let (fault, detail) = (Fault::UpstreamConnectionTermination, error.to_string());
        match message {
            Some(request) => Self::unsent(request, fault, detail),
            None => Self::sent(fault, detail),
        }
    }
}
