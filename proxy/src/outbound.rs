//! From the application into the mesh: the explicit proxy and the service addresses, told apart, routed, sent, recorded.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

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
    snapshot::View,
    telemetry::{Party, Record, Reporter},
    worker::Worker,
};

/// Where a client came in.
#[derive(Clone)]
pub(crate) enum Entry {
    /// The explicit proxy: the request names its target.
    Explicit,
    /// A service's own address and port: that service is meant, whatever host the request names.
    Service(ServiceName, u16),
    /// A plain hop.
    Plain(SocketAddr),
}

/// What of a request the record needs, taken before the request goes its way.
struct Seen {
    method: String,
    path: String,
    http: &'static str,
    authority: String,
    user_agent: String,
    request_id: String,
    forwarded_for: String,
    grpc: bool,
    received: u64,
    /// What counts `received` where nobody said it beforehand.
    counted: Option<Rc<Cell<u64>>>,
    began: Instant,
}

impl Seen {
    fn of(request: &Request<Incoming>) -> Self {
        let headers = request.headers();
        let authority = request.uri().authority().map(ToString::to_string);
        Self {
            method: request.method().as_str().to_owned(),
            path: request.uri().path_and_query().map_or_else(|| "/".into(), ToString::to_string),
            http: version_word(request.version()),
            authority: authority.unwrap_or_else(|| text(headers, "host").to_owned()),
            user_agent: text(headers, "user-agent").to_owned(),
            request_id: text(headers, "x-request-id").to_owned(),
            forwarded_for: text(headers, "x-forwarded-for").to_owned(),
            grpc: text(headers, "content-type").starts_with("application/grpc"),
            received: text(headers, "content-length").parse().unwrap_or_default(),
            counted: None,
            began: Instant::now(),
        }
    }
}

pub(crate) fn version_word(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Serves one request of the application.
pub(crate) async fn serve(worker: Rc<Worker>, entry: Entry, request: Request<Incoming>) -> Response<Body> {
    let mut seen = Seen::of(&request);
    if let Entry::Plain(upstream) = entry {
        return plain(&worker, seen, upstream, request).await;
    }
    let snapshot = worker.shared.snapshot.load_full();
    let authority = seen.authority.clone();
    let (host, port) = self::authority(&authority);
    let found = match &entry {
        Entry::Service(name, port) => {
            snapshot.views.get(name).map(|view| (Arc::clone(view), HostScope::ClusterSet, *port))
        }
        _ => snapshot.host(host).map(|(view, scope)| (view, scope, port.unwrap_or(80))),
    };
    let Some((view, scope, port)) = found else {
        return elsewhere(&worker, seen, host.to_owned(), port, request).await;
    };
    let upgrade = request.headers().contains_key(header::UPGRADE);
    if upgrade && request.version() != Version::HTTP_2 {
        return crate::upgrade::outbound(&worker, &view, scope, port, request).await;
    }
    let (parts, body) = request.into_parts();
    let (body, counted) = Body::of_request(body);
    seen.counted = counted;
    let request = Request::from_parts(parts, body);
    let routed = routed(&worker, &view, scope, port, request, &Steps::default()).await;
    answer(&worker, seen, &view, routed)
}

/// What routing and sending brought.
pub(crate) struct Routed {
    pub(crate) outcome: Outcome,
    pub(crate) route: String,
    /// The service the route led to, when it is another one.
    pub(crate) destination: Option<Arc<View>>,
}

impl Routed {
    fn failed(fault: Fault, detail: String) -> Self {
        Self { outcome: Outcome::failed(fault, detail), route: String::new(), destination: None }
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
    let route = route::find(routes, &asked).cloned();
    let Some(route) = route else {
        if !routes.is_empty() {
            return Routed::failed(Fault::NoRouteFound, format!("no route of {} matches", view.service.name));
        }
        let traceparent = &traceparent;
        let target = Target { view, scope, subset: None, port, retries: 2, per_try: None, traceparent, steps };
        let outcome = forward::forward(worker, &target, request).await;
        return Routed { outcome, route: "default".into(), destination: None };
    };
    let Some(to) = route::destination(&route, fastrand::u64(..)) else {
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
                return Routed { route: route.name, ..Routed::failed(Fault::UpstreamRequestTimeout, detail) };
            }
        },
    };
    Routed { outcome, route: route.name, destination }
}

