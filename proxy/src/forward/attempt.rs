//! One try: an endpoint of a tier, a connection to it, the request, its answer.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, Uri, Version};
use hyper_util::rt::TokioIo;
use isthmus_core::{
    balance::{self, Load},
    ladder::{Place as Where, Tier},
    name::ClusterName,
    outlier::{self, Showed},
    retry::Fault,
};
use isthmus_wire::tunnel::{Header, Metadata};

use super::{Outcome, Target};
use crate::{
    body::Body,
    connect::{ConnectError, Inner, LinkTo},
    notices::Path,
    pool::{
        Http1, Peer, Place,
        link::{Link, LinkKey, MOST},
    },
    worker::{Here, Worker},
};

/// Said from a sidecar to the one it calls: the request came as HTTP/1.1, whatever carries it between them.
pub(crate) const ORIGINAL: &str = "x-isthmus-original-protocol";
/// Least time a stream through the gateways has to be answered (DESIGN.md decision 26).
const ANSWER_LEAST: Duration = Duration::from_millis(250);

/// One step of a request, for `isthmus trace`.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Hop {
    pub(crate) hop: &'static str,
    pub(crate) what: String,
    pub(crate) detail: String,
    pub(crate) identity: String,
    pub(crate) micros: u64,
    pub(crate) ok: bool,
    pub(crate) error: String,
}

impl Hop {
    pub(crate) fn new(hop: &'static str, what: impl Into<String>, detail: impl Into<String>) -> Self {
        let (what, detail) = (what.into(), detail.into());
        Self { hop, what, detail, identity: String::new(), micros: 0, ok: true, error: String::new() }
    }

    pub(crate) fn took(mut self, began: std::time::Instant) -> Self {
        self.micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self
    }

    fn by(mut self, identity: impl ToString) -> Self {
        self.identity = identity.to_string();
        self
    }

    pub(crate) fn failed(mut self, error: impl ToString) -> Self {
        self.ok = false;
        self.error = error.to_string();
        self
    }
}

/// A try that brought no answer.
pub(crate) struct Failed {
    pub(crate) fault: Fault,
    pub(crate) detail: String,
    /// Whether anything of the request may have left.
    pub(crate) sent: bool,
    /// The request, when nothing of it was sent.
    pub(crate) unsent: Option<Box<Request<Body>>>,
    pub(crate) hops: Vec<Hop>,
    /// The path to a whole cluster went, not the request's own connection.
    pub(crate) path_lost: bool,
}

impl Failed {
    pub(super) fn nowhere() -> Self {
        Self {
            fault: Fault::NoHealthyUpstream,
            detail: "no endpoint could be tried".into(),
            sent: false,
            unsent: None,
            hops: vec![],
            path_lost: false,
        }
    }

    pub(super) fn answered(outcome: &Outcome) -> Self {
        let detail = format!("{} answered 503", outcome.upstream);
        Self {
            fault: Fault::UpstreamRetryLimitExceeded,
            detail,
            sent: true,
            unsent: None,
            hops: vec![],
            path_lost: false,
        }
    }

    fn unsent(request: Request<Body>, fault: Fault, detail: String, hops: Vec<Hop>) -> Self {
        Self { fault, detail, sent: false, unsent: Some(Box::new(request)), hops, path_lost: false }
    }
}

/// One try in a tier; `avoid` learns which endpoints were tried.
pub(crate) async fn exchange(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    tier: &Tier,
    avoid: &mut Vec<usize>,
    request: Request<Body>,
    safe: bool,
) -> Result<Outcome, Failed> {
    let tried = match &tier.place {
        Where::Remote(cluster) => remote(worker, target, tier, cluster, request, safe).await,
        _ => local(worker, target, tier, avoid, request).await,
    };
    if let Where::Remote(cluster) = &tier.place {
        worker.shared.saw(cluster, |evidence| match &tried {
            Ok(_) => evidence.succeeded += 1,
            Err(failed) if failed.fault == Fault::UpstreamRequestTimeout => evidence.unanswered += 1,
            Err(_) => evidence.failed += 1,
        });
    }
    tried
}

