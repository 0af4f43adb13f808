//! From the mesh to the application: mutual TLS ends here, who calls is told to the application, and only by us.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Request, Response, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use isthmus_core::{
    model::Endpoint,
    name::{ServiceName, SpiffeId},
    retry::Fault,
};
use isthmus_runtime::{drain::Drain, places::Places, tls};
use isthmus_wire::{frame::Kind, tunnel::Metadata};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    SAID_FIRST,
    body::Body,
    connect::{Inner, parse_server_name},
    detect::Rewound,
    dial::Dial,
    forward,
    fronted::Fronted,
    outbound::{Measured, explain, finish_with},
    pool::Peer,
    stream,
    telemetry::{
        Called, Record, Reporter,
        head::{self, Head},
    },
    upgrade,
    worker::{Here, Worker},
};

/// A request's head must be there in this time; between requests it is how long a connection may idle.
const HEADER_LIMIT: Duration = Duration::from_secs(60);
/// The same where the client knows of no sidecar, and reuses a connection for as long as a server usually lets it: load
/// balancers do so for ten minutes (Envoy's default is this hour too).
const IDLE_LIMIT: Duration = Duration::from_secs(3600);
/// The half-open are cut after so long.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Who calls, for the application (Istio's and Envoy's header of this name).
const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Headers of a request, bytes; longer ones are refused with 431.
pub(crate) const MAX_HEADERS: usize = 60 * 1024;

/// Who calls, and whom.
pub(crate) struct Caller {
    /// Who it is, and how the application is told; `None`: it has shown no identity.
    proven: Option<(SpiffeId, HeaderValue)>,
    peer: Peer,
    called: Arc<Called>,
    application: Dial,
    /// The application as the access log has it.
    upstream: Arc<str>,
}

impl Caller {
    /// One that came without mutual TLS.
    pub(crate) fn unknown(called: Arc<Called>, application: Dial) -> Self {
        let upstream = application.to.to_string().into();
        Self { proven: None, peer: Peer::new(None, None, Metadata::default()), called, application, upstream }
    }
}

/// Serves one inner connection.
pub(crate) async fn serve(worker: Rc<Worker>, acceptor: TlsAcceptor, unproven: Places, stream: TcpStream) {
    let refuse = |reason: &str| worker.telemetry.borrow().metrics.refused.with_label_values(&["inbound", reason]).inc();
    let _ = stream.set_nodelay(true);
    let Ok(from) = stream.peer_addr() else { return refuse("half_open") };
    let place = unproven.take(from.ip());
    let shaking = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream));
    let shaken = match place.unless_needed(shaking).await {
        Some(Ok(Ok(shaken))) => shaken,
        Some(Ok(Err(error))) => {
            refuse("handshake");
            tracing::debug!(reason = tls::explain(&error), "an inner connection is refused");
            return;
        }
        Some(Err(_)) => return refuse("half_open"),
        None => return refuse("displaced"),
    };
    drop(place);
    let Some((inner, id, service, port)) = about(&shaken) else { return refuse("unnamed") };
    let Some((called, application)) = target(&worker, &service, port, from.ip()) else {
        tracing::debug!(%service, port, "an inner connection asks for what this workload does not offer");
        return refuse("not_offered");
    };
    let (mut stream, arrived) = Fronted::new(shaken, worker.shared.connector.metadata(), Kind::Metadata, |_| Ok(()));
    let assumed = Metadata { cluster: cluster_of(&id), namespace: id.namespace().to_owned(), ..Metadata::default() };
    let own = worker.shared.connector.identity().spiffe();
    let xfcc = format!("By={own};URI={id}");
    let Ok(xfcc) = HeaderValue::from_str(&xfcc) else { return refuse("unnamed") };
    let peer = Peer::new(Some(arrived), Some(id.clone()), assumed);
    let upstream = application.to.to_string().into();
    let caller = Caller { proven: Some((id, xfcc)), peer, called, application, upstream };
    match inner {
        Inner::Tcp => drop(tcp(worker, caller, &mut stream).await),
        Inner::Http1 | Inner::Http2 => http(worker, caller, Rewound::fresh(stream)).await,
    }
}

