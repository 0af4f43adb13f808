//! A connection of its own down the ladder: for opaque TCP, and for requests that upgrade.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use isthmus_core::{ladder::Place as Where, model::Endpoint, name::HostScope, retry::Fault};
use isthmus_runtime::tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    connect::Inner,
    detect::Rewound,
    forward::{HeldBack, Opening, Steps, Target, nothing_usable},
    metadata,
    outbound::nobody,
    pool::{Peer, link::LinkKey},
    snapshot::{View, Vital},
    telemetry::{Record, Reporter},
    worker::Worker,
};

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// An open stream to an endpoint.
pub(crate) struct Opened {
    pub(crate) stream: Box<dyn Duplex>,
    pub(crate) peer: Peer,
    pub(crate) upstream: Arc<str>,
    /// Counts on the endpoint while it lives.
    pub(crate) guard: Option<Box<dyn std::any::Any>>,
}

/// Opens a stream: tier after tier, endpoint after endpoint, until one takes it.
pub(crate) async fn open(worker: &Rc<Worker>, target: &Target<'_>, inner: Inner) -> Result<Opened, (Fault, String)> {
    let nowhere = |detail: String| (Fault::NoHealthyUpstream, detail);
    let rungs = target.view.ladders(target.subset).map(|ladders| ladders.of(target.scope));
    let rungs = rungs.ok_or_else(|| nowhere("no such subset".into()))?;
    let ladder = &rungs.ladder;
    let Some(chosen) = ladder.choose(fastrand::u64(..)) else {
        target.view.refuse();
        return Err(nowhere(nothing_usable(target, ladder)));
    };
    let (mut last, mut held_back) = (None, HeldBack::default());
    for index in std::iter::once(chosen).chain(ladder.fallbacks(chosen)) {
        let Some((tier, passage)) = rungs.at(index) else { continue };
        if last.is_none() && held_back.bars(ladder, chosen, index) {
            continue;
        }
        // A connection counts as one request, answered when it is open.
        let trying = match passage.enter(worker.number, target.deadline) {
            Ok(trying) => trying,
            Err(limit) => {
                held_back.by(target, &passage.cluster, limit);
                continue;
            }
        };
        let opened = match &tier.place {
            Where::Remote(cluster) => {
                let service = target.view.service.name.clone();
                let key = LinkKey { service, port: target.port, subset: None, cluster: cluster.clone() };
                let opening = Opening::new(target, tier, &key, vec![]);
                match remote(worker, &opening, cluster.as_str(), inner).await {
                    // Nothing was sent yet; the next one leads over another gateway, where there are several.
                    Err(_) => remote(worker, &opening, cluster.as_str(), inner).await,
                    opened => opened,
                }
            }
            _ => local(worker, target, &tier.endpoints, inner).await,
        };
        trying.ended(opened.is_err());
        match opened {
            Ok(opened) => return Ok(opened),
            Err(detail) => last = Some(detail),
        }
    }
    if last.is_none() {
        target.view.refuse();
    }
    let limited = held_back.told(&target.view.service.name, last.as_deref());
    let failed = || (Fault::UpstreamConnectionFailure, last.unwrap_or_else(|| "no endpoint could be tried".into()));
    Err(limited.map_or_else(failed, |detail| (Fault::UpstreamOverflow, detail)))
}