async fn local(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    tier: &Tier,
    avoid: &mut Vec<usize>,
    request: Request<Body>,
) -> Result<Outcome, Failed> {
    let view = target.view;
    let Some(index) = pick(view, tier, avoid) else {
        return Err(Failed::unsent(
            request,
            Fault::NoHealthyUpstream,
            format!("no endpoint left in {}", tier.place),
            vec![],
        ));
    };
    avoid.push(index);
    let (Some(endpoint), Some(vital)) = (view.endpoints.local.get(index), view.vitals.get(index)) else {
        return Err(Failed::unsent(request, Fault::NoHealthyUpstream, "the endpoint is gone".into(), vec![]));
    };
    let open = vital.enter();
    let began = std::time::Instant::now();
    let place = Place { address: endpoint.address, inside: Some((view.service.name.clone(), target.port)) };
    if request.version() == Version::HTTP_2 {
        return local_http2(worker, target, index, place, request, Box::new(open)).await;
    }
    let result = match worker.http1.take(&place) {
        Some(idle) => Ok(idle),
        None => {
            let within = view.service.policy.connect_timeout;
            let inner = Inner::Http1;
            let connected =
                worker.shared.connector.direct(endpoint, &view.service.name, target.port, inner, within).await;
            match connected {
                Ok((stream, arrived)) => {
                    let assumed = Metadata {
                        workload: endpoint.id.to_string(),
                        namespace: endpoint.identity.namespace().to_owned(),
                        cluster: worker.shared.config.common.cluster.to_string(),
                        ..Metadata::default()
                    };
                    let peer = Rc::new(Peer::new(Some(arrived), Some(endpoint.identity.clone()), assumed));
                    handshake(stream, peer).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            }
        }
    };
    let hop = Hop::new("endpoint", endpoint.id.to_string(), format!("{} in {}", endpoint.address, tier.place))
        .by(&endpoint.identity)
        .took(began);
    let policy = &view.service.policy.outlier;
    let observe = |showed| {
        let resting = view.vitals.iter().filter(|vital| vital.is_ejected()).count();
        if vital.observe(showed, policy, outlier::may_eject(view.vitals.len(), resting, policy)) {
            tracing::warn!(endpoint = %endpoint.id, service = %view.service.name, "endpoint ejected after failures in a row");
        }
    };
    let connection = match result {
        Ok(connection) => connection,
        Err(detail) => {
            observe(Showed::Failure);
            let hops = vec![hop.failed(&detail)];
            return Err(Failed::unsent(request, Fault::UpstreamConnectionFailure, detail, hops));
        }
    };
    let upstream = endpoint.address.to_string();
    let sent = over_http1(worker, place, connection, request, target.per_try).await;
    match &sent {
        Ok((answer, _)) if answer.status().is_server_error() => observe(Showed::Failure),
        Ok(_) => observe(Showed::Success),
        // Unsent: the connection had closed while it idled, which says nothing of the endpoint.
        Err(failed) if failed.unsent.is_none() => observe(Showed::Failure),
        Err(_) => {}
    }
    finish(sent, upstream, Box::new(open), hop)
}

/// As over HTTP/1.1, for clients that speak HTTP/2: gRPC needs its trailers and its streams.
async fn local_http2(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    index: usize,
    place: Place,
    mut request: Request<Body>,
    guard: Box<dyn std::any::Any>,
) -> Result<Outcome, Failed> {
    let view = target.view;
    let (Some(endpoint), Some(vital)) = (view.endpoints.local.get(index), view.vitals.get(index)) else {
        return Err(Failed::nowhere());
    };
    let began = std::time::Instant::now();
    let hop = || Hop::new("endpoint", endpoint.id.to_string(), endpoint.address.to_string()).by(&endpoint.identity);
    let kept = worker.inner_http2.borrow().get(&place).filter(|(sender, _)| !sender.is_closed()).cloned();
    let (mut sender, peer) = match kept {
        Some(kept) => kept,
        None => match open_http2(worker, target, endpoint).await {
            Ok(opened) => {
                worker.inner_http2.borrow_mut().insert(place, opened.clone());
                opened
            }
            Err(detail) => {
                vital.observe(Showed::Failure, &view.service.policy.outlier, view.vitals.len() > 1);
                let hops = vec![hop().took(began).failed(&detail)];
                return Err(Failed::unsent(request, Fault::UpstreamConnectionFailure, detail, hops));
            }
        },
    };
    to_absolute_form(&mut request, target);
    let sent = match sender.try_send_request(request).await {
        Ok(answer) => Ok((answer.map(Body::Incoming), peer)),
        Err(mut error) => Err(unanswered(error.take_message(), error.error())),
    };
    finish(sent, endpoint.address.to_string(), guard, hop().took(began))
}

async fn open_http2(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    endpoint: &isthmus_core::model::Endpoint,
) -> Result<crate::worker::InnerHttp2, String> {
    let (service, within) = (&target.view.service.name, target.view.service.policy.connect_timeout);
    let connected = worker.shared.connector.direct(endpoint, service, target.port, Inner::Http2, within).await;
    let (stream, arrived) = connected.map_err(|error| error.to_string())?;
    let cluster = worker.shared.config.common.cluster.to_string();
    let assumed = Metadata { workload: endpoint.id.to_string(), cluster, ..Metadata::default() };
    let peer = Rc::new(Peer::new(Some(arrived), Some(endpoint.identity.clone()), assumed));
    let shaken = hyper::client::conn::http2::Builder::new(Here).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| error.to_string())?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok((sender, peer))
}

