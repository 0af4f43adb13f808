//! Plain HTTP/1.1 for operators and scrapers: admin, metrics, health, the dashboard. Bounded in connections, header
//! size and time, so that whoever holds a connection open takes nothing from the others.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{drain::Drain, listen};

/// A request's head must be there in so long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Connections at once; further ones wait in the kernel.
const MAX_CONNECTIONS: usize = 256;

/// Serves until everything has to close: what an operator wants to see during a drain is there during a drain.
pub async fn serve(listener: TcpListener, router: Router, drain: Drain) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, _) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            () = drain.closed() => return,
        };
        let (router, drain) = (router.clone(), drain.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = TowerToHyperService::new(tower::service_fn(move |request: http::Request<_>| {
                let router = router.clone();
                async move {
                    let request = request.map(axum::body::Body::new);
                    Ok::<_, Infallible>(
                        tower::ServiceExt::oneshot(router, request).await.unwrap_or_else(|no| match no {}),
                    )
                }
            }));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::select! {
                // What a stranger sends is the stranger's affair.
                _ = connection => {}
                () = drain.closed() => {}
            }
            drop(place);
        });
    }
}
