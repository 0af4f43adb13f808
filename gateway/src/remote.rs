//! Streams that peers open: is the service exported for them, which endpoint takes it, and then its bytes.
//!
//! The peer gateway vouches for its own cluster only: the source it names must be of the trust domain it proved.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use isthmus_core::{
    model::Endpoint,
    name::{EndpointId, ServiceName, SpiffeId},
};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Accept, Answer, Header, Reason, Refuse, answer},
};
use quinn::{RecvStream, SendStream};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

use crate::{
    context::Context,
    framed,
    open::Guard,
    pick::{self, Wish},
    pipe,
    refusal::{refuse, word},
    tunnel::Tunnel,
};

/// An endpoint takes a connection within so long, or the next one is tried.
const DIAL_LIMIT: Duration = Duration::from_millis(250);
/// Endpoints that are tried for one stream.
const MAX_TRIES: usize = 4;

/// Takes every stream that the peer of a tunnel opens, until the tunnel is gone.
pub async fn serve_all(context: &Context, tunnel: &Arc<Tunnel>) {
    while let Ok(stream) = tunnel.connection.accept_bi().await {
        tokio::spawn(serve(context.clone(), tunnel.clone(), stream));
    }
}

/// Takes one stream from its header to its end.
async fn serve(context: Context, tunnel: Arc<Tunnel>, (mut send, mut receive): (SendStream, RecvStream)) {
    let cluster = tunnel.label.cluster.clone();
    let count = |outcome: &str| context.metrics.streams.with_label_values(&["in", cluster.as_str(), outcome]).inc();
    // It counts from here: a gateway that drains waits for it.
    let _stream = tunnel.takes();
    let mut buffer = BytesMut::new();
    let first = framed::first(&mut receive, &mut buffer).await.map_err(|error| error.to_string());
    let header = first.and_then(|frame| frame::decode(Kind::Header, frame).map_err(|error| error.to_string()));
    let header: Header = match header {
        Ok(header) => header,
        Err(reason) => {
            tracing::debug!(tunnel = tunnel.label.id, reason, "a stream did not begin with a header");
            count("malformed");
            let _ = send.reset(pipe::BROKEN);
            let _ = receive.stop(pipe::BROKEN);
            return;
        }
    };
    let chosen = match context.limits.streams.clone().try_acquire_owned() {
        Ok(permit) => connect(&context, &tunnel, &header).await.map(|chosen| (chosen, permit)),
        Err(_) => Err(refuse(Reason::Overloaded, "this gateway holds as many streams as it takes")),
    };
    let (Chosen { tcp, accept, guard }, _permit) = match chosen {
        Ok(chosen) => chosen,
        Err(refused) => {
            count(word(refused.reason()));
            say(&mut send, answer::Answer::Refuse(refused)).await;
            let (_, _) = (send.finish(), receive.stop(pipe::BROKEN));
            return;
        }
    };
    count("accepted");
    say(&mut send, answer::Answer::Accept(accept)).await;
    let open = context.metrics.open.with_label_values(&["in", cluster.as_str()]);
    open.inc();
    carry(&context, &tunnel, tcp, send, receive, buffer).await;
    open.dec();
    drop(guard);
}

async fn carry(
    context: &Context,
    tunnel: &Tunnel,
    mut tcp: TcpStream,
    send: SendStream,
    receive: RecvStream,
    first: BytesMut,
) {
    tunnel.carried.received.fetch_add(first.len() as u64, Ordering::Relaxed);
    if tcp.write_all(&first).await.is_err() {
        return pipe::abort(tcp, send, receive);
    }
    // Here the tunnel's side is the client's: what comes off the tunnel is received, as everywhere.
    if let Err(error) = pipe::run(tcp, send, receive, &tunnel.carried).await {
        context.broke("in", tunnel, &error);
    }
}

async fn say(send: &mut SendStream, answer: answer::Answer) {
    if let Ok(frame) = frame::encode(Kind::Answer, &Answer { answer: Some(answer) }) {
        // A stream that is gone tells its reader at once.
        let _ = send.write_chunk(frame).await;
    }
}