/// The cluster of a trust domain of the mesh: its first label.
fn cluster_of(id: &SpiffeId) -> String {
    id.trust_domain().as_str().split('.').next().unwrap_or_default().to_owned()
}

fn about(stream: &TlsStream<TcpStream>) -> Option<(Inner, SpiffeId, ServiceName, u16)> {
    let (_, connection) = stream.get_ref();
    let alpn = connection.alpn_protocol()?;
    let inner = Inner::ALL.into_iter().find(|inner| inner.alpn() == alpn)?;
    let id = tls::peer_spiffe(connection.peer_certificates())?;
    let (service, port) = parse_server_name(connection.server_name()?)?;
    Some((inner, id, service, port))
}

/// The application's port behind a service's port, when this workload offers it.
fn target(worker: &Worker, service: &ServiceName, port: u16, client: IpAddr) -> Option<(Arc<Called>, Dial)> {
    let config = &worker.shared.config;
    let snapshot = worker.shared.snapshot.load();
    let view = snapshot.views.get(service)?;
    // A pod's address is nobody else's in its cluster; on one machine workloads may share theirs with others.
    let is_own = |endpoint: &Endpoint| match config.capture {
        Some(_) => endpoint.address.ip() == config.application,
        None => endpoint.id.as_str() == config.common.name,
    };
    let endpoint = view.endpoints.local.iter().find(|endpoint| is_own(endpoint))?;
    let address = SocketAddr::new(config.application, *endpoint.targets.get(&port)?);
    Some((Arc::clone(&view.called), Dial::application(address, config.capture, Some(client))))
}

/// Carries opaque bytes to the application and records the connection; says whether the application took it.
pub(crate) async fn tcp<S>(worker: Rc<Worker>, caller: Caller, stream: &mut S) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let began = Instant::now();
    let mut record = record(&worker, &caller);
    let connected = caller.application.connect().await;
    let taken = connected.is_ok();
    match connected {
        Ok(mut application) => {
            let told = |record: &mut Record| record.source = caller.peer.party();
            stream::tell(&worker, &mut record, &caller.peer, told, stream, &mut application).await;
        }
        Err(_) => {
            record.fault = Some(Fault::UpstreamConnectionFailure);
            worker.telemetry.borrow().opened(&record);
        }
    }
    record.duration = began.elapsed();
    worker.telemetry.borrow_mut().closed(&record);
    taken
}

/// Serves HTTP to the application.
pub(crate) async fn http<S>(worker: Rc<Worker>, caller: Caller, stream: Rewound<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limit = limit(caller.proven.is_none());
    let (caller, drain) = (Rc::new(caller), worker.shared.drain.clone());
    let service = service_fn(move |request| {
        let (worker, caller) = (Rc::clone(&worker), Rc::clone(&caller));
        async move { Ok::<_, std::convert::Infallible>(request_in(worker, caller, request).await) }
    });
    serve_http(stream, service, limit, &drain).await;
}

/// How long a connection may idle, and a head may take.
pub(crate) fn limit(captured: bool) -> Duration {
    if captured { IDLE_LIMIT } else { HEADER_LIMIT }
}

/// HTTP/1.1 or HTTP/2 by the client's first bytes, with limits on what a stranger may make us keep. A connection that a
/// drain finds open ends with the requests on it, once others had time to hear of the drain; one that comes later is
/// served as ever: who opens it has not heard yet.
pub(crate) async fn serve_http<I, S>(stream: I, service: S, limit: Duration, drain: &Drain)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>> + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: 'static,
{
    let mut builder = hyper_util::server::conn::auto::Builder::new(Here);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limit).max_buf_size(MAX_HEADERS + 4096);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEADERS as u32).max_concurrent_streams(1000);
    builder.http2().initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
    let ends = async {
        if drain.is_draining() {
            std::future::pending::<()>().await;
        }
        drain.draining().await;
        tokio::time::sleep(SAID_FIRST).await;
    };
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = ends => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

