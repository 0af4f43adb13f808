//! Plain HTTP/1.1 for operators and scrapers: admin, metrics, health, the dashboard. Bounded in connections, header
//! size and time. A connection has one of a bounded number of places ([`crate::places`]): whoever holds hundreds open,
//! half a head, half a body or an unread answer on each, takes nothing from the others.

use std::{convert::Infallible, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};

use crate::{drain::Drain, listen, places::Places};

/// A request's head must be there in so long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Connections at once; for a further one the oldest of its fullest source ends.
const MAX_CONNECTIONS: usize = 256;

/// Serves until everything has to close: what an operator wants to see during a drain is there during a drain.
pub async fn serve(listener: TcpListener, router: Router, drain: Drain) {
    let places = Places::new(MAX_CONNECTIONS);
    loop {
        let (stream, from) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            () = drain.closed() => return,
        };
        let (router, drain, place) = (router.clone(), drain.clone(), places.take(from.ip()));
        tokio::spawn(async move {
            tokio::select! {
                _ = place.unless_needed(connection(stream, router)) => {}
                () = drain.closed() => {}
            }
        });
    }
}

/// Serves one connection; what a stranger sends is the stranger's affair.
async fn connection(stream: TcpStream, router: Router) {
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(tower::service_fn(move |request: http::Request<_>| {
        let router = router.clone();
        async move {
            let request = request.map(axum::body::Body::new);
            Ok::<_, Infallible>(tower::ServiceExt::oneshot(router, request).await.unwrap_or_else(|no| match no {}))
        }
    }));
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}
