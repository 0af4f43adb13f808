//! Keeps tunnels to every gateway of every remote cluster, as the table names them.

mod error;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_core::name::{ClusterName, TrustDomain};
use isthmus_runtime::{backoff::Backoff, enrolment::system_identity};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

use self::error::DialError;
use super::{Label, PER_GATEWAY, Tunnel, code, control::Channel};
use crate::{context::Context, remote, trouble::Trouble};

/// Waits between dials.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Handshake and hello within so long, or dialled anew.
const DIAL_LIMIT: Duration = Duration::from_secs(2);
/// How often it is looked whether a tunnel that is to be left has streams.
const LEFT_EVERY: Duration = Duration::from_millis(100);
/// Gateways of one cluster that are dialled at most.
const MAX_GATEWAYS: usize = 16;
/// The verifier knows identities only; QUIC wants a name all the same.
const SERVER_NAME: &str = "gateway.isthmus.internal";

/// Where a tunnel is to lead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    cluster: ClusterName,
    trust_domain: TrustDomain,
    /// `host:port`.
    gateway: String,
    index: usize,
}

impl Target {
    /// One beside it, which must not be taken for it.
    fn beside(&self) -> Self {
        Self { index: self.index + PER_GATEWAY, ..self.clone() }
    }
}

/// Dials what the table names, until the drain begins. An address that it does not name any more is dialled no more, and the
/// tunnel that leads there drains: a load balancer or a node that goes must fail no request.
pub async fn keep_all(context: Context) {
    let mut changes = context.table.changes();
    let mut tasks = JoinSet::new();
    let mut kept: BTreeMap<Target, watch::Sender<bool>> = BTreeMap::new();
    loop {
        let snapshot = context.table.snapshot();
        context.links.expect(snapshot.clusters.values().map(AsRef::as_ref), Instant::now());
        let wanted: BTreeSet<_> = snapshot.clusters.values().flat_map(|cluster| targets(cluster)).collect();
        for (target, named) in &kept {
            named.send_if_modified(|named| std::mem::replace(named, wanted.contains(target)) != *named);
        }
        for target in wanted {
            kept.entry(target.clone()).or_insert_with(|| {
                let (named, heeded) = watch::channel(true);
                tasks.spawn(keep(context.clone(), target, heeded));
                named
            });
        }
        close_strangers(&context);
        tokio::select! {
            Ok(()) = changes.changed() => {}
            // If it was named again meanwhile, it is dialled again.
            Some(Ok(ended)) = tasks.join_next() => drop(kept.remove(&ended)),
            () = context.drain.draining() => return tasks.detach_all(),
        }
    }
}

fn targets(cluster: &isthmus_core::model::RemoteCluster) -> impl Iterator<Item = Target> + '_ {
    cluster.gateways.udp.iter().take(MAX_GATEWAYS).flat_map(move |gateway| {
        (0..PER_GATEWAY).map(move |index| Target {
            cluster: cluster.name.clone(),
            trust_domain: cluster.trust_domain.clone(),
            gateway: gateway.clone(),
            index,
        })
    })
}

/// Closes tunnels of clusters that are no more, or whose roots are gone: an ejection ends what is open too.
pub fn close_strangers(context: &Context) {
    let (snapshot, trust) = (context.table.snapshot(), context.identity.trust());
    for tunnel in context.links.tunnels() {
        let Label { cluster, trust_domain, .. } = &tunnel.label;
        let known = snapshot.clusters.get(cluster).is_some_and(|known| known.trust_domain == *trust_domain);
        if !known || trust.roots(trust_domain).is_empty() {
            tunnel.close(code::UNKNOWN_CLUSTER, "this cluster is not of the mesh any more");
        }
    }
}

/// One tunnel after the other; the next beside one whose gateway drains, as long as that lasts. When the target is not named any
/// more it is given back.
async fn keep(context: Context, target: Target, mut named: watch::Receiver<bool>) -> Target {
    let mut at = target.clone();
    // The tunnels to one name begin with different ones of its addresses.
    let mut attempt = target.index;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let (mut said, mut held) = (Said::default(), JoinSet::new());
    while !context.drain.is_draining() && *named.borrow_and_update() {
        let dialled = dial(&context, &at, attempt).await;
        attempt = attempt.wrapping_add(1);
        let reason = match dialled {
            Ok((tunnel, channel)) => {
                count(&context, &target, "up");
                backoff.reset();
                said = Said::default();
                let (ended, end) = oneshot::channel();
                let up = Held { context: context.clone(), tunnel: tunnel.clone() };
                held.spawn(hold(up, channel, named.clone(), ended));
                tokio::select! {
                    reason = end => lost(&context, &target, reason.unwrap_or_default()),
                    () = tunnel.goes() => {
                        at = at.beside();
                        while held.try_join_next().is_some() {}
                        continue;
                    }
                }
            }
            Err(error) => failed(&context, &target, &error, &mut said),
        };
        while held.try_join_next().is_some() {}
        if said.is_news(&reason) {
            tracing::info!(cluster = %target.cluster, gateway = target.gateway, reason, "no tunnel, dialling again");
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = context.links.dials(&target.cluster) => {}
            Ok(()) = named.changed() => {}
        }
    }
    // What is open lives until the drain is over, or until nothing is open where it is left.
    while held.join_next().await.is_some() {}
    target
}

/// A tunnel that was up ended; why.
fn lost(context: &Context, target: &Target, reason: String) -> String {
    let words = format!("the tunnel to {} ended: {reason}", target.gateway);
    context.links.failed(&target.cluster, &target.gateway, Trouble::silence(&words));
    reason
}

