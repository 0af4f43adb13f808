//! tonic over our own TLS: identities instead of host names, leaves that change while connections live.
//!
//! The server outlives whatever comes in: random bytes, half-open connections, refused handshakes, floods. Who is still
//! shaking hands, and who shows no identity, has one of a bounded number of places ([`crate::places`]), for a bounded
//! time, with a bounded number of bytes. The channel connects when it is used, again and again, and notices within
//! seconds that a peer is gone without a word.

mod guest;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use isthmus_core::name::SpiffeId;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tonic::transport::{Channel, Endpoint, Server, server::Connected};

use crate::{
    drain::Drain,
    grpc::guest::Guest,
    identity::Identity,
    listen,
    places::Places,
    tls::{self, Accept},
};

/// What a gRPC connection agrees on.
pub const ALPN: &[u8] = b"h2";
/// A peer that does not take the connection in so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A handshake that is not over in so long never will be.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that is gone without a word is noticed within interval and timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// No message of ours comes near it; a stranger's is refused before it is kept.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams of one connection.
const MAX_STREAMS: u32 = 1024;
/// Handshakes under way at once.
const MAX_HANDSHAKES: usize = 256;
/// Connections at once whose callers show no identity: whoever enrols or joins has said all in one call.
const MAX_GUESTS: usize = 256;
/// Connections that wait for the HTTP/2 server.
const ACCEPT_QUEUE: usize = 64;

/// Who the caller is; in the extensions of every request. `None`: it showed no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity(pub Option<SpiffeId>);

impl PeerIdentity {
    /// The caller of a request.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Option<SpiffeId> {
        request.extensions().get::<Self>().and_then(|peer| peer.0.clone())
    }
}

/// A lazy, reconnecting channel to an address (`host:port` or a socket address) that must answer as `accept` says.
#[must_use]
pub fn channel(identity: &Identity, address: impl ToString, accept: Accept) -> Channel {
    channel_with(tls::client_config(identity, accept, &[ALPN]), address)
}

/// As [`channel`], with a TLS configuration of the caller's own.
#[must_use]
pub fn channel_with(config: Arc<ClientConfig>, address: impl ToString) -> Channel {
    let address: Arc<str> = address.to_string().into();
    // The URI is only what HTTP/2 wants as :authority; nothing is resolved from it.
    Endpoint::from_static("http://isthmus.internal")
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .connect_with_connector_lazy(tower::service_fn(move |_| {
            let (config, address) = (config.clone(), address.clone());
            async move { connect(config, &address).await.map(TokioIo::new) }
        }))
}

async fn connect(config: Arc<ClientConfig>, address: &str) -> io::Result<client::TlsStream<TcpStream>> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot reach {address}: {}", tls::explain(&error)));
    let late = |limit: Duration| {
        let text = format!("cannot reach {address}: no answer within {} s", limit.as_secs());
        move |_| io::Error::new(io::ErrorKind::TimedOut, text)
    };
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream = connecting.await.map_err(late(CONNECT_TIMEOUT))?.map_err(named)?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("isthmus.internal").map_err(io::Error::other)?;
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsConnector::from(config).connect(name, stream));
    handshake.await.map_err(late(HANDSHAKE_TIMEOUT))?.map_err(named)
}

/// What a failed call says, with every cause behind it: "transport error" alone helps nobody.
#[must_use]
pub fn reason(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        cause = error.source();
    }
    text
}

/// Serves `routes` until everything has to close. From the drain on it takes no new connection and lets calls finish.
/// Long streams have to watch the drain themselves.
pub async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, routes: tonic::service::Routes, drain: Drain) {
    let (sender, incoming) = mpsc::channel(ACCEPT_QUEUE);
    let accepting = accept_all(listener, TlsAcceptor::from(tls), sender, &drain);
    let draining = {
        let drain = drain.clone();
        async move { drain.draining().await }
    };
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .add_routes(routes)
        .serve_with_incoming_shutdown(tokio_stream::wrappers::ReceiverStream::new(incoming), draining);
    let both = async {
        let (served, ()) = tokio::join!(serving, accepting);
        if let Err(error) = served {
            tracing::error!(%error, "the gRPC server ended");
        }
    };
    tokio::select! {
        () = both => {}
        () = drain.closed() => {}
    }
}

async fn accept_all(listener: TcpListener, tls: TlsAcceptor, out: mpsc::Sender<io::Result<Peer>>, drain: &Drain) {
    let (handshakes, guests) = (Places::new(MAX_HANDSHAKES), Places::new(MAX_GUESTS));
    loop {
        let (stream, from) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            () = drain.draining() => return,
        };
        let (tls, out, guests) = (tls.clone(), out.clone(), guests.clone());
        let place = handshakes.take(from.ip());
        tokio::spawn(async move {
            let shaken = place.unless_needed(handshake(stream, from, tls)).await;
            drop(place);
            if let Some((stream, identity)) = shaken.flatten() {
                let guest = identity.0.is_none().then(|| Guest::new(guests.take(from.ip())));
                let _ = out.send(Ok(Peer { stream, identity, guest })).await;
            }
        });
    }
}

type Shaken = (server::TlsStream<TcpStream>, PeerIdentity);

async fn handshake(stream: TcpStream, from: SocketAddr, tls: TlsAcceptor) -> Option<Shaken> {
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let identity = PeerIdentity(tls::peer_spiffe(stream.get_ref().1.peer_certificates()));
            Some((stream, identity))
        }
        Ok(Err(error)) => {
            tracing::debug!(%from, reason = tls::explain(&error), "a handshake is refused");
            None
        }
        Err(_) => {
            tracing::debug!(%from, "a handshake did not finish in time");
            None
        }
    }
}

/// A connection whose peer is known.
struct Peer {
    stream: server::TlsStream<TcpStream>,
    identity: PeerIdentity,
    /// What bounds a caller that nobody knows.
    guest: Option<Guest>,
}

impl Connected for Peer {
    type ConnectInfo = PeerIdentity;
    fn connect_info(&self) -> PeerIdentity {
        self.identity.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, guest, .. } = &mut *self;
        match guest {
            None => Pin::new(stream).poll_read(cx, buf),
            Some(guest) => guest.poll_read(stream, cx, buf),
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
