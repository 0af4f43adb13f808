//! A request on its way: down the ladder, from endpoint to endpoint, until somebody answers or trying on is wrong.

mod failed;
mod hop;
mod http1;
mod http2;
mod local;
mod next;
mod opening;
mod refusal;
mod remote;
mod stall;

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{HeaderName, Request, Response, header::CONTENT_TYPE, request::Parts};
use isthmus_core::{
    failover::window::is_grpc_failure,
    ladder::{Place, Tier},
    name::{ClusterName, HostScope},
    outlier::Showed,
    retry::{Fault, Retry, is_safe},
};

use crate::{
    body::Body,
    passage::{Late, Passage, Trying},
    pool::{Peer, link::LinkKey},
    snapshot::{Rungs, View, Vital, now},
    worker::Worker,
};

pub(crate) use self::{
    failed::{Answered, Failed},
    hop::{Hop, Steps},
    http1::plain,
    http2::{ORIGINAL, plain as plain_http2},
    opening::Opening,
    refusal::{HeldBack, is_left, nothing_usable, rate},
};

/// Said by a sidecar with an answer of its own: the response flag of what went wrong behind it.
pub(crate) const FLAGS: HeaderName = HeaderName::from_static("x-isthmus-flags");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Tries of one request, over all endpoints and tiers, that were never sent: a bound on walking, not on retrying.
const MOST_TRIES: usize = 12;

/// Where a request goes, after routing.
pub(crate) struct Target<'a> {
    pub(crate) view: &'a Arc<View>,
    pub(crate) scope: HostScope,
    pub(crate) subset: Option<&'a str>,
    pub(crate) port: u16,
    /// Retries beyond the first try, once something was sent.
    pub(crate) retries: u32,
    pub(crate) per_try: Option<Duration>,
    /// When the route's time is up, as [`now`] counts.
    pub(crate) deadline: Option<Duration>,
    pub(crate) traceparent: &'a str,
    pub(crate) steps: &'a Steps,
}

impl Target<'_> {
    /// What its connections to a cluster are kept under.
    fn link_to(&self, cluster: &ClusterName) -> LinkKey {
        LinkKey {
            service: self.view.service.name.clone(),
            port: self.port,
            subset: self.subset.map(ToOwned::to_owned),
            cluster: cluster.clone(),
        }
    }

    /// The outcome of a try, when it is there within the route's limit for one.
    async fn in_time<F: Future>(&self, trying: F) -> Result<F::Output, Failed> {
        match self.per_try {
            None => Ok(trying.await),
            Some(within) => tokio::time::timeout(within, trying).await.map_err(|_| Failed::timed_out(within)),
        }
    }

    /// Takes what a try showed of an endpoint, one of `total` of which so many are `resting`.
    fn judge(&self, vital: &Vital, total: usize, resting: impl FnOnce() -> usize, tried: &Answered) {
        let showed = match tried {
            Ok((answer, _)) if answer.status().is_server_error() => Showed::Failure,
            Ok(_) => Showed::Success,
            Err(failed) if failed.says_nothing() => return,
            Err(_) => Showed::Failure,
        };
        if vital.observe(showed, &self.view.service.policy.outlier, total, resting) {
            tracing::warn!(endpoint = %vital.upstream, service = %self.view.service.name, "endpoint ejected after failures in a row");
        }
    }
}

/// Where one request was tried.
#[derive(Default)]
struct Tried {
    /// Of the own cluster, by index.
    local: Vec<usize>,
    /// Of other clusters.
    remote: Vec<Arc<Vital>>,
    /// Gateways of other clusters that it was lost with on the way.
    lost: Vec<String>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) answer: Result<Response<Body>, Fault>,
    pub(crate) detail: String,
    pub(crate) peer: Option<Rc<Peer>>,
    /// The endpoint's address, or its id in another cluster.
    pub(crate) upstream: Arc<str>,
    /// Kept as long as the answer's body passes.
    pub(crate) guard: Option<Box<dyn std::any::Any>>,
    /// Told the status that the answer ends with.
    pub(crate) late: Option<Late>,
}

impl Outcome {
    fn answered(answer: Response<Body>, peer: Rc<Peer>, upstream: Arc<str>, guard: Box<dyn std::any::Any>) -> Self {
        Self { answer: Ok(answer), detail: String::new(), peer: Some(peer), upstream, guard: Some(guard), late: None }
    }

