//! A worker's ears: the explicit proxy, the inbound port, plain hops, and the addresses of services as they come and go;
//! where the workload is captured, what the rules lead here instead of those addresses.

mod captured;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use isthmus_core::{name::HostScope, plan::service_address, statement::Protocol};
use isthmus_runtime::{
    drain::Drain,
    listen,
    places::Places,
    tls::{self, Accept, ClientAuth},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
    time::error::Elapsed,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    body::Body,
    connect::Inner,
    detect::{Rewound, Spoken, detect, detect_within},
    error::Error,
    inbound::{self, serve_http},
    outbound::{self, Entry, Plain, authority, explain},
    snapshot::View,
    stream,
    worker::Worker,
};

/// The explicit proxy.
pub(crate) const EXPLICIT: u16 = 15080;
/// Inner connections.
pub(crate) const INBOUND: u16 = 15006;
/// Where the protocol is told by the client's first bytes, they come within so long.
const FIRST_WORD: Duration = Duration::from_secs(60);
/// Handshakes of inner connections going on at once on a worker.
const UNPROVEN: usize = 512;

/// Listens for a worker until the drain.
pub(crate) async fn run(worker: Rc<Worker>, drain: Drain) -> Result<(), Error> {
    let (common, capture) = (&worker.shared.config.common, worker.shared.config.capture);
    // In a pod everybody reaches its address; on loopback the application alone.
    let own = if capture.is_some() { listen::loopback(common.address) } else { common.address };
    let explicit = shared(SocketAddr::new(own, EXPLICIT))?;
    accept(&worker, explicit, |worker, stream| async move {
        http(worker, Rc::new(Entry::Explicit), Rewound::fresh(stream)).await;
    });
    let identity = worker.shared.connector.identity();
    let alpn = Inner::ALL.map(Inner::alpn);
    let config = tls::server_config(identity, Accept::Any, &alpn, ClientAuth::Required);
    let acceptor = TlsAcceptor::from(config);
    let unproven = Places::new(UNPROVEN);
    match capture {
        Some(mode) => captured::listen(&worker, mode, &acceptor, &unproven)?,
        None => drop(accept(&worker, shared(SocketAddr::new(common.address, INBOUND))?, move |worker, stream| {
            inbound::serve(worker, acceptor.clone(), unproven.clone(), stream)
        })),
    }
    for plain in worker.shared.config.listeners.clone() {
        let entry = Rc::new(Entry::Plain(Plain::to(plain.upstream)));
        accept(&worker, shared(plain.address)?, move |worker, stream| {
            let entry = Rc::clone(&entry);
            async move { http(worker, entry, Rewound::fresh(stream)).await }
        });
    }
    if capture.is_none() {
        services(&worker, &drain).await;
    }
    Ok(())
}

fn shared(address: SocketAddr) -> Result<TcpListener, Error> {
    listen::tcp_shared(address).map_err(Error::io("a port is not to be had"))
}

fn accept<F, W>(worker: &Rc<Worker>, listener: TcpListener, serve: F) -> JoinHandle<()>
where
    F: Fn(Rc<Worker>, tokio::net::TcpStream) -> W + 'static,
    W: Future<Output = ()> + 'static,
{
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listen::accept(&listener).await;
            let _ = stream.set_nodelay(true);
            let (entered, serving) = (worker.shared.under_way.enter(), serve(Rc::clone(&worker), stream));
            tokio::task::spawn_local(async move {
                serving.await;
                drop(entered);
            });
        }
    })
}

/// Serves HTTP of the application.
async fn http<S>(worker: Rc<Worker>, entry: Rc<Entry>, stream: Rewound<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (drain, limit) = (worker.shared.drain.clone(), inbound::limit(worker.shared.config.capture.is_some()));
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, entry) = (Rc::clone(&worker), Rc::clone(&entry));
        async move {
            let connect = request.method() == Method::CONNECT && matches!(*entry, Entry::Explicit);
            let answer = if connect { tunnel(worker, request) } else { outbound::serve(worker, entry, request).await };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    serve_http(stream, service, limit, inbound::said(&drain)).await;
}

