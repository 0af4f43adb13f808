//! Connections of local sidecars (15444/tcp): a signed header, an answer in front of the first inner byte, then bytes.
//!
//! Who the client is, the gateway knows by the pass alone: it writes the source into the header itself, whatever was
//! written there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use isthmus_core::name::{ClusterName, SpiffeId};
use isthmus_runtime::{enrolment::system_identity, listen, pass, places::Place};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Answer, Header, Reason, Refuse, SignedHeader, answer},
};
use prost::Message;
use quinn::{RecvStream, SendStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    context::Context,
    framed, notices, pipe,
    refusal::{refuse, word},
    tunnel::Tunnel,
};

/// An answer is waited for at least so long.
const ANSWER_LEAST: Duration = Duration::from_millis(250);
/// ... and at least so many round trips.
const ANSWER_TRIPS: u32 = 3;
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
            let opened = open(context, &cluster, header, &first).await;
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
            carry(tcp, opened).await;
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
    if context.drain.is_draining() {
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

/// A stream that was accepted, with what the client is told and what came behind the answer already.
struct Opened {
    tunnel: Arc<Tunnel>,
    send: SendStream,
    receive: RecvStream,
    front: BytesMut,
}

async fn open(context: &Context, cluster: &ClusterName, header: Header, first: &[u8]) -> Result<Opened, Refuse> {
    let Some(tunnel) = context.links.pick(cluster, Instant::now()) else {
        let why =
            if context.links.views().borrow().contains_key(cluster) { "none is usable" } else { "none is up yet" };
        return Err(refuse(Reason::NoTunnel, &format!("no tunnel to {cluster}: {why}")));
    };
    let limit = ANSWER_LEAST.max(tunnel.rtt() * ANSWER_TRIPS);
    // The remote gateway tries endpoints no longer than somebody waits for its answer.
    let waits = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    let deadline_ms = if header.deadline_ms == 0 { waits } else { header.deadline_ms.min(waits) };
    let header = Header { deadline_ms, ..header };
    let asked = tokio::time::timeout(limit, ask(&tunnel, &header, first)).await;
    let (send, receive, answer, behind) = match asked {
        Ok(Ok(asked)) => asked,
        Ok(Err(broken)) => return Err(broken),
        Err(_) => return Err(refuse(Reason::Timeout, &format!("{} did not answer within {limit:?}", tunnel.label.id))),
    };
    match answer.answer {
        Some(answer::Answer::Accept(mut accept)) => {
            accept.tunnel = tunnel.label.id.clone();
            accept.rtt_us = u64::try_from(tunnel.rtt().as_micros()).unwrap_or(u64::MAX);
            accept.local_gateway = context.name.to_string();
            let remote = system_identity(&tunnel.label.trust_domain, "gateway");
            accept.gateway_identity = remote.map_or_else(|_| String::new(), |identity| identity.to_string());
            let answer = Answer { answer: Some(answer::Answer::Accept(accept)) };
            let mut front = BytesMut::with_capacity(256 + behind.len());
            tunnel.carried.sent.fetch_add(first.len() as u64, Ordering::Relaxed);
            tunnel.carried.received.fetch_add(behind.len() as u64, Ordering::Relaxed);
            frame::put(Kind::Answer, &answer, &mut front)
                .map_err(|error| refuse(Reason::Forbidden, &error.to_string()))?;
            front.extend_from_slice(&behind);
            Ok(Opened { tunnel, send, receive, front })
        }
        Some(answer::Answer::Refuse(refused)) => Err(refused),
        None => Err(refuse(Reason::Forbidden, "the remote gateway's answer is empty")),
    }
}

/// Header and first inner bytes in one write; then the answer. Dropped before that, the stream is reset.
async fn ask(
    tunnel: &Tunnel,
    header: &Header,
    first: &[u8],
) -> Result<(SendStream, RecvStream, Answer, BytesMut), Refuse> {
    let broken = |error: String| refuse(Reason::NoTunnel, &format!("{} broke: {error}", tunnel.label.id));
    let mut bytes = BytesMut::with_capacity(first.len() + 512);
    frame::put(Kind::Header, header, &mut bytes).map_err(|error| refuse(Reason::Forbidden, &error.to_string()))?;
    bytes.extend_from_slice(first);
    let (send, mut receive) = tunnel.connection.open_bi().await.map_err(|error| broken(error.to_string()))?;
    let mut send = ResetOnDrop(Some(send));
    if let Some(send) = send.0.as_mut() {
        send.write_chunk(bytes.freeze()).await.map_err(|error| broken(error.to_string()))?;
    }
    let mut buffer = BytesMut::new();
    let frame = framed::next(&mut receive, &mut buffer).await.map_err(|error| broken(error.to_string()))?;
    let answer = frame::decode(Kind::Answer, frame).map_err(|error| broken(error.to_string()))?;
    let send = send.0.take().ok_or_else(|| broken("it has no sending half".into()))?;
    Ok((send, receive, answer, buffer))
}

/// A sending half that is dropped ends as if all had been said; one that was given up must not.
struct ResetOnDrop(Option<SendStream>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(send) = &mut self.0 {
            let _ = send.reset(pipe::BROKEN);
        }
    }
}

async fn carry(mut tcp: TcpStream, opened: Opened) {
    let Opened { tunnel, send, receive, front } = opened;
    let _stream = tunnel.stream();
    if tcp.write_all(&front).await.is_err() {
        return pipe::abort(tcp, send, receive);
    }
    if let Err(error) = pipe::run(tcp, send, receive, &tunnel.carried).await {
        tracing::debug!(tunnel = tunnel.label.id, %error, "a stream broke");
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
