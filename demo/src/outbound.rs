//! Calls to other services, trace headers passed on: absolute-form requests to the sidecar's explicit proxy, or straight to
//! the service where the pod's connections are captured.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::error::CallError;

/// What an application hands on so that a trace holds together (W3C trace context, B3, Envoy's request id), and what
/// routes by user need.
pub const PROPAGATED: [&str; 13] = [
    "traceparent",
    "tracestate",
    "baggage",
    "x-request-id",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "end-user",
    "authorization",
    "cookie",
];

/// Longer than any failover: an application that gives up sooner hides what the mesh does.
const LIMIT: Duration = Duration::from_secs(10);
/// Answers are small.
const LONGEST_ANSWER: usize = 1 << 20;

/// The way out.
#[derive(Clone)]
pub struct Outbound {
    client: Client<Way, Empty<Bytes>>,
    domain: String,
}

impl Outbound {
    /// Through the proxy at this address, or straight; to services under `domain`, or by their names alone.
    #[must_use]
    pub fn new(proxy: Option<SocketAddr>, domain: String) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(Way(proxy));
        let domain = if domain.is_empty() { domain } else { format!(".{domain}") };
        Self { client, domain }
    }

    /// GETs JSON of a service at its Bookinfo port.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get(&self, service: &str, path: &str, headers: &HeaderMap) -> Result<Value, CallError> {
        let url = format!("http://{service}{}:{}{path}", self.domain, crate::config::HTTP_PORT);
        let request = request(&url, headers)?;
        let unanswered = |reason: String| CallError::Unanswered { url: url.clone(), reason };
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|e| unanswered(whole_reason(&e)))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
            Ok((status, body.map_err(|e| unanswered(e.to_string()))?.to_bytes()))
        };
        let (status, bytes) = tokio::time::timeout(LIMIT, exchange)
            .await
            .map_err(|_| unanswered(format!("nothing came within {LIMIT:?}")))??;
        if !status.is_success() {
            let body = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            return Err(CallError::Status { url, status, body });
        }
        serde_json::from_slice(&bytes).map_err(|e| unanswered(e.to_string()))
    }
}

fn request(url: &str, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, CallError> {
    let mut request = Request::get(url)
        .body(Empty::new())
        .map_err(|reason| CallError::Url { url: url.to_owned(), reason: reason.to_string() })?;
    for name in PROPAGATED {
        for value in headers.get_all(name) {
            request.headers_mut().append(name, value.clone());
        }
    }
    Ok(request)
}

fn whole_reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        reason.push_str(": ");
        reason.push_str(&next.to_string());
        cause = next.source();
    }
    reason
}

/// Connects to the proxy whatever the request's host is, and the client then writes absolute-form requests; or to the host.
#[derive(Clone)]
struct Way(Option<SocketAddr>);

impl tonic::codegen::Service<Uri> for Way {
    type Response = Carried;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Carried>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxy = self.0;
        Box::pin(async move {
            let stream = match proxy {
                Some(address) => TcpStream::connect(address).await?,
                None => TcpStream::connect((to.host().unwrap_or_default(), to.port_u16().unwrap_or(80))).await?,
            };
            stream.set_nodelay(true)?;
            Ok(Carried { stream: TokioIo::new(stream), by_proxy: proxy.is_some() })
        })
    }
}

/// A connection that says whether it is a proxy's.
struct Carried {
    stream: TokioIo<TcpStream>,
    by_proxy: bool,
}

impl Connection for Carried {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.by_proxy)
    }
}

impl hyper::rt::Read for Carried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Carried {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
