//! 15443/tcp: what other clusters reach besides tunnels. Told apart by the ALPN of the ClientHello.
//!
//! `isthmus-member/1` is another cluster's federation member: its bytes go to the own member unread, so that a cluster
//! needs one public address. The tunnels' TCP fallback will be read here too ([`crate::tunnel`]); until then it, and
//! everything else, is closed with a counted reason.

use std::{io, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use isthmus_runtime::listen;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    alpn::{self, First},
    context::Context,
    framed::FIRST_FRAME,
};

/// The members' protocol.
pub const MEMBER: &[u8] = b"isthmus-member/1";
/// The own member takes a connection within so long.
const MEMBER_LIMIT: Duration = Duration::from_secs(2);

/// Takes connections for ever; members' go to `member`.
pub async fn accept_all(context: Context, listener: TcpListener, member: SocketAddr) {
    loop {
        let (tcp, from) = listen::accept(&listener).await;
        let Ok(permit) = context.limits.edge.clone().try_acquire_owned() else {
            context.metrics.edge.with_label_values(&["overloaded"]).inc();
            continue;
        };
        let context = context.clone();
        tokio::spawn(async move {
            let outcome = serve(&context, tcp, member).await;
            context.metrics.edge.with_label_values(&[outcome]).inc();
            tracing::debug!(%from, outcome, "an edge connection ended");
            drop(permit);
        });
    }
}

async fn serve(context: &Context, mut tcp: TcpStream, member: SocketAddr) -> &'static str {
    let mut bytes = BytesMut::with_capacity(4096);
    let offered = match tokio::time::timeout(FIRST_FRAME, hello(&mut tcp, &mut bytes)).await {
        Ok(Ok(First::Hello(offered))) => offered,
        Ok(Ok(_)) => return "not_tls",
        Ok(Err(_)) => return "broken",
        Err(_) => return "late",
    };
    if !offered.iter().any(|name| name == MEMBER) {
        return "unknown_alpn";
    }
    let dialled = tokio::time::timeout(MEMBER_LIMIT, TcpStream::connect(member)).await;
    let Ok(Ok(to)) = dialled else { return "member_unreachable" };
    let spliced = tokio::select! {
        spliced = splice(tcp, to, &bytes) => spliced,
        () = context.drain.closed() => return "drained",
    };
    if spliced.is_ok() { "member" } else { "member_broken" }
}

async fn hello(tcp: &mut TcpStream, bytes: &mut BytesMut) -> io::Result<First> {
    loop {
        if tcp.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match alpn::read(bytes) {
            First::More => bytes.reserve(4096),
            first => return Ok(first),
        }
    }
}

async fn splice(mut from: TcpStream, mut to: TcpStream, first: &[u8]) -> io::Result<()> {
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    to.write_all(first).await?;
    tokio::io::copy_bidirectional(&mut from, &mut to).await.map(drop)
}
