//! TLS and HTTP for whoever comes. All are strangers: the API server shows no certificate that would tell it from others.
//! So each connection has one of a bounded number of places, and each phase of it a bounded time.

use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use isthmus_runtime::{drain::Drain, listen, places::Places};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A handshake that is not over in so long never will be.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A request's head must be there in so long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Connections at once; for a further one the oldest of its fullest source ends. An API server holds a few.
const MAX_CONNECTIONS: usize = 256;
/// Streams of one connection: an API server asks on behalf of many.
const MAX_STREAMS: u32 = 256;
/// A peer that is gone without a word is noticed within interval and timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a request comes from; in the extensions of every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub(crate) IpAddr);

/// Serves until everything has to close. When the drain begins, open connections are told to go elsewhere; who comes
/// while the Service still leads here is served, because a webhook that refuses costs somebody a pod.
pub(crate) async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, router: Router, drain: Drain) {
    let (places, tls) = (Places::new(MAX_CONNECTIONS), TlsAcceptor::from(tls));
    loop {
        let (stream, from) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            () = drain.closed() => return,
        };
        let (router, drain, tls, place) = (router.clone(), drain.clone(), tls.clone(), places.take(from.ip()));
        tokio::spawn(async move {
            let serving = async {
                if let Some(stream) = handshake(stream, &tls).await {
                    connection(stream, from.ip(), router, &drain).await;
                }
            };
            tokio::select! {
                _ = place.unless_needed(serving) => {}
                () = drain.closed() => {}
            }
        });
    }
}

async fn handshake(stream: TcpStream, tls: &TlsAcceptor) -> Option<TlsStream<TcpStream>> {
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake with the webhooks is refused");
            None
        }
        Err(_) => None,
    }
}

/// Serves one connection; what a stranger sends is the stranger's affair.
async fn connection(stream: TlsStream<TcpStream>, from: IpAddr, router: Router, drain: &Drain) {
    let service = TowerToHyperService::new(tower::service_fn(move |request: http::Request<_>| {
        let router = router.clone();
        async move {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(Source(from));
            Ok::<_, Infallible>(tower::ServiceExt::oneshot(router, request).await.unwrap_or_else(|no| match no {}))
        }
    }));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let came_late = drain.is_draining();
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = drain.draining(), if !came_late => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}