fn finish(
    sent: Result<(Response<Body>, Rc<Peer>), Failed>,
    upstream: String,
    guard: Box<dyn std::any::Any>,
    hop: Hop,
) -> Result<Outcome, Failed> {
    match sent {
        Ok((answer, peer)) => Ok(Outcome {
            answer: Ok(answer),
            detail: String::new(),
            peer: Some(peer),
            upstream,
            guard: Some(guard),
            hops: vec![hop],
        }),
        Err(mut failed) => {
            failed.hops.push(hop.failed(&failed.detail));
            Err(failed)
        }
    }
}

/// P2C over the tier's endpoints that were not tried and do not rest; those that rest when nothing else is left.
fn pick(view: &crate::snapshot::View, tier: &Tier, avoid: &[usize]) -> Option<usize> {
    let fresh = |index: &usize| !avoid.contains(index);
    let awake = |index: &usize| fresh(index) && view.vitals.get(*index).is_some_and(|vital| !vital.is_ejected());
    let all_awake = avoid.is_empty() && tier.endpoints.iter().all(awake);
    let candidates: std::borrow::Cow<'_, [usize]> = if all_awake {
        tier.endpoints.as_slice().into()
    } else {
        let some: Vec<_> = tier.endpoints.iter().copied().filter(awake).collect();
        if some.is_empty() {
            tier.endpoints.iter().copied().filter(fresh).collect::<Vec<_>>().into()
        } else {
            some.into()
        }
    };
    let load = |at: usize| {
        let index = candidates.get(at).copied().unwrap_or_default();
        let weight = view.endpoints.local.get(index).map_or(0, |one| one.weight);
        Load { weight, open: view.vitals.get(index).map_or(0, |vital| vital.open()) }
    };
    balance::pick(candidates.len(), load, fastrand::u64(..)).and_then(|at| candidates.get(at).copied())
}

async fn handshake<S>(stream: S, peer: Rc<Peer>) -> Result<Http1, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(Http1 { sender, peer })
}

/// To a plain address: outside the mesh, or the own application.
pub(crate) async fn plain(
    worker: &Rc<Worker>,
    address: SocketAddr,
    request: Request<Body>,
) -> Result<(Response<Body>, Rc<Peer>), Failed> {
    let place = Place { address, inside: None };
    let connection = match worker.http1.take(&place) {
        Some(idle) => idle,
        None => {
            let connecting = tokio::time::timeout(Duration::from_secs(10), tokio::net::TcpStream::connect(address));
            let connected = match connecting.await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    let peer = Rc::new(Peer::new(None, None, Metadata::default()));
                    handshake(stream, peer).await.map_err(|error| error.to_string())
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no connection within 10 s".into()),
            };
            match connected {
                Ok(connection) => connection,
                Err(error) => {
                    let detail = format!("{address}: {error}");
                    return Err(Failed::unsent(request, Fault::UpstreamConnectionFailure, detail, vec![]));
                }
            }
        }
    };
    over_http1(worker, place, connection, request, None).await
}

