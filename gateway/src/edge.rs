//! 15443/tcp: what other clusters reach besides tunnels. Told apart by the ALPN of the ClientHello.
//!
//! `isthmus-member/1` is another cluster's federation member: its bytes go to the own member unread, so that a cluster
//! needs one public address. The tunnels' TCP fallback will be read here too ([`crate::tunnel`]); until then it, and
//! everything else, is closed with a counted reason.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use isthmus_runtime::{listen, places::Place};
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
/// Until then a connection may be anyone's who named the members' protocol: the member ends those of strangers sooner.
const YOUNG: Duration = Duration::from_secs(40);

/// Takes connections for ever; members' go to `member`.
pub async fn accept_all(context: Context, listener: TcpListener, member: String) {
    let member: Arc<str> = member.into();
    loop {
        let (tcp, from) = listen::accept(&listener).await;
        let Ok(permit) = context.limits.edge.clone().try_acquire_owned() else {
            context.metrics.edge.with_label_values(&["overloaded"]).inc();
            continue;
        };
        let (context, place, member) = (context.clone(), context.limits.callers.take(from.ip()), Arc::clone(&member));
        tokio::spawn(async move {
            let outcome = serve(&context, tcp, &member, place).await;
            context.metrics.edge.with_label_values(&[outcome]).inc();
            tracing::debug!(%from, outcome, "an edge connection ended");
            drop(permit);
        });
    }
}

async fn serve(context: &Context, mut tcp: TcpStream, member: &str, place: Place) -> &'static str {
    let mut bytes = BytesMut::with_capacity(4096);
    let greeting = tokio::time::timeout(FIRST_FRAME, hello(&mut tcp, &mut bytes));
    let offered = match place.unless_needed(greeting).await {
        Some(Ok(Ok(First::Hello(offered)))) => offered,
        Some(Ok(Ok(_))) => return "not_tls",
        Some(Ok(Err(_))) => return "broken",
        Some(Err(_)) => return "late",
        None => return "displaced",
    };
    if !offered.iter().any(|name| name == MEMBER) {
        return "unknown_alpn";
    }
    let dialled = tokio::time::timeout(MEMBER_LIMIT, TcpStream::connect(member)).await;
    let Ok(Ok(to)) = dialled else { return "member_unreachable" };
    let spliced = tokio::select! {
        spliced = splice(tcp, to, &bytes) => spliced,
        () = displaced(place) => return "displaced",
        () = context.drain.closed() => return "drained",
    };
    if spliced.is_ok() { "member" } else { "member_broken" }
}

/// Ends when the place of a young connection is needed; an older one has none to lose.
async fn displaced(place: Place) {
    if tokio::time::timeout(YOUNG, place.needed()).await.is_err() {
        drop(place);
        std::future::pending().await
    }
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
