//! Connections of local sidecars (15444/tcp): a signed header, an answer in front of the first inner byte, then bytes.
//!
//! Who the client is, the gateway knows by the pass alone: it writes the source into the header itself, whatever was
//! written there.

use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use isthmus_core::name::{ClusterName, SpiffeId};
use isthmus_runtime::{listen, pass, places::Place};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Answer, Header, Reason, Refuse, SignedHeader, answer},
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    context::Context,
    framed, notices,
    opening::{self, Opened},
    pipe,
    refusal::{refuse, word},
};

/// A refused client has so long to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Takes connections until the drain is over; while draining they are refused with that reason.
pub async fn accept_all(context: Context, listener: TcpListener) {
    loop {
        let (tcp, from) = listen::accept(&listener).await;
        let (context, place) = (context.clone(), context.limits.unproven.take(from.ip()));
        tokio::spawn(async move { serve(&context, tcp, place).await });
    }
}

async fn serve(context: &Context, mut tcp: TcpStream, place: Place) {
    let turned_away = |reason| context.metrics.turned_away.with_label_values(&[reason]).inc();
    let _ = tcp.set_nodelay(true);
    let mut buffer = BytesMut::with_capacity(4096);
    let first = place.unless_needed(framed::first(&mut tcp, &mut buffer)).await;
    let (kind, bytes) = match first {
        Some(Ok(frame)) => frame,
        Some(Err(error)) => {
            tracing::debug!(%error, "a local connection is no sidecar's");
            return turned_away("no_frame");
        }
        None => return turned_away("displaced"),
    };
    let signed = match verify(context, kind, bytes) {
        Ok(signed) => signed,
        Err(refused) => {
            tracing::debug!(reason = refused.detail, "a local header is refused");
            turned_away("forbidden");
            let _ = place.unless_needed(say_no(tcp, refused)).await;
            return;
        }
    };
    drop(place);
    let Ok(_permit) = context.limits.local.clone().try_acquire_owned() else {
        turned_away("overloaded");
        return say_no(tcp, refuse(Reason::Overloaded, "the local gateway holds as many connections as it takes"))
            .await;
    };
    match kind {
        Kind::Subscribe => notices::tell(context, tcp).await,
        _ => stream(context, tcp, signed, buffer).await,
    }
}

/// The sender, as the pass proves it, and the header's bytes.
type Signed = (SpiffeId, Vec<u8>);

fn verify(context: &Context, kind: Kind, bytes: Bytes) -> Result<Signed, Refuse> {
    let forbidden = |detail: String| refuse(Reason::Forbidden, &detail);
    let expected = if kind == Kind::Subscribe { Kind::Subscribe } else { Kind::SignedHeader };
    let signed: SignedHeader = frame::decode(expected, (kind, bytes)).map_err(|error| forbidden(error.to_string()))?;
    let leaf = context.identity.leaf();
    let (id, header) = pass::verify_signed_header(&leaf.pass_roots, &signed, SystemTime::now())
        .map_err(|error| forbidden(error.to_string()))?;
    if id.trust_domain() != leaf.spiffe.trust_domain() {
        return Err(forbidden(format!("{id} is not of this cluster's trust domain")));
    }
    if (kind == Kind::Subscribe) != header.is_empty() {
        return Err(forbidden("a header is due for a stream, and none for a subscription".into()));
    }
    Ok((id, header))
}

async fn stream(context: &Context, tcp: TcpStream, signed: Signed, first: BytesMut) {
    let began = Instant::now();
    let (cluster, outcome) = match address(context, signed) {
        Ok((cluster, header)) => {
            let opened = opening::open(context, &cluster, header, &first).await;
            (cluster.to_string(), opened)
        }
        Err(refused) => (String::new(), Err(refused)),
    };
    let count = |word: &str| context.metrics.streams.with_label_values(&["out", &cluster, word]).inc();
    match outcome {
        Ok(opened) => {
            count("accepted");
            context.metrics.answer_seconds.with_label_values(&[&cluster]).observe(began.elapsed().as_secs_f64());
            let open = context.metrics.open.with_label_values(&["out", &cluster]);
            open.inc();
            carry(context, tcp, opened).await;
            open.dec();
        }
        Err(refused) => {
            count(word(refused.reason()));
            say_no(tcp, refused).await;
        }
    }
}

/// Where the header leads, with the source as this gateway knows it. The cluster is one that the table names.
fn address(context: &Context, (source, bytes): Signed) -> Result<(ClusterName, Header), Refuse> {
    let forbidden = |detail: String| refuse(Reason::Forbidden, &detail);
    let mut header = Header::decode(bytes.as_slice()).map_err(|error| forbidden(error.to_string()))?;
    if !context.door.pass() {
        return Err(refuse(Reason::Draining, "the local gateway drains"));
    }
    let cluster: ClusterName = header.cluster.parse().map_err(|error| forbidden(format!("cluster: {error}")))?;
    if !context.table.snapshot().clusters.contains_key(&cluster) {
        return Err(refuse(Reason::NoTunnel, &format!("no cluster {cluster} is known to this gateway")));
    }
    header.source_identity = source.to_string();
    header.source_cluster = context.cluster.to_string();
    Ok((cluster, header))
}

async fn carry(context: &Context, mut tcp: TcpStream, opened: Opened) {
    let Opened { tunnel, send, receive, front, stream: _stream } = opened;
    if tcp.write_all(&front).await.is_err() {
        return pipe::abort(tcp, send, receive);
    }
    if let Err(error) = pipe::run(tcp, send, receive, &tunnel.carried).await {
        context.broke("out", &tunnel, &error);
    }
}

/// Says no and leaves the client time to read it: closing with its bytes unread would reset the connection.
async fn say_no(mut tcp: TcpStream, refused: Refuse) {
    let answer = Answer { answer: Some(answer::Answer::Refuse(refused)) };
    let Ok(frame) = frame::encode(Kind::Answer, &answer) else { return };
    let farewell = async {
        tcp.write_all(&frame).await?;
        tcp.shutdown().await?;
        let mut sink = [0; 4096];
        while tcp.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}