/// As [`plain`], in HTTP/2 with prior knowledge, for clients that spoke it.
pub(crate) async fn plain_http2(
    worker: &Rc<Worker>,
    address: SocketAddr,
    request: Request<Body>,
) -> Result<Response<Body>, (Fault, String)> {
    let failed = |error: String| (Fault::UpstreamConnectionFailure, format!("{address}: {error}"));
    let kept = worker.http2.borrow().get(&address).filter(|sender| !sender.is_closed()).cloned();
    let mut sender = match kept {
        Some(sender) => sender,
        None => {
            let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| failed(error.to_string()))?;
            let _ = stream.set_nodelay(true);
            let shaken = hyper::client::conn::http2::Builder::new(Here).handshake(TokioIo::new(stream)).await;
            let (sender, connection) = shaken.map_err(|error| failed(error.to_string()))?;
            tokio::task::spawn_local(async move {
                let _ = connection.await;
            });
            worker.http2.borrow_mut().insert(address, sender.clone());
            sender
        }
    };
    match sender.send_request(request).await {
        Ok(answer) => Ok(answer.map(Body::Incoming)),
        Err(error) => Err((Fault::UpstreamConnectionTermination, format!("{address}: {error}"))),
    }
}

async fn over_http1(
    worker: &Rc<Worker>,
    place: Place,
    mut connection: Http1,
    mut request: Request<Body>,
    within: Option<Duration>,
) -> Result<(Response<Body>, Rc<Peer>), Failed> {
    to_origin_form(&mut request);
    let peer = Rc::clone(&connection.peer);
    let sending = connection.sender.try_send_request(request);
    let answered = match within {
        None => sending.await,
        Some(within) => match tokio::time::timeout(within, sending).await {
            Ok(answered) => answered,
            Err(_) => return Err(timed_out(within)),
        },
    };
    match answered {
        Ok(answer) => {
            let upgraded = answer.status() == http::StatusCode::SWITCHING_PROTOCOLS;
            if !upgraded {
                worker.http1.give(place, connection);
            }
            Ok((answer.map(Body::Incoming), peer))
        }
        Err(mut error) => Err(unanswered(error.take_message(), error.error())),
    }
}

fn timed_out(within: Duration) -> Failed {
    let detail = format!("no answer within {within:?}");
    Failed { fault: Fault::UpstreamRequestTimeout, detail, sent: true, unsent: None, hops: vec![], path_lost: false }
}

fn unanswered(message: Option<Request<Body>>, error: &hyper::Error) -> Failed {
    let detail = error.to_string();
    match message {
        Some(request) => Failed::unsent(request, Fault::UpstreamConnectionTermination, detail, vec![]),
        None => {
            let fault = Fault::UpstreamConnectionTermination;
            Failed { fault, detail, sent: true, unsent: None, hops: vec![], path_lost: false }
        }
    }
}

