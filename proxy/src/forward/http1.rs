//! HTTP/1.1: one request at a time on a connection (RFC 9112).

use std::{rc::Rc, time::Duration};

use http::{HeaderValue, Request, StatusCode, Uri, Version, header};
use hyper_util::rt::TokioIo;
use isthmus_core::retry::Fault;
use isthmus_wire::tunnel::Metadata;
use tokio::io::{AsyncRead, AsyncWrite};

use super::failed::{Answered, Failed};
use crate::{
    body::Body,
    dial::Dial,
    pool::{Http1, Peer, Place},
    worker::Worker,
};

/// A connection outside the mesh is there in this time, or it is not.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// To a plain address: outside the mesh, or the own application.
pub(crate) async fn plain(worker: &Rc<Worker>, dial: Dial, request: Request<Body>) -> Answered {
    let place = Place::plain(dial);
    let connection = match worker.http1.take(&place) {
        Some(idle) => idle,
        None => match connect(dial).await {
            Ok(connection) => connection,
            Err(error) => {
                return Err(Failed::unsent(request, Fault::UpstreamConnectionFailure, format!("{}: {error}", dial.to)));
            }
        },
    };
    send(worker, place, connection, request, None).await
}

async fn connect(dial: Dial) -> Result<Http1, String> {
    let connecting = tokio::time::timeout(CONNECT_LIMIT, dial.connect()).await;
    let stream = connecting.map_err(|_| format!("no connection within {CONNECT_LIMIT:?}"))?;
    let stream = stream.map_err(|error| error.to_string())?;
    let peer = Rc::new(Peer::new(None, None, Metadata::default()));
    handshake(stream, peer).await.map_err(|error| error.to_string())
}

/// Begins HTTP/1.1 on a stream.
pub(super) async fn handshake<S>(stream: S, peer: Rc<Peer>) -> Result<Http1, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(Http1 { sender, peer })
}

/// Sends a request and keeps the connection for the next one.
pub(super) async fn send(
    worker: &Rc<Worker>,
    place: Place,
    mut connection: Http1,
    mut request: Request<Body>,
    within: Option<Duration>,
) -> Answered {
    to_origin_form(&mut request);
    let peer = Rc::clone(&connection.peer);
    let sending = connection.sender.try_send_request(request);
    let answered = match within {
        None => sending.await,
        Some(within) => match tokio::time::timeout(within, sending).await {
            Ok(answered) => answered,
            Err(_) => return Err(Failed::timed_out(within)),
        },
    };
    match answered {
        Ok(answer) => {
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                worker.http1.give(place, connection);
            }
            Ok((answer.map(Body::Incoming), peer))
        }
        Err(mut error) => Err(Failed::unanswered(error.take_message(), error.error())),
    }
}

/// A request to a server has the path alone (RFC 9112, 3.2.1), and the host in its header.
fn to_origin_form(request: &mut Request<Body>) {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        if !request.headers().contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(header::HOST, host);
        }
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
}