    /// Whether the application answered with an error; `None`: that is told at the end of its answer.
    fn is_error(&self) -> Option<bool> {
        let Ok(answer) = &self.answer else { return Some(false) };
        let said = |name: &HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let is_error = answer.status().is_server_error() || said(&GRPC_STATUS).is_some_and(is_grpc_failure);
        let is_grpc = said(&CONTENT_TYPE).is_some_and(|of| of.starts_with("application/grpc"));
        (is_error || !is_grpc || said(&GRPC_STATUS).is_some()).then_some(is_error)
    }

    pub(crate) fn failed(fault: Fault, detail: String) -> Self {
        Self { answer: Err(fault), detail, peer: None, upstream: "".into(), guard: None, late: None }
    }
}

/// What is needed to send a safe request again.
struct Replay {
    parts: Parts,
}

impl Replay {
    fn of(request: &Request<Body>) -> Option<Self> {
        let bodiless = http_body::Body::is_end_stream(request.body());
        if !is_safe(request.method().as_str()) || !bodiless {
            return None;
        }
        let mut copy = Request::new(());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        *copy.version_mut() = request.version();
        Some(Self { parts: copy.into_parts().0 })
    }

    fn request(&self) -> Request<Body> {
        Request::from_parts(self.parts.clone(), Body::empty())
    }
}

/// Sends a request to a service.
pub(crate) async fn forward(worker: &Rc<Worker>, target: &Target<'_>, request: Request<Body>) -> Outcome {
    let Some(rungs) = target.view.ladders(target.subset).map(|ladders| ladders.of(target.scope)) else {
        return nowhere("no such subset".into());
    };
    let Some(chosen) = rungs.ladder.choose(fastrand::u64(..)) else {
        return nowhere(nothing_usable(target, &rungs.ladder));
    };
    target.view.budget.lock().earn(now());
    let mut walk = Walk::of(request);
    if let Some(outcome) = walk.down(worker, target, rungs, chosen).await {
        next::keep_warm(worker, target, rungs, chosen);
        return outcome;
    }
    if walk.request.is_some()
        && stall::way_comes_back(worker, &rungs.ladder).await
        && let Some(outcome) = walk.down(worker, target, rungs, chosen).await
    {
        return outcome;
    }
    let failed = walk.last.as_ref().map(|failed| failed.detail.as_str());
    if let Some(detail) = walk.held_back.told(&target.view.service.name, failed) {
        return Outcome::failed(Fault::UpstreamOverflow, detail);
    }
    let Failed { fault, detail, .. } = walk.last.unwrap_or_else(Failed::nowhere);
    Outcome::failed(fault, detail)
}

fn nowhere(detail: String) -> Outcome {
    Outcome::failed(Fault::NoHealthyUpstream, detail)
}

/// One try in a tier.
async fn exchange(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    tier: &Tier,
    tried: &mut Tried,
    request: Request<Body>,
    safe: bool,
) -> Result<Outcome, Failed> {
    match &tier.place {
        Place::Remote(cluster) => remote::exchange(worker, target, tier, cluster, tried, request, safe).await,
        _ => local::exchange(worker, target, tier, tried, request).await,
    }
}

/// What a try showed of a cluster.
fn count(trying: Trying<'_>, exchanged: &mut Result<Outcome, Failed>, passage: &Arc<Passage>, worker: usize) {
    match exchanged {
        Err(failed) if failed.says_nothing() => trying.void(),
        Err(_) => trying.ended(true),
        Ok(outcome) => {
            let is_error = outcome.is_error();
            trying.ended(is_error.unwrap_or_default());
            outcome.late = is_error.is_none().then(|| Late { passage: Arc::clone(passage), worker });
        }
    }
}

/// Why an answer to a safe request is not the last word: the service is unavailable, or it is not the application's
/// answer but its sidecar's, and trying elsewhere is right.
fn worth_another(answer: &Response<Body>) -> Option<&str> {
    let flag = answer.headers().get(FLAGS).and_then(|flag| flag.to_str().ok());
    flag.filter(|flag| Fault::of_flag(flag).is_some_and(|fault| fault.retry() != Retry::No))
        .or_else(|| (answer.status() == 503).then_some("503"))
}