/// HTTP/1.1 to a server has the path alone (RFC 9112, 3.2.1), and the host in its header.
fn to_origin_form(request: &mut Request<Body>) {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        if !request.headers().contains_key(http::header::HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
}

async fn remote(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    tier: &Tier,
    cluster: &ClusterName,
    mut request: Request<Body>,
    safe: bool,
) -> Result<Outcome, Failed> {
    let began = std::time::Instant::now();
    let key = LinkKey {
        service: target.view.service.name.clone(),
        port: target.port,
        subset: target.subset.map(ToOwned::to_owned),
        cluster: cluster.clone(),
    };
    let link = match link(worker, target, tier, &key).await {
        Ok(link) => link,
        Err(error) => {
            let fault = match &error {
                ConnectError::Timeout { .. } => Fault::UpstreamRequestTimeout,
                ConnectError::Refused(refuse) if refuse.reason() == isthmus_wire::tunnel::Reason::Overloaded => {
                    Fault::UpstreamOverflow
                }
                _ => Fault::UpstreamConnectionFailure,
            };
            let hop = Hop::new("gateway", cluster.to_string(), "").took(began).failed(&error);
            return Err(Failed::unsent(request, fault, format!("{cluster}: {error}"), vec![hop]));
        }
    };
    let hop = gateway_hop(cluster, &link).took(began);
    let using = link.enter();
    to_absolute_form(&mut request, target);
    let mut path = worker.shared.notices.path(link.gateway, cluster);
    let sending = link.sender.borrow_mut().try_send_request(request);
    let answered = tokio::select! {
        answered = sending => answered,
        () = gone(&mut path), if safe => {
            worker.links.drop_path(link.gateway, cluster);
            let detail = format!("the path to {cluster} was lost while an answer was due");
            let fault = Fault::UpstreamConnectionTermination;
            return Err(Failed { fault, detail: detail.clone(), sent: true, unsent: None, hops: vec![hop.failed(detail)], path_lost: true });
        }
        () = elapsed(target.per_try) => return Err(timed_out(target.per_try.unwrap_or_default())),
    };
    let peer = Rc::clone(&link.peer);
    let sent = match answered {
        Ok(answer) => Ok((answer.map(Body::Incoming), peer)),
        Err(mut error) => Err(unanswered(error.take_message(), error.error())),
    };
    let mut outcome = finish(sent, link.accept.endpoint_id.clone(), Box::new(using), endpoint_hop(&link))?;
    outcome.hops.insert(0, hop);
    Ok(outcome)
}

fn gateway_hop(cluster: &ClusterName, link: &Link) -> Hop {
    let accept = &link.accept;
    let rtt = Duration::from_micros(accept.rtt_us);
    Hop::new(
        "gateway",
        format!("{} → {}", accept.local_gateway, accept.gateway),
        format!("{cluster} by tunnel {}, round trip {rtt:?}", accept.tunnel),
    )
}

fn endpoint_hop(link: &Link) -> Hop {
    let party = link.peer.party();
    Hop::new("endpoint", link.accept.endpoint_id.clone(), format!("in {}", link.accept.zone)).by(&party.principal)
}

/// Returns when the path takes no more streams.
async fn gone(path: &mut tokio::sync::watch::Receiver<Path>) {
    if path.wait_for(|path| !path.usable).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn elapsed(within: Option<Duration>) {
    match within {
        Some(within) => tokio::time::sleep(within).await,
        None => std::future::pending().await,
    }
}

/// HTTP/2 between sidecars has the authority in the URI; how the client spoke is said beside it.
fn to_absolute_form(request: &mut Request<Body>, target: &Target<'_>) {
    if request.version() != Version::HTTP_2 {
        request.headers_mut().insert(ORIGINAL, HeaderValue::from_static("http/1.1"));
        for name in [http::header::CONNECTION, http::header::TRANSFER_ENCODING, http::header::UPGRADE] {
            request.headers_mut().remove(name);
        }
        for name in ["keep-alive", "proxy-connection"] {
            request.headers_mut().remove(name);
        }
    }
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(http::header::HOST);
    let authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
    let authority = authority.or_else(|| request.uri().authority().cloned());
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = authority.or_else(|| format!("{}:{}", target.view.host, target.port).parse().ok());
    parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// A link for a request: an idle one, or one that is opened for it; another one in the background when that is due.
async fn link(worker: &Rc<Worker>, target: &Target<'_>, tier: &Tier, key: &LinkKey) -> Result<Rc<Link>, ConnectError> {
    let most = (MOST / worker.shared.config.workers.max(1)).max(1);
    loop {
        let choice = worker.links.choose(key, tier.usable, most, fastrand::u64(..));
        match (choice.link, choice.open) {
            (Some(link), None) => return Ok(link),
            (Some(link), Some(avoid)) => {
                let opening = Opening::new(target, tier, key, avoid);
                let worker = Rc::clone(worker);
                tokio::task::spawn_local(async move {
                    let _ = opening.open(&worker).await;
                });
                return Ok(link);
            }
            (None, Some(avoid)) => return Opening::new(target, tier, key, avoid).open(worker).await,
            (None, None) => worker.links.ended(key).await.map_err(ConnectError::Shared)?,
        }
    }
}

/// All that opening a link needs, without the request it is for.
pub(crate) struct Opening {
    key: LinkKey,
    header: Header,
    identities: std::collections::BTreeSet<isthmus_core::name::SpiffeId>,
}

impl Opening {
    pub(crate) fn new(target: &Target<'_>, tier: &Tier, key: &LinkKey, avoid: Vec<String>) -> Self {
        let labels = target.subset.and_then(|subset| target.view.service.subsets.get(subset));
        let header = Header {
            namespace: key.service.namespace().to_owned(),
            service: key.service.name().to_owned(),
            port: u32::from(key.port),
            labels: labels.map(|subset| subset.labels.clone().into_iter().collect()).unwrap_or_default(),
            avoid,
            cluster: key.cluster.to_string(),
            traceparent: target.traceparent.to_owned(),
            ..Header::default()
        };
        Self { key: key.clone(), header, identities: tier.identities.clone() }
    }

    async fn open(self, worker: &Rc<Worker>) -> Result<Rc<Link>, ConnectError> {
        let key = self.key.clone();
        // On a task of its own: a request that is cancelled must not leave an opening announced for ever.
        let worker = Rc::clone(worker);
        let opening = tokio::task::spawn_local(async move { self.announced(&worker, &key).await });
        opening.await.unwrap_or_else(|_| Err(ConnectError::Shared("the opening was cut short".into())))
    }

    async fn announced(self, worker: &Rc<Worker>, key: &LinkKey) -> Result<Rc<Link>, ConnectError> {
        let opened = self.connect(worker).await;
        let told = opened.as_ref().map(Rc::clone).map_err(ToString::to_string);
        worker.links.opened(key, told);
        opened
    }

    async fn connect(self, worker: &Rc<Worker>) -> Result<Rc<Link>, ConnectError> {
        let (stream, arrived, accept, gateway) = self.stream(worker, Inner::Http2).await?;
        let assumed = Metadata {
            workload: accept.endpoint_id.clone(),
            namespace: self.key.service.namespace().to_owned(),
            cluster: self.key.cluster.to_string(),
            zone: accept.zone.clone(),
            ..Metadata::default()
        };
        let identity = isthmus_runtime::tls::peer_spiffe(stream.stream().get_ref().1.peer_certificates());
        let peer = Peer::new(Some(arrived), identity, assumed);
        let builder = hyper::client::conn::http2::Builder::new(Here);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| ConnectError::Unreachable {
            to: self.key.cluster.to_string(),
            source: std::io::Error::other(error),
        })?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Link::new(sender, accept, gateway, peer))
    }

    /// An inner connection of any kind through a local gateway.
    pub(crate) async fn stream(
        &self,
        worker: &Rc<Worker>,
        inner: Inner,
    ) -> Result<(crate::connect::Linked, crate::fronted::Arrived, isthmus_wire::tunnel::Accept, SocketAddr), ConnectError>
    {
        let shared: &Arc<_> = &worker.shared;
        let gateway = shared.gateway_to(&self.key.cluster).ok_or(ConnectError::NoGateway)?;
        let rtt = shared.notices.path(gateway, &self.key.cluster).borrow().rtt;
        let answer_within = ANSWER_LEAST.max(rtt * 3);
        let mut header = self.header.clone();
        header.deadline_ms = u32::try_from(answer_within.as_millis()).unwrap_or(u32::MAX);
        let to = LinkTo { gateway, header, identities: &self.identities, inner, answer_within };
        let (stream, arrived, accept) = shared.connector.link(to, &self.key.service).await?;
        Ok((stream, arrived, accept, gateway))
    }
}