fn record(worker: &Worker, caller: &Caller) -> Record {
    let parties = [caller.peer.party(), Arc::clone(&worker.shared.own)];
    let (called, upstream) = (Arc::clone(&caller.called), Arc::clone(&caller.upstream));
    Record { mutual_tls: caller.proven.is_some(), ..Record::new(Reporter::Destination, parties, called, upstream) }
}

async fn request_in(worker: Rc<Worker>, caller: Rc<Caller>, mut request: Request<Incoming>) -> Response<Body> {
    let began = Instant::now();
    let (protocol, received) = (head::protocol(request.headers()), head::announced(request.headers()));
    let mut record = record(&worker, &caller).request(Head::of(&request), protocol, received);
    let was_http1 = request.headers_mut().remove(forward::ORIGINAL).is_some();
    // Only a sidecar says who calls; a caller that shows nothing cannot say it in its place.
    request.headers_mut().remove(XFCC);
    if let Some((_, xfcc)) = &caller.proven {
        request.headers_mut().insert(XFCC, xfcc.clone());
    }
    if request.headers().contains_key(header::UPGRADE) && request.version() != Version::HTTP_2 {
        return match upgraded(&caller, request).await {
            Ok((client, answer)) => {
                record.source = caller.peer.party();
                upgrade::switch(&worker, began, record, client, answer, None)
            }
            Err(error) => silent(&worker, &caller, began, record, (Fault::UpstreamConnectionFailure, error)),
        };
    }
    let (parts, body) = request.into_parts();
    let (body, counted) = Body::of_request(body);
    let request = Request::from_parts(parts, body);
    let answered = if request.version() == Version::HTTP_2 && !was_http1 {
        forward::plain_http2(&worker, caller.application, request).await
    } else {
        let mut sent = forward::plain(&worker, caller.application, request).await;
        // A connection to the application that closed while it idled: nothing was sent, so a fresh one gets it.
        while let Err(failed) = &mut sent
            && failed.fault == Fault::UpstreamConnectionTermination
            && let Some(unsent) = failed.unsent.take()
        {
            sent = forward::plain(&worker, caller.application, *unsent).await;
        }
        sent.map(|(answer, _)| answer).map_err(|failed| (failed.fault, failed.detail))
    };
    match answered {
        Ok(mut answer) => {
            // Only a sidecar says what went wrong on the way.
            answer.headers_mut().remove(forward::FLAGS);
            record.source = caller.peer.party();
            record.code = answer.status().as_u16();
            finish_with(&worker, Measured { began, received: counted }, record, answer, (None, None))
        }
        Err(failed) => silent(&worker, &caller, began, record, failed),
    }
}

/// The application gave no answer: ours in its place, with the flag of what went wrong.
fn silent(
    worker: &Rc<Worker>,
    caller: &Caller,
    began: Instant,
    mut record: Record,
    (fault, detail): (Fault, String),
) -> Response<Body> {
    let who = caller.proven.as_ref().map(|(id, _)| id.to_string());
    tracing::debug!(caller = who, detail, "the application did not answer");
    let said = format!("the application beside {} does not answer: {detail}", worker.shared.config.common.name);
    let answer = explain(fault, record.said(Head::authority), &said);
    record.source = caller.peer.party();
    record.fault = Some(fault);
    record.code = answer.status().as_u16();
    finish_with(worker, Measured { began, received: None }, record, answer, (None, None))
}

/// Asks the application on a connection of its own; with what becomes the client's bytes when it switches.
async fn upgraded(
    caller: &Caller,
    mut request: Request<Incoming>,
) -> Result<(hyper::upgrade::OnUpgrade, Response<Incoming>), String> {
    let client = hyper::upgrade::on(&mut request);
    let application = caller.application.connect().await.map_err(|error| error.to_string())?;
    let mut answer = upgrade::send(application, request).await.map_err(|error| error.to_string())?;
    answer.headers_mut().remove(forward::FLAGS);
    Ok((client, answer))
}
