//! Requests that become something else (RFC 9110, 7.8; WebSocket, RFC 6455): an inner HTTP/1.1 connection of their own,
//! and bytes both ways once the server switched. The record is written when those end.

use std::{borrow::Cow, rc::Rc, sync::Arc, time::Instant};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use isthmus_core::{
    name::HostScope,
    retry::Fault,
    route::{self, Asked},
};

use crate::{
    body::Body,
    connect::Inner,
    forward::{Steps, Target},
    outbound::{Measured, explain, finish_with},
    snapshot::View,
    stream::{self, Opened},
    telemetry::{Record, head::Head},
    worker::Worker,
};

/// Where a request goes by the service's rules.
struct Way {
    route: Cow<'static, str>,
    view: Arc<View>,
    subset: Option<String>,
    port: u16,
}

/// From the application to a service.
pub(crate) async fn outbound(
    worker: &Rc<Worker>,
    view: &Arc<View>,
    called: HostScope,
    port: u16,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let began = Instant::now();
    let client = hyper::upgrade::on(&mut request);
    let mut record = stream::record(worker, view).request(Head::of(&request), "http", 0);
    let answered = match way(worker, view, port, &request) {
        Ok(way) => {
            record.called = Arc::clone(&way.view.called);
            record.route.clone_from(&way.route);
            ask(worker, &way, view.scope(called), request, &mut record).await
        }
        Err(failed) => Err(failed),
    };
    match answered {
        Ok((answer, guard)) => switch(worker, began, record, client, answer, guard),
        Err((fault, detail)) => {
            let answer = explain(fault, record.said(Head::authority), &detail);
            record.fault = Some(fault);
            record.code = answer.status().as_u16();
            finish_with(worker, Measured { began, received: None }, record, answer, (None, None))
        }
    }
}

fn way(worker: &Worker, view: &Arc<View>, port: u16, request: &Request<Incoming>) -> Result<Way, (Fault, String)> {
    let routes = &view.service.routes;
    let asked = Asked {
        path: request.uri().path(),
        method: request.method().as_str(),
        port,
        header: |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()),
    };
    let nowhere = |detail: String| (Fault::NoRouteFound, detail);
    let Some(route) = route::find(routes, &asked) else {
        if !routes.is_empty() {
            return Err(nowhere(format!("no route of {} matches", view.service.name)));
        }
        return Ok(Way { route: "default".into(), view: Arc::clone(view), subset: None, port });
    };
    let to = route::destination(route, fastrand::u64(..))
        .ok_or_else(|| nowhere(format!("route {} has no destination that is known", route.name)))?;
    let other = worker.shared.snapshot.load().views.get(&to.service).cloned();
    let view = other.unwrap_or_else(|| Arc::clone(view));
    Ok(Way { route: route.name.clone().into(), view, subset: to.subset.clone(), port: to.port.unwrap_or(port) })
}

type Guard = Option<Box<dyn std::any::Any>>;

async fn ask(
    worker: &Rc<Worker>,
    way: &Way,
    scope: HostScope,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<(Response<Incoming>, Guard), (Fault, String)> {
    let (view, subset, steps) = (&way.view, way.subset.as_deref(), &Steps::default());
    let target = Target {
        view,
        scope,
        subset,
        port: way.port,
        retries: 0,
        per_try: None,
        deadline: None,
        traceparent: "",
        steps,
    };
    let Opened { stream, peer, upstream, guard } = stream::open(worker, &target, Inner::Http1).await?;
    record.upstream = upstream;
    let sent = send(stream, request).await;
    record.destination = peer.party();
    sent.map(|answer| (answer, guard)).map_err(|error| (Fault::UpstreamConnectionTermination, error.to_string()))
}

/// Sends a request on a connection of its own.
pub(crate) async fn send<S>(stream: S, request: Request<Incoming>) -> Result<Response<Incoming>, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.with_upgrades().await;
    });
    let (mut parts, body) = request.into_parts();
    if let Some(path) = parts.uri.path_and_query().cloned() {
        parts.uri = path.into();
    }
    sender.send_request(Request::from_parts(parts, body)).await
}

/// The client's answer; where the server switched, both ends are joined as soon as the client has it.
pub(crate) fn switch(
    worker: &Rc<Worker>,
    began: Instant,
    mut record: Record,
    client: OnUpgrade,
    mut answer: Response<Incoming>,
    guard: Guard,
) -> Response<Body> {
    record.code = answer.status().as_u16();
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let measured = Measured { began, received: None };
        return finish_with(worker, measured, record, answer.map(Body::Incoming), (guard, None));
    }
    let (server, worker) = (hyper::upgrade::on(&mut answer), Rc::clone(worker));
    let entered = worker.shared.under_way.enter();
    tokio::task::spawn_local(async move {
        if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
            let carried = stream::both_ways(&mut TokioIo::new(client), &mut TokioIo::new(server), || {}).await;
            (record.received, record.sent) = (carried.received, carried.sent);
        }
        record.duration = began.elapsed();
        worker.telemetry.borrow_mut().request(&record);
        drop((guard, entered));
    });
    answer.map(|_| Body::empty())
}