/// The state of one request's walk.
struct Walk {
    replay: Option<Replay>,
    request: Option<Request<Body>>,
    /// How often something was sent, and no lost path took it.
    sent: u32,
    tries: usize,
    last: Option<Failed>,
    held_back: HeldBack,
}

impl Walk {
    fn of(request: Request<Body>) -> Self {
        let held_back = HeldBack::default();
        Self { replay: Replay::of(&request), request: Some(request), sent: 0, tries: 0, last: None, held_back }
    }

    /// From the chosen tier on through all that may be tried; `None`: nobody answered.
    async fn down(
        &mut self,
        worker: &Rc<Worker>,
        target: &Target<'_>,
        rungs: &Rungs,
        chosen: usize,
    ) -> Option<Outcome> {
        for index in std::iter::once(chosen).chain(rungs.ladder.fallbacks(chosen)) {
            if self.tries == 0 && self.held_back.bars(&rungs.ladder, chosen, index) {
                continue;
            }
            if let Some(outcome) = self.tier(worker, target, rungs, index).await {
                return Some(outcome);
            }
        }
        None
    }

    /// Tries a tier; `None`: on to the next.
    async fn tier(&mut self, worker: &Rc<Worker>, target: &Target<'_>, rungs: &Rungs, index: usize) -> Option<Outcome> {
        let (tier, passage) = rungs.at(index)?;
        let mut tried = Tried::default();
        let mut left = match tier.place {
            Place::Remote(_) => (tier.usable as usize).clamp(2, 3),
            _ => tier.endpoints.len().clamp(1, 3),
        };
        while left > 0 {
            left -= 1;
            let trying = match passage.enter(worker.number, target.deadline) {
                Ok(trying) => trying,
                Err(limit) => {
                    self.held_back.by(target, &passage.cluster, limit);
                    return None;
                }
            };
            let request = self.request.take()?;
            self.tries += 1;
            let mut exchanged = exchange(worker, target, tier, &mut tried, request, self.replay.is_some()).await;
            count(trying, &mut exchanged, passage, worker.number);
            match exchanged {
                Ok(outcome) => match self.another(target, &outcome) {
                    None => return Some(outcome),
                    Some(failed) => self.last = Some(failed),
                },
                Err(mut failed) => {
                    self.sent += u32::from(failed.sent && !failed.path_lost);
                    // The endpoints of the tier had no part in it, and there may be another way to them.
                    left += usize::from(failed.path_lost);
                    worker.telemetry.borrow().metrics.retries.with_label_values(&[failed.fault.flag()]).inc();
                    if !self.go_on(target, &mut failed) {
                        return Some(Outcome::failed(failed.fault, failed.detail));
                    }
                    self.last = Some(failed);
                }
            }
        }
        None
    }

    /// Whether to try for another answer, with the request ready for it; within the budget.
    fn another(&mut self, target: &Target<'_>, outcome: &Outcome) -> Option<Failed> {
        let replay = self.replay.as_ref()?;
        let why = worth_another(outcome.answer.as_ref().ok()?)?;
        // The far sidecar did not reach its application: nothing of the request did either, so it is not paid for.
        let unreached = why == Fault::UpstreamConnectionFailure.flag();
        self.sent += u32::from(!unreached);
        let paid = || unreached || target.view.budget.lock().spend(now());
        if self.sent > target.retries || self.tries >= MOST_TRIES || !paid() {
            return None;
        }
        self.request = Some(replay.request());
        Some(Failed::answered(&outcome.upstream, why))
    }

    /// Whether to try again, with the request ready for it.
    fn go_on(&mut self, target: &Target<'_>, failed: &mut Failed) -> bool {
        if self.tries >= MOST_TRIES {
            return false;
        }
        if let Some(unsent) = failed.unsent.take() {
            self.request = Some(*unsent);
            return true;
        }
        let Some(replay) = self.replay.as_ref().filter(|_| failed.fault.retry() != Retry::No) else { return false };
        // A lost path fails everything under way at once, and none of it for the service's sake: it is neither counted nor paid
        // for. What falls silent is found out tunnel by tunnel, so a request may lose its way several times in a moment.
        let may = || self.sent <= target.retries.max(1) && target.view.budget.lock().spend(now());
        if failed.sent && !failed.path_lost && !may() {
            return false;
        }
        self.request = Some(replay.request());
        true
    }
}
