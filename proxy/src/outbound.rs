//! From the application into the mesh: the explicit proxy and the service addresses, told apart, routed, sent, recorded.

mod passthrough;

use std::{borrow::Cow, cell::Cell, rc::Rc, sync::Arc, time::Instant};

use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use isthmus_core::{
    name::{HostScope, ServiceName},
    retry::Fault,
    route::{self, Asked},
};

use crate::{
    body::{Body, Passed, Watched},
    forward::{self, FLAGS, Outcome, Steps, Target},
    passage::Late,
    snapshot::{View, now},
    telemetry::{
        Called, Party, Record, Reporter,
        head::{self, Head},
    },
    worker::Worker,
};

pub(crate) use self::passthrough::Plain;

/// Where a client came in.
pub(crate) enum Entry {
    /// The explicit proxy: the request names its target.
    Explicit,
    /// A service's own address and port: that service is meant, in this scope, whatever host the request names.
    Service(ServiceName, u16, HostScope),
    /// A plain hop.
    Plain(Plain),
}

/// What of a request the record needs, taken before the request goes its way.
struct Seen {
    head: Head,
    protocol: &'static str,
    received: u64,
    measured: Measured,
}

/// What an exchange is measured by.
pub(crate) struct Measured {
    pub(crate) began: Instant,
    /// Counts the request's bytes where nobody said beforehand how many come.
    pub(crate) received: Option<Rc<Cell<u64>>>,
}

impl Seen {
    fn of(request: &Request<Incoming>) -> Self {
        let headers = request.headers();
        let (protocol, received) = (head::protocol(headers), head::announced(headers));
        let measured = Measured { began: Instant::now(), received: None };
        Self { head: Head::of(request), protocol, received, measured }
    }

    /// The record of a request for `called`, so far without an answer.
    fn record(self, worker: &Worker, called: &Arc<Called>, upstream: &Arc<str>) -> (Record, Measured) {
        let parties = [Arc::clone(&worker.shared.own), nobody(worker)];
        let record = Record::new(Reporter::Source, parties, Arc::clone(called), Arc::clone(upstream));
        (record.request(self.head, self.protocol, self.received), self.measured)
    }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Serves one request of the application.
pub(crate) async fn serve(worker: Rc<Worker>, entry: Rc<Entry>, request: Request<Incoming>) -> Response<Body> {
    let mut seen = Seen::of(&request);
    if let Entry::Plain(upstream) = &*entry {
        return passthrough::plain(&worker, seen, upstream, request).await;
    }
    let (host, port) = authority(seen.head.authority());
    let found = called(&worker, &entry, host, port);
    let Some((view, scope, port)) = found else {
        let host = host.to_owned();
        return passthrough::elsewhere(&worker, seen, host, port, request).await;
    };
    let upgrade = request.headers().contains_key(header::UPGRADE);
    if upgrade && request.version() != Version::HTTP_2 {
        return crate::upgrade::outbound(&worker, &view, scope, port, request).await;
    }
    let (parts, body) = request.into_parts();
    let (body, counted) = Body::of_request(body);
    seen.measured.received = counted;
    let request = Request::from_parts(parts, body);
    let routed = routed(&worker, &view, scope, port, request, &Steps::default()).await;
    answer(&worker, seen, &view, routed)
}

/// The service, and the port of it, that a client means.
fn called(worker: &Worker, entry: &Entry, host: &str, port: Option<u16>) -> Option<(Arc<View>, HostScope, u16)> {
    let snapshot = worker.shared.snapshot.load();
    match entry {
        Entry::Service(name, port, scope) => Some((Arc::clone(snapshot.views.get(name)?), *scope, *port)),
        _ => snapshot.host(host).map(|(view, scope)| (view, scope, port.unwrap_or(80))),
    }
}

/// What routing and sending brought.
pub(crate) struct Routed {
    pub(crate) outcome: Outcome,
    pub(crate) route: Cow<'static, str>,
    /// The service the route led to, when it is another one.
    pub(crate) destination: Option<Arc<View>>,
}

impl Routed {
    fn failed(fault: Fault, detail: String) -> Self {
        Self { outcome: Outcome::failed(fault, detail), route: Cow::Borrowed(""), destination: None }
    }
}

/// Routes a request by the service's rules and sends it.
pub(crate) async fn routed(
    worker: &Rc<Worker>,
    view: &Arc<View>,
    called: HostScope,
    port: u16,
    request: Request<Body>,
    steps: &Steps,
) -> Routed {
    let scope = view.scope(called);
    let traceparent = text(request.headers(), "traceparent").to_owned();
    let routes = &view.service.routes;
    let asked = Asked {
        path: request.uri().path(),
        method: request.method().as_str(),
        port,
        header: |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()),
    };
    let Some(route) = route::find(routes, &asked) else {
        if !routes.is_empty() {
            return Routed::failed(Fault::NoRouteFound, format!("no route of {} matches", view.service.name));
        }
        let traceparent = &traceparent;
        let target =
            Target { view, scope, subset: None, port, retries: 2, per_try: None, deadline: None, traceparent, steps };
        let outcome = forward::forward(worker, &target, request).await;
        return Routed { outcome, route: "default".into(), destination: None };
    };
    let Some(to) = route::destination(route, fastrand::u64(..)) else {
        return Routed::failed(Fault::NoRouteFound, format!("route {} has no destination that is known", route.name));
    };
    let other =
        (to.service != view.service.name).then(|| worker.shared.snapshot.load().views.get(&to.service).cloned());
    let destination = other.flatten();
    let target = Target {
        view: destination.as_ref().unwrap_or(view),
        scope,
        subset: to.subset.as_deref(),
        port: to.port.unwrap_or(port),
        retries: route.retries.attempts,
        per_try: route.retries.per_try_timeout,
        deadline: route.timeout.map(|limit| now() + limit),
        traceparent: &traceparent,
        steps,
    };
    let forwarding = forward::forward(worker, &target, request);
    let outcome = match route.timeout {
        None => forwarding.await,
        Some(limit) => match tokio::time::timeout(limit, forwarding).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let detail = format!("route {} has a timeout of {limit:?}", route.name);
                return Routed {
                    route: route.name.clone().into(),
                    ..Routed::failed(Fault::UpstreamRequestTimeout, detail)
                };
            }
        },
    };
    Routed { outcome, route: route.name.clone().into(), destination }
}