/// An endpoint that took the connection.
struct Chosen {
    tcp: TcpStream,
    accept: Accept,
    guard: Guard,
}

async fn connect(context: &Context, tunnel: &Tunnel, header: &Header) -> Result<Chosen, Refuse> {
    let service = admit(context, tunnel, header)?;
    let wish = wish(header)?;
    let limit = match header.deadline_ms {
        0 => Duration::MAX,
        limit => Duration::from_millis(u64::from(limit)),
    };
    let (began, mut tried, mut reason) = (Instant::now(), BTreeSet::new(), String::new());
    while tried.len() < MAX_TRIES && began.elapsed() < limit {
        let Some((endpoint, guard)) = next(context, &service, &wish, &tried) else { break };
        // Half of what is left: one that swallows packets must leave time for the next.
        let left = (limit.saturating_sub(began.elapsed()) / 2).min(DIAL_LIMIT);
        match dial(&endpoint, left).await {
            Ok(tcp) => {
                let accept = Accept {
                    endpoint_id: endpoint.id.to_string(),
                    zone: endpoint.locality.zone.clone(),
                    gateway: context.name.to_string(),
                    ..Accept::default()
                };
                return Ok(Chosen { tcp, accept, guard });
            }
            Err(error) => reason = format!("; {} at {}: {error}", endpoint.id, endpoint.address),
        }
        tried.insert(endpoint.id);
    }
    let detail = format!("no endpoint of {service} in {} takes it ({} tried{reason})", context.cluster, tried.len());
    Err(refuse(Reason::NoEndpoint, &detail))
}

fn admit(context: &Context, tunnel: &Tunnel, header: &Header) -> Result<ServiceName, Refuse> {
    if !context.door.pass() {
        return Err(refuse(Reason::Draining, "this gateway drains"));
    }
    let forbidden = |detail: String| refuse(Reason::Forbidden, &detail);
    let source: SpiffeId = header.source_identity.parse().map_err(|error| forbidden(format!("source: {error}")))?;
    if *source.trust_domain() != tunnel.label.trust_domain {
        return Err(forbidden(format!("{source} is not of {}, whose gateway names it", tunnel.label.trust_domain)));
    }
    if header.cluster != context.cluster.as_str() {
        return Err(forbidden(format!("this is a gateway of {}, not of {:?}", context.cluster, header.cluster)));
    }
    let name = ServiceName::new(&header.namespace, &header.service).map_err(|error| forbidden(error.to_string()))?;
    let snapshot = context.table.snapshot();
    let service = snapshot.services.get(&name);
    let exported = service.and_then(|service| service.exported.as_ref());
    if !exported.is_some_and(|consumers| consumers.include(&tunnel.label.cluster)) {
        // Whether it exists at all is nobody's business for whom it is not exported.
        let detail = format!("{} exports no {name} to {}", context.cluster, tunnel.label.cluster);
        return Err(refuse(Reason::NotExported, &detail));
    }
    Ok(name)
}

fn wish(header: &Header) -> Result<Wish, Refuse> {
    let no_port = |_| refuse(Reason::Forbidden, &format!("{} is no port", header.port));
    Ok(Wish {
        port: u16::try_from(header.port).map_err(no_port)?,
        labels: header.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        endpoint_id: header.endpoint_id.clone(),
        avoid: header.avoid.clone(),
        affinity: header.affinity,
        unready_too: header.unready_too,
    })
}

fn next(
    context: &Context,
    service: &ServiceName,
    wish: &Wish,
    tried: &BTreeSet<EndpointId>,
) -> Option<(Endpoint, Guard)> {
    let snapshot = context.table.snapshot();
    let local = &snapshot.endpoints.get(service)?.local;
    context.open.choose(|count| {
        let order = pick::order(local, wish, count, || fastrand::u32(..));
        let chosen = order.into_iter().find(|endpoint| !tried.contains(&endpoint.id))?;
        Some((chosen.id.clone(), chosen.clone()))
    })
}

async fn dial(endpoint: &Endpoint, limit: Duration) -> std::io::Result<TcpStream> {
    let dialled = tokio::time::timeout(limit, TcpStream::connect(endpoint.address)).await;
    let tcp = dialled.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
