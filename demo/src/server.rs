//! Listening, serving HTTP/1.1 and HTTP/2 on one port, draining.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    bookinfo,
    config::{App, AppConfig, Itself},
    echo,
    error::Error,
    fault::{self, Faults},
    outbound::Outbound,
    reply::{self, Reply},
};

/// What a connection gets to finish after `stop`.
const DRAIN: Duration = Duration::from_secs(1);

/// What every request sees.
pub(crate) struct Application {
    pub(crate) app: App,
    pub(crate) itself: Itself,
    pub(crate) outbound: Outbound,
    pub(crate) faults: Faults,
}

pub(crate) async fn run(config: AppConfig, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let application = Arc::new(Application {
        app: config.app,
        itself: Itself::from(&config),
        outbound: Outbound::new(config.proxy, config.domain.clone()),
        faults: Faults::default(),
    });
    let listener = bind(SocketAddr::new(config.address, config.http_port)).await?;
    if config.app == App::Echo {
        let tcp = bind(SocketAddr::new(config.address, config.tcp_port)).await?;
        tokio::spawn(echo::tcp::serve(tcp, application.itself.clone()));
    }
    tracing::info!(workload = %config.workload, address = %config.address, "application listens");
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(stream, &application, &graceful),
                // Out of descriptors, or the peer is gone already: neither is a reason to end or to spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
}

fn serve(stream: TcpStream, application: &Arc<Application>, graceful: &GracefulShutdown) {
    let _ = stream.set_nodelay(true);
    let application = Arc::clone(application);
    let service = service_fn(move |request| {
        let application = Arc::clone(&application);
        async move { Ok::<_, Infallible>(application.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(reason) = watched.await {
            tracing::debug!(%reason, "connection ended");
        }
    });
}

impl Application {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let mut reply = if request.uri().path() == "/health" {
            reply::json(StatusCode::OK, &serde_json::json!({"status": format!("{:?} is healthy", self.app)}))
        } else if request.uri().path() == fault::PATH && request.method() == Method::POST {
            self.faults.set(request).await
        } else if let Some(bad) = self.faults.suffer().await {
            bad
        } else if is_grpc(request.headers()) {
            echo::grpc::answer(&self.itself, request).await
        } else if self.app == App::Echo {
            echo::answer(&self.itself, request).await
        } else {
            bookinfo::answer(self, request).await
        };
        reply::sign(&self.itself, &mut reply);
        reply
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
