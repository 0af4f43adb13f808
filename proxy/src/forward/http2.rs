//! HTTP/2: many requests on a connection (RFC 9113).

use std::rc::Rc;

use http::{HeaderName, HeaderValue, Request, Response, Uri, Version, header, uri::Scheme};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use isthmus_core::retry::Fault;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Target;
use crate::{
    body::Body,
    dial::Dial,
    worker::{Here, Worker},
};

/// Said from a sidecar to the one it calls: the request came as HTTP/1.1, whatever carries it between them.
pub(crate) const ORIGINAL: HeaderName = HeaderName::from_static("x-isthmus-original-protocol");

/// To the own application in HTTP/2 with prior knowledge, for clients that spoke it.
pub(crate) async fn plain(
    worker: &Rc<Worker>,
    dial: Dial,
    request: Request<Body>,
) -> Result<Response<Body>, (Fault, String)> {
    let failed = |error: String| (Fault::UpstreamConnectionFailure, format!("{}: {error}", dial.to));
    let kept = worker.http2.borrow().get(&dial).filter(|sender| !sender.is_closed()).cloned();
    let mut sender = match kept {
        Some(sender) => sender,
        None => {
            let stream = dial.connect().await.map_err(|error| failed(error.to_string()))?;
            let sender = handshake(stream).await.map_err(|error| failed(error.to_string()))?;
            worker.http2.borrow_mut().insert(dial, sender.clone());
            sender
        }
    };
    match sender.send_request(request).await {
        Ok(answer) => Ok(answer.map(Body::Incoming)),
        Err(error) => Err((Fault::UpstreamConnectionTermination, format!("{}: {error}", dial.to))),
    }
}

/// Begins HTTP/2 on a stream.
pub(super) async fn handshake<S>(stream: S) -> Result<SendRequest<Body>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new(Here).handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// HTTP/2 between sidecars has the authority in the URI; how the client spoke is said beside it.
pub(super) fn to_absolute_form(request: &mut Request<Body>, target: &Target<'_>) {
    if request.version() != Version::HTTP_2 {
        let headers = request.headers_mut();
        headers.insert(ORIGINAL, HeaderValue::from_static("http/1.1"));
        // What belongs to one HTTP/1.1 connection (RFC 9113, 8.2.2).
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
            headers.remove(name);
        }
        headers.remove("keep-alive");
        headers.remove("proxy-connection");
    }
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
    let authority = authority.or_else(|| request.uri().authority().cloned());
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = authority.or_else(|| format!("{}:{}", target.view.called.host, target.port).parse().ok());
    parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
