//! Requests that become something else (RFC 9110, 7.8; WebSocket, RFC 6455): an inner HTTP/1.1 connection of their own,
//! and bytes both ways once the server switched.

use std::{rc::Rc, sync::Arc, time::Instant};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use isthmus_core::{name::HostScope, retry::Fault};

use crate::{
    body::Body,
    connect::Inner,
    forward::{Steps, Target},
    outbound::{explain, finish_with},
    snapshot::View,
    stream::{self, Opened},
    telemetry::head::Head,
    worker::Worker,
};

/// From the application to a service.
pub(crate) async fn outbound(
    worker: &Rc<Worker>,
    view: &Arc<View>,
    called: HostScope,
    port: u16,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let began = Instant::now();
    let scope = view.scope(called);
    let steps = &Steps::default();
    let target = Target { view, scope, subset: None, port, retries: 0, per_try: None, traceparent: "", steps };
    let mut record = stream::record(worker, view).request(Head::of(&request), "http", 0);
    let client = hyper::upgrade::on(&mut request);
    let answered = match stream::open(worker, &target, Inner::Http1).await {
        Ok(Opened { stream, peer, upstream, guard }) => {
            record.upstream = upstream;
            let sent = send(stream, request).await.map_err(|error| error.to_string());
            record.destination = peer.party();
            sent.map(|answer| (answer, guard))
        }
        Err((_, detail)) => Err(detail),
    };
    match answered {
        Ok((answer, guard)) => {
            record.code = answer.status().as_u16();
            let answer = switch(client, answer, guard);
            finish_with(worker, began, record, answer, None)
        }
        Err(detail) => {
            let fault = Fault::UpstreamConnectionFailure;
            let answer = explain(fault, record.said(Head::authority), &detail);
            record.fault = Some(fault);
            record.code = answer.status().as_u16();
            finish_with(worker, began, record, answer, None)
        }
    }
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

/// When the server switched: joins both ends as soon as the client has its answer.
pub(crate) fn switch(
    client: hyper::upgrade::OnUpgrade,
    mut answer: Response<Incoming>,
    guard: Option<Box<dyn std::any::Any>>,
) -> Response<Body> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let server = hyper::upgrade::on(&mut answer);
        tokio::task::spawn_local(async move {
            if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
            }
            drop(guard);
        });
        let (parts, _) = answer.into_parts();
        return Response::from_parts(parts, Body::empty());
    }
    answer.map(Body::Incoming)
}