/// CONNECT: what comes inside is told apart like on a service's own address.
fn tunnel(worker: Rc<Worker>, mut request: Request<Incoming>) -> Response<Body> {
    let target = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let (host, port) = authority(&target);
    let Some(port) = port else {
        return explain(isthmus_core::retry::Fault::DownstreamProtocolError, &target, "CONNECT needs host:port");
    };
    let known = worker.shared.snapshot.load().host(host);
    if known.is_none() && (host.ends_with(".svc.clusterset.local") || host.ends_with(".svc.cluster.local")) {
        let detail = format!("no service of this name is known in cluster {}", worker.shared.config.common.cluster);
        return explain(isthmus_core::retry::Fault::NoRouteFound, &target, &detail);
    }
    let client = hyper::upgrade::on(&mut request);
    let elsewhere = target.clone();
    let entered = worker.shared.under_way.enter();
    tokio::task::spawn_local(async move {
        let _entered = entered;
        let Ok(client) = client.await else { return };
        let client = TokioIo::new(client);
        match known {
            Some((view, scope)) => service(worker, view, scope, port, client, None).await,
            None => {
                let mut client = client;
                if let Ok(mut server) = tokio::net::TcpStream::connect(&elsewhere).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            }
        }
    });
    Response::new(Body::empty())
}

/// Serves a client that means this port of this service; one that is silent for so long waits for the server to speak.
async fn service<S>(
    worker: Rc<Worker>,
    view: Arc<View>,
    scope: HostScope,
    port: u16,
    client: S,
    silence: Option<Duration>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let protocol = isthmus_core::model::port_protocol(&view.service, port).unwrap_or_default();
    let entry = || Rc::new(Entry::Service(view.service.name.clone(), port, scope));
    match protocol {
        Protocol::Tcp | Protocol::Tls => stream::carry(worker, view, scope, port, Rewound::fresh(client)).await,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            http(worker, entry(), Rewound::fresh(client)).await;
        }
        Protocol::Detect => match told(client, silence).await {
            Ok(Ok((Spoken::Http, client))) => http(worker, entry(), client).await,
            Ok(Ok((Spoken::Opaque, client))) => stream::carry(worker, view, scope, port, client).await,
            Ok(Err(error)) => tracing::debug!(%error, "a client left before it said anything"),
            Err(_) => tracing::debug!("a client said nothing by which its protocol could be told"),
        },
    }
}

/// What a client speaks.
async fn told<S>(client: S, silence: Option<Duration>) -> Result<io::Result<(Spoken, Rewound<S>)>, Elapsed>
where
    S: AsyncRead + Unpin,
{
    match silence {
        Some(silence) => Ok(detect_within(client, silence).await),
        None => tokio::time::timeout(FIRST_WORD, detect(client)).await,
    }
}

/// Where services listen on this workload, by the snapshot.
fn wanted(worker: &Worker) -> BTreeMap<SocketAddr, Arc<View>> {
    let workload = worker.shared.config.common.address;
    let snapshot = worker.shared.snapshot.load();
    let addresses = snapshot.views.values().flat_map(|view| {
        let address = view.service.address_index.and_then(|index| service_address(workload, index));
        let ports = view.service.ports.iter().map(|port| port.port);
        ports.filter_map(move |port| Some((SocketAddr::new(IpAddr::V4(address?), port), Arc::clone(view))))
    });
    addresses.collect()
}

/// Keeps the listeners of services as the snapshot has them.
async fn services(worker: &Rc<Worker>, drain: &Drain) {
    let mut changes = worker.shared.changes();
    let mut listening = BTreeMap::<SocketAddr, JoinHandle<()>>::new();
    loop {
        let wanted = wanted(worker);
        listening.retain(|address, task| {
            let stays = wanted.contains_key(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for (address, view) in wanted {
            if listening.contains_key(&address) {
                continue;
            }
            match listen::tcp_shared(address) {
                Ok(listener) => {
                    listening.insert(address, serve_service(worker, listener, &view, address.port()));
                }
                Err(error) => tracing::warn!(%error, service = %view.service.name, "a service has no address here"),
            }
        }
        if !matches!(drain.unless(changes.changed()).await, Some(Ok(()))) {
            return;
        }
    }
}

fn serve_service(worker: &Rc<Worker>, listener: TcpListener, view: &Arc<View>, port: u16) -> JoinHandle<()> {
    let name = view.service.name.clone();
    accept(worker, listener, move |worker, client| {
        let name = name.clone();
        async move {
            // The picture of the moment, not of the moment the listener began.
            let view = worker.shared.snapshot.load().views.get(&name).cloned();
            if let Some(view) = view {
                service(worker, view, HostScope::ClusterSet, port, client, None).await;
            }
        }
    })
}