/// Makes the answer and sees to it that its end is recorded.
fn answer(worker: &Rc<Worker>, seen: Seen, view: &Arc<View>, routed: Routed) -> Response<Body> {
    let Routed { outcome, route, destination } = routed;
    let view = destination.as_ref().unwrap_or(view);
    let record = Record {
        service: Arc::clone(&view.host),
        service_name: view.service.name.name().into(),
        service_namespace: view.service.name.namespace().into(),
        upstream: Arc::clone(&outcome.upstream),
        route,
        ..record(worker, &seen)
    };
    respond(worker, seen, record, outcome)
}

fn record(worker: &Rc<Worker>, seen: &Seen) -> Record {
    Record {
        reporter: Reporter::Source,
        source: Arc::clone(&worker.shared.own),
        destination: unknown(),
        service: "PassthroughCluster".into(),
        service_name: "PassthroughCluster".into(),
        service_namespace: "unknown".into(),
        mutual_tls: true,
        protocol: if seen.grpc { "grpc" } else { "http" },
        code: 0,
        grpc_status: String::new(),
        fault: None,
        received: seen.received,
        sent: 0,
        duration: seen.began.elapsed(),
        method: seen.method.clone(),
        path: seen.path.clone(),
        http: seen.http,
        authority: seen.authority.clone(),
        user_agent: seen.user_agent.clone(),
        request_id: seen.request_id.clone(),
        forwarded_for: seen.forwarded_for.clone(),
        upstream: Arc::clone(&worker.shared.none),
        route: String::new(),
    }
}

thread_local! {
    static UNKNOWN: Arc<Party> = Arc::default();
}

fn unknown() -> Arc<Party> {
    UNKNOWN.with(Arc::clone)
}

/// The answer, or ours in its place; recorded when its last byte has passed.
fn respond(worker: &Rc<Worker>, seen: Seen, mut record: Record, outcome: Outcome) -> Response<Body> {
    let Outcome { answer, detail, peer, guard, .. } = outcome;
    if let Some(peer) = &peer {
        record.destination = peer.party();
    } else {
        // Nobody answered: the cluster that was asked is not known, ours asked.
        record.destination = nobody(worker);
    }
    let response = match answer {
        Ok(response) => response,
        Err(fault) => {
            record.fault = Some(fault);
            explain(fault, &record.authority, &detail)
        }
    };
    record.code = response.status().as_u16();
    finish_with(worker, seen.began, record, response, seen.counted, guard)
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
    began: Instant,
    mut record: Record,
    response: Response<Body>,
    counted: Option<Rc<Cell<u64>>>,
    guard: Option<Box<dyn std::any::Any>>,
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
                if let Some(status) = passed.grpc_status.filter(|_| record.protocol == "grpc") {
                    record.grpc_status = status.to_str().unwrap_or_default().to_owned();
                }
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

/// A host that is no service of the mesh: through, to the host itself.
async fn elsewhere(
    worker: &Rc<Worker>,
    seen: Seen,
    host: String,
    port: Option<u16>,
    request: Request<Incoming>,
) -> Response<Body> {
    if host.ends_with(".svc.clusterset.local") || host.ends_with(".svc.cluster.local") || host.is_empty() {
        let detail = format!("no service of this name is known in cluster {}", worker.shared.config.common.cluster);
        let outcome = Routed::failed(Fault::NoRouteFound, detail).outcome;
        let record = record(worker, &seen);
        return respond(worker, seen, record, outcome);
    }
    let resolved = tokio::net::lookup_host((host.as_str(), port.unwrap_or(80))).await;
    let address = match resolved.map(|mut addresses| addresses.next()) {
        Ok(Some(address)) => address,
        Ok(None) => return explain(Fault::NoHealthyUpstream, &host, "the name has no address"),
        Err(error) => return explain(Fault::NoHealthyUpstream, &host, &error.to_string()),
    };
    plain(worker, seen, address, request).await
}

async fn plain(worker: &Rc<Worker>, seen: Seen, upstream: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let record = Record { upstream: upstream.to_string().into(), mutual_tls: false, ..record(worker, &seen) };
    let outcome = match forward::plain(worker, upstream, request.map(Body::Incoming)).await {
        Ok((answer, _)) => {
            // Nobody of the mesh, who could say what it is.
            let upstream = Arc::clone(&record.upstream);
            Outcome { answer: Ok(answer), detail: String::new(), peer: None, upstream, guard: None }
        }
        Err(failed) => Routed::failed(failed.fault, failed.detail).outcome,
    };
    respond(worker, seen, record, outcome)
}