/// Makes the answer and sees to it that its end is recorded.
fn answer(worker: &Rc<Worker>, seen: Seen, view: &Arc<View>, routed: Routed) -> Response<Body> {
    let Routed { outcome, route, destination } = routed;
    let view = destination.as_ref().unwrap_or(view);
    let (record, measured) = seen.record(worker, &view.called, &outcome.upstream);
    respond(worker, measured, Record { route, ..record }, outcome)
}

/// The answer, or ours in its place; recorded when its last byte has passed.
fn respond(worker: &Rc<Worker>, measured: Measured, mut record: Record, outcome: Outcome) -> Response<Body> {
    let Outcome { answer, detail, peer, guard, late, .. } = outcome;
    if let Some(peer) = &peer {
        record.destination = peer.party();
    }
    let response = match answer {
        Ok(response) => response,
        Err(fault) => {
            record.fault = Some(fault);
            explain(fault, record.said(Head::authority), &detail)
        }
    };
    record.code = response.status().as_u16();
    finish_with(worker, measured, record, response, (guard, late))
}

/// Nobody answered; what is said of the destination is what the caller knows.
pub(crate) fn nobody(worker: &Worker) -> Arc<Party> {
    thread_local! {
        static NOBODY: std::cell::OnceCell<Arc<Party>> = const { std::cell::OnceCell::new() };
    }
    NOBODY.with(|cell| {
        let party = cell.get_or_init(|| {
            let cluster = worker.shared.config.common.cluster.to_string();
            Arc::new(Party::new(isthmus_wire::tunnel::Metadata { cluster, ..Default::default() }, None))
        });
        Arc::clone(party)
    })
}

/// Records the exchange when the answer's last byte has passed.
pub(crate) fn finish_with(
    worker: &Rc<Worker>,
    Measured { began, received: counted }: Measured,
    mut record: Record,
    response: Response<Body>,
    (guard, late): (Option<Box<dyn std::any::Any>>, Option<Late>),
) -> Response<Body> {
    if record.protocol == "grpc" {
        record.grpc_status = text(response.headers(), "grpc-status").to_owned();
    }
    response.map(|body| match body {
        Body::Incoming(body) if !hyper::body::Body::is_end_stream(&body) => {
            let worker = Rc::clone(worker);
            let end = move |passed: Passed| {
                record.sent = passed.bytes;
                record.received = counted.map_or(record.received, |counted| counted.get());
                record.duration = began.elapsed();
                let status = passed.grpc_status.as_ref().and_then(|status| status.to_str().ok());
                if let Some(status) = status.filter(|_| record.protocol == "grpc") {
                    record.grpc_status = status.to_owned();
                }
                late.zip(status).into_iter().for_each(|(late, status)| late.ended(status));
                if !passed.whole {
                    record.fault.get_or_insert(Fault::DownstreamConnectionTermination);
                }
                worker.telemetry.borrow_mut().request(&record);
                drop(guard);
            };
            Body::Watched(Watched::new(body, end))
        }
        body => {
            record.sent = hyper::body::Body::size_hint(&body).exact().unwrap_or_default();
            record.received = counted.map_or(record.received, |counted| counted.get());
            record.duration = began.elapsed();
            worker.telemetry.borrow_mut().request(&record);
            body
        }
    })
}

/// An error of ours: the thing, the reason, and the flag that is in the access log too.
pub(crate) fn explain(fault: Fault, authority: &str, detail: &str) -> Response<Body> {
    let mut response = Response::new(Body::text(format!("{authority}: {detail} ({})\n", fault.flag())));
    *response.status_mut() = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(FLAGS, header::HeaderValue::from_static(fault.flag()));
    response
}

/// `host[:port]`, IPv6 in brackets.
pub(crate) fn authority(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, port.parse().ok())
        }
        _ => (text, None),
    }
}