async fn local(worker: &Rc<Worker>, target: &Target<'_>, endpoints: &[usize], inner: Inner) -> Result<Opened, String> {
    let view = target.view;
    let mut order: Vec<_> =
        endpoints.iter().filter_map(|at| Some((view.vitals.get(*at)?, view.endpoints.local.get(*at)?))).collect();
    fastrand::shuffle(&mut order);
    order.sort_by_key(|(vital, _)| (vital.is_ejected(), vital.open()));
    let mut last = "no endpoint left".to_owned();
    for (vital, endpoint) in order {
        match direct(worker, target.view, target.port, (vital, endpoint), inner).await {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// To this endpoint of the own cluster.
async fn direct(
    worker: &Rc<Worker>,
    view: &View,
    port: u16,
    (vital, endpoint): (&Arc<Vital>, &Endpoint),
    inner: Inner,
) -> Result<Opened, String> {
    let within = view.service.policy.connect_timeout;
    let connected = worker.shared.connector.direct(endpoint, &view.service.name, port, inner, within).await;
    let (stream, arrived) = connected.map_err(|error| error.to_string())?;
    let cluster = worker.shared.config.common.cluster.to_string();
    let assumed = metadata::assumed(endpoint.id.as_str(), endpoint.identity.namespace(), cluster, String::new());
    let peer = Peer::new(Some(arrived), Some(endpoint.identity.clone()), assumed);
    let guard: Box<dyn std::any::Any> = Box::new(vital.enter());
    Ok(Opened { stream: Box::new(stream), peer, upstream: Arc::clone(&vital.upstream), guard: Some(guard) })
}

async fn remote(worker: &Rc<Worker>, opening: &Opening, cluster: &str, inner: Inner) -> Result<Opened, String> {
    let (stream, arrived, accept, _) =
        opening.stream(worker, inner).await.map_err(|error| format!("{cluster}: {error}"))?;
    let identity = tls::peer_spiffe(stream.stream().get_ref().1.peer_certificates());
    let assumed = metadata::assumed(&accept.endpoint_id, opening.namespace(), cluster.to_owned(), accept.zone);
    let peer = Peer::new(Some(arrived), identity, assumed);
    Ok(Opened { stream: Box::new(stream), peer, upstream: accept.endpoint_id.into(), guard: None })
}

/// What was carried of a connection, however it ended.
pub(crate) struct Carried {
    /// Bytes of the client.
    pub(crate) received: u64,
    /// Bytes to the client.
    pub(crate) sent: u64,
    /// Whether both sides ended it well.
    pub(crate) whole: bool,
}

/// Carries bytes both ways until both sides ended, or one broke; `moved` is called whenever something may have.
pub(crate) async fn both_ways<A, B>(client: &mut A, server: &mut B, mut moved: impl FnMut()) -> Carried
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut counted = Counted { stream: client, read: 0, written: 0, moved: &mut moved };
    let whole = tokio::io::copy_bidirectional(&mut counted, server).await.is_ok();
    Carried { received: counted.read, sent: counted.written, whole }
}

/// A stream that counts; a copy that fails does not tell how far it came.
struct Counted<'a, S> {
    stream: &'a mut S,
    read: u64,
    written: u64,
    moved: &'a mut dyn FnMut(),
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buf);
        self.read += (buf.filled().len() - before) as u64;
        (self.moved)();
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.written += *written as u64;
        }
        (self.moved)();
        polled
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// Carries a connection and tells that it was opened once the peer has said who it is, at the latest when it ends: a
/// connection is opened and closed under the same labels.
pub(crate) async fn tell<A, B>(
    worker: &Worker,
    record: &mut Record,
    peer: &Peer,
    name: impl Fn(&mut Record),
    client: &mut A,
    server: &mut B,
) -> Carried
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut told = false;
    let mut tell = |known: bool| {
        if known && !std::mem::replace(&mut told, known) {
            name(record);
            worker.telemetry.borrow().opened(record);
        }
    };
    let carried = both_ways(client, server, || tell(peer.is_known())).await;
    tell(true);
    (record.received, record.sent) = (carried.received, carried.sent);
    carried
}

/// Carries opaque bytes to a service and records the connection.
pub(crate) async fn carry<S>(worker: Rc<Worker>, view: Arc<View>, called: HostScope, port: u16, client: Rewound<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let began = Instant::now();
    let scope = view.scope(called);
    let (view, steps) = (&view, &Steps::default());
    let target =
        Target { view, scope, subset: None, port, retries: 0, per_try: None, deadline: None, traceparent: "", steps };
    let opened = open(&worker, &target, Inner::Tcp).await;
    let mut client = client;
    pass(&worker, view, opened, began, &mut client).await;
}

/// One endpoint of a service in the own cluster, which is meant and no other.
pub(crate) struct Pinned<'a> {
    pub(crate) view: &'a Arc<View>,
    /// Its index.
    pub(crate) endpoint: usize,
    /// The service's port.
    pub(crate) port: u16,
}

/// As [`carry`], to one endpoint; says whether it took the connection.
pub(crate) async fn carry_to<S>(worker: &Rc<Worker>, to: &Pinned<'_>, client: &mut S) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (began, view) = (Instant::now(), to.view);
    let endpoint = view.vitals.get(to.endpoint).zip(view.endpoints.local.get(to.endpoint));
    let opened = match endpoint {
        Some(endpoint) => direct(worker, view, to.port, endpoint, Inner::Tcp).await,
        None => Err("the endpoint is gone".to_owned()),
    };
    let opened = opened.map_err(|detail| (Fault::UpstreamConnectionFailure, detail));
    pass(worker, view, opened, began, client).await
}

/// Carries bytes over what was opened, if it was; says whether it was.
async fn pass<S>(
    worker: &Rc<Worker>,
    view: &View,
    opened: Result<Opened, (Fault, String)>,
    began: Instant,
    client: &mut S,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut record = record(worker, view);
    let taken = opened.is_ok();
    match opened {
        Err((fault, detail)) => {
            tracing::info!(service = %view.service.name, detail, flag = fault.flag(), "a TCP connection is refused");
            record.fault = Some(fault);
            worker.telemetry.borrow().opened(&record);
        }
        Ok(Opened { mut stream, peer, upstream, guard }) => {
            record.upstream = upstream;
            let told = |record: &mut Record| record.destination = peer.party();
            let carried = tell(worker, &mut record, &peer, told, client, &mut stream).await;
            if !carried.whole {
                record.fault = Some(Fault::UpstreamConnectionTermination);
            }
            drop(guard);
        }
    }
    record.duration = began.elapsed();
    worker.telemetry.borrow_mut().closed(&record);
    taken
}

/// A connection's record, before anything is known of its end.
pub(crate) fn record(worker: &Worker, view: &View) -> Record {
    let parties = [Arc::clone(&worker.shared.own), nobody(worker)];
    Record::new(Reporter::Source, parties, Arc::clone(&view.called), Arc::clone(&worker.shared.none))
}
