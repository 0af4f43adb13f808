//! A request on its way: down the ladder, from endpoint to endpoint, until somebody answers or trying on is wrong.

mod attempt;

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{Request, Response, request::Parts};
use isthmus_core::{
    ladder::{Ladder, Place as Where},
    name::HostScope,
    retry::{Fault, Retry, is_safe},
};

use crate::{
    body::Body,
    pool::Peer,
    snapshot::{View, now},
    worker::Worker,
};

pub(crate) use attempt::{Failed, Hop, ORIGINAL, Opening, exchange, plain, plain_http2};

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
    pub(crate) traceparent: &'a str,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) answer: Result<Response<Body>, Fault>,
    pub(crate) detail: String,
    pub(crate) peer: Option<Rc<Peer>>,
    pub(crate) upstream: String,
    /// Kept as long as the answer's body passes.
    pub(crate) guard: Option<Box<dyn std::any::Any>>,
    pub(crate) hops: Vec<Hop>,
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
    let Some(ladder) = target.view.ladders(target.subset).map(|ladders| ladders.of(target.scope)) else {
        return nowhere("no such subset".into());
    };
    let Some(chosen) = ladder.choose(fastrand::u64(..)) else {
        return nowhere(nothing_usable(target, ladder));
    };
    target.view.budget.lock().earn(now());
    let mut walk =
        Walk { replay: Replay::of(&request), request: Some(request), sent: 0, tries: 0, last: None, hops: vec![] };
    for tier in std::iter::once(chosen).chain(ladder.fallbacks(chosen)) {
        if let Some(outcome) = walk.tier(worker, target, ladder, tier).await {
            return outcome;
        }
    }
    let Failed { fault, detail, .. } = walk.last.unwrap_or_else(Failed::nowhere);
    Outcome { hops: walk.hops, ..failed(fault, detail) }
}

fn failed(fault: Fault, detail: String) -> Outcome {
    Outcome { answer: Err(fault), detail, peer: None, upstream: String::new(), guard: None, hops: vec![] }
}

fn nowhere(detail: String) -> Outcome {
    failed(Fault::NoHealthyUpstream, detail)
}

fn nothing_usable(target: &Target<'_>, ladder: &Ladder) -> String {
    let service = &target.view.service.name;
    if ladder.tiers().is_empty() {
        return format!("{service} has no endpoints in this cluster or any other that exports it");
    }
    let tiers: Vec<_> = ladder
        .tiers()
        .iter()
        .map(|tier| format!("{}: {} of {} endpoints usable", tier.place, tier.usable, tier.total))
        .collect();
    format!("no endpoint of {service} is usable ({})", tiers.join("; "))
}

/// The state of one request's walk.
struct Walk {
    replay: Option<Replay>,
    request: Option<Request<Body>>,
    /// How often something was sent.
    sent: u32,
    tries: usize,
    last: Option<Failed>,
    hops: Vec<Hop>,
}

impl Walk {
    /// Tries a tier; `None`: on to the next.
    async fn tier(
        &mut self,
        worker: &Rc<Worker>,
        target: &Target<'_>,
        ladder: &Ladder,
        index: usize,
    ) -> Option<Outcome> {
        let tier = ladder.tiers().get(index)?;
        let mut avoid = vec![];
        let most = match tier.place {
            Where::Remote(_) => 2,
            _ => tier.endpoints.len().clamp(1, 3),
        };
        for _ in 0..most {
            let request = self.request.take()?;
            self.tries += 1;
            let tried = exchange(worker, target, tier, &mut avoid, request, self.replay.is_some()).await;
            match tried {
                Ok(mut outcome) => {
                    self.hops.append(&mut outcome.hops);
                    outcome.hops = std::mem::take(&mut self.hops);
                    if !self.worth_another(target, &outcome) {
                        return Some(outcome);
                    }
                    self.last = Some(Failed::answered(&outcome));
                }
                Err(mut failed) => {
                    self.hops.append(&mut failed.hops);
                    self.sent += u32::from(failed.sent);
                    let on = self.go_on(target, &mut failed);
                    worker.telemetry.borrow().metrics.retries.with_label_values(&[failed.fault.flag()]).inc();
                    let Failed { fault, detail, .. } = &failed;
                    let end = (!on).then(|| self::failed(*fault, detail.clone()));
                    self.last = Some(failed);
                    if let Some(end) = end {
                        return Some(Outcome { hops: std::mem::take(&mut self.hops), ..end });
                    }
                }
            }
        }
        None
    }

    /// A 503 to a safe request is tried elsewhere, within the budget.
    fn worth_another(&mut self, target: &Target<'_>, outcome: &Outcome) -> bool {
        let unavailable = outcome.answer.as_ref().is_ok_and(|answer| answer.status() == 503);
        let Some(replay) = self.replay.as_ref().filter(|_| unavailable) else { return false };
        self.sent += 1;
        if self.sent > target.retries || self.tries >= MOST_TRIES || !target.view.budget.lock().spend(now()) {
            return false;
        }
        self.request = Some(replay.request());
        true
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
        // A lost path fails everything under way at once, and none of it for the service's sake: it is not paid for.
        let paid = failed.path_lost || target.view.budget.lock().spend(now());
        if failed.sent && (self.sent > target.retries.max(1) || !paid) {
            return false;
        }
        self.request = Some(replay.request());
        true
    }
}