/// A dial came to nothing; why.
fn failed(context: &Context, target: &Target, error: &DialError, said: &mut Said) -> String {
    count(context, target, "failed");
    context.links.failed(&target.cluster, &target.gateway, error.trouble(&target.gateway));
    let reason = error.to_string();
    if error.is_refusal() && said.is_news(&reason) {
        tracing::warn!(cluster = %target.cluster, gateway = target.gateway, reason, "the gateway is refused");
    }
    reason
}

/// What was logged of a target last. A time in it that goes on is no news.
#[derive(Default)]
struct Said(String);

impl Said {
    fn is_news(&mut self, reason: &str) -> bool {
        let gist: String = reason.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let is_news = gist != self.0;
        self.0 = gist;
        is_news
    }
}

fn count(context: &Context, target: &Target, outcome: &str) {
    context.metrics.dials.with_label_values(&[target.cluster.as_str(), outcome]).inc();
}

/// A tunnel from its hello to its end; why it ended.
async fn hold(held: Held, channel: Channel, mut named: watch::Receiver<bool>, ended: oneshot::Sender<String>) {
    let Held { context, tunnel } = &held;
    tracing::info!(tunnel = tunnel.label.id, gateway = tunnel.peer, "tunnel up");
    context.links.up(tunnel.clone());
    let reason = tokio::select! {
        // It knows why the tunnel ended.
        biased;
        reason = channel.converse(context, tunnel) => reason.to_string(),
        () = remote::serve_all(context, tunnel) => "the connection is gone".into(),
        () = left(context, tunnel, &mut named) => "its address is not named any more".into(),
    };
    // Where the connection did, that knows better.
    let reason = tunnel.connection.close_reason().map_or(reason, |closed| closed.to_string());
    // Its path is judged without it before anybody says why it ended.
    drop(held);
    // Nobody asks any more where another one took its place.
    let _ = ended.send(reason);
}

/// Ends when nothing is open on a tunnel whose address is not named any more.
async fn left(context: &Context, tunnel: &Tunnel, named: &mut watch::Receiver<bool>) {
    if named.wait_for(|named| !named).await.is_err() {
        // Nobody names anything any more: this process drains, and that says what becomes of tunnels.
        return std::future::pending().await;
    }
    tracing::info!(tunnel = tunnel.label.id, "the address is not named any more; the tunnel drains");
    tunnel.drains(Instant::now());
    context.links.nudge();
    // What was picked just now counts only once it was sent, and what the peer sent before it heard of this once it is here.
    let first = LEFT_EVERY.max(tunnel.rtt() * 2);
    let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + first, LEFT_EVERY);
    loop {
        looks.tick().await;
        if tunnel.streams() == 0 {
            return;
        }
    }
}

/// A tunnel that is up; taken out of the links however its task ends.
struct Held {
    context: Context,
    tunnel: Arc<Tunnel>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tunnel.close(code::PROTOCOL, "the control stream ended");
        self.tunnel.count(&self.context.metrics);
        self.context.links.down(&self.tunnel);
    }
}

async fn dial(context: &Context, target: &Target, attempt: usize) -> Result<(Arc<Tunnel>, Channel), DialError> {
    let greeted = tokio::time::timeout(DIAL_LIMIT, greet(context, target, attempt)).await;
    greeted.unwrap_or(Err(DialError::Late))
}

async fn greet(context: &Context, target: &Target, attempt: usize) -> Result<(Arc<Tunnel>, Channel), DialError> {
    let address = resolve(&target.gateway, attempt).await?;
    let setup = |error: String| DialError::Setup(error);
    let peer = system_identity(&target.trust_domain, "gateway").map_err(|error| setup(error.to_string()))?;
    let config = context.setup.client(peer).map_err(|error| setup(error.to_string()))?;
    let own = context.endpoint.local_addr().map_err(|error| setup(error.to_string()))?;
    let endpoint = context.setup.outgoing(own.ip()).map_err(|error| setup(error.to_string()))?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME);
    let connection = connecting.map_err(|error| setup(error.to_string()))?.await?;
    let mut channel = Channel::new(connection.open_bi().await?);
    // The connection knows best why no hello came.
    let end = |error| connection.close_reason().map_or(DialError::Hello(error), DialError::Handshake);
    let hello = channel.greet(context).await.map_err(end)?;
    if hello.cluster != target.cluster.as_str() {
        connection.close(code::PROTOCOL, b"another cluster was dialled");
        return Err(DialError::OtherCluster(hello.cluster));
    }
    let label = Label {
        id: format!("{}/{}/{}", target.cluster, target.gateway, target.index),
        cluster: target.cluster.clone(),
        trust_domain: target.trust_domain.clone(),
        dialled: true,
    };
    Ok((Arc::new(Tunnel::new(label, hello.gateway, (endpoint, connection), Instant::now())), channel))
}

/// Names are looked up each time, since a load balancer's addresses change, and each time another one of them is taken.
async fn resolve(gateway: &str, attempt: usize) -> Result<SocketAddr, DialError> {
    let fail = |reason: String| DialError::Address(gateway.to_owned(), reason);
    let found = tokio::net::lookup_host(gateway).await.map_err(|error| fail(error.to_string()))?;
    let all: BTreeSet<_> = found.collect();
    let turn = attempt.checked_rem(all.len()).unwrap_or_default();
    all.into_iter().nth(turn).ok_or_else(|| fail("the name has none".into()))
}
