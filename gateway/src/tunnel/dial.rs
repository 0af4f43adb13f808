//! Keeps tunnels to every gateway of every remote cluster, as the table names them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_core::name::{ClusterName, TrustDomain};
use isthmus_runtime::{backoff::Backoff, enrolment::system_identity};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

use super::{
    Label, PER_GATEWAY, Tunnel, code,
    control::{Channel, ControlError},
};
use crate::context::Context;

/// Waits between dials.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Handshake and hello within so long, or dialled anew.
const DIAL_LIMIT: Duration = Duration::from_secs(2);
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

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0} has no address: {1}")]
    Address(String, String),
    #[error("cannot dial: {0}")]
    Setup(String),
    #[error("no handshake: {0}")]
    Handshake(#[from] quinn::ConnectionError),
    #[error("no hello: {0}")]
    Hello(#[from] ControlError),
    #[error("the peer says it is of cluster {0:?}")]
    OtherCluster(String),
    #[error("no handshake within {DIAL_LIMIT:?}")]
    Late,
}

impl DialError {
    /// Whether somebody answered and was not who it should be, or did not take us: a human has to look.
    fn is_refusal(&self) -> bool {
        use quinn::ConnectionError::{ConnectionClosed, TransportError};
        matches!(self, Self::Handshake(TransportError(_) | ConnectionClosed(_)) | Self::OtherCluster(_))
    }
}

/// Dials what the table names, until the drain begins.
pub async fn keep_all(context: Context) {
    let mut changes = context.table.changes();
    let mut kept: BTreeMap<Target, JoinHandle<()>> = BTreeMap::new();
    loop {
        let snapshot = context.table.snapshot();
        context.links.expect(snapshot.clusters.values().map(AsRef::as_ref), Instant::now());
        let wanted = snapshot.clusters.values().flat_map(|cluster| targets(cluster));
        let mut before = std::mem::take(&mut kept);
        for target in wanted {
            let task = before.remove(&target);
            let task = task.unwrap_or_else(|| tokio::spawn(keep(context.clone(), target.clone())));
            kept.insert(target, task);
        }
        before.values().for_each(JoinHandle::abort);
        close_strangers(&context);
        tokio::select! {
            Ok(()) = changes.changed() => {}
            () = context.drain.draining() => return,
        }
    }
}

fn targets(cluster: &isthmus_core::model::RemoteCluster) -> impl Iterator<Item = Target> + '_ {
    cluster.gateways.iter().take(MAX_GATEWAYS).flat_map(move |gateway| {
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

/// One tunnel after the other; the next beside one whose gateway drains, as long as that lasts.
async fn keep(context: Context, mut target: Target) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let (mut said, mut held) = (String::new(), JoinSet::new());
    while !context.drain.is_draining() {
        let dialled = tokio::time::timeout(DIAL_LIMIT, dial(&context, &target)).await;
        let reason = match dialled.unwrap_or(Err(DialError::Late)) {
            Ok((tunnel, channel)) => {
                count(&context, &target, "up");
                backoff.reset();
                said.clear();
                let (ended, end) = oneshot::channel();
                held.spawn(hold(context.clone(), tunnel.clone(), channel, ended));
                tokio::select! {
                    reason = end => reason.unwrap_or_default(),
                    () = tunnel.goes() => {
                        target = target.beside();
                        continue;
                    }
                }
            }
            Err(error) => {
                count(&context, &target, "failed");
                let reason = error.to_string();
                if error.is_refusal() && reason != said {
                    tracing::warn!(cluster = %target.cluster, gateway = target.gateway, reason, "the gateway is refused");
                    said.clone_from(&reason);
                }
                reason
            }
        };
        while held.try_join_next().is_some() {}
        if reason != said {
            tracing::info!(cluster = %target.cluster, gateway = target.gateway, reason, "no tunnel, dialling again");
            said = reason;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = context.links.dials(&target.cluster) => {}
        }
    }
    // What is open lives until the drain is over.
    while held.join_next().await.is_some() {}
}

fn count(context: &Context, target: &Target, outcome: &str) {
    context.metrics.dials.with_label_values(&[target.cluster.as_str(), outcome]).inc();
}

/// A tunnel from its hello to its end; why it ended.
async fn hold(context: Context, tunnel: Arc<Tunnel>, channel: Channel, ended: oneshot::Sender<String>) {
    let held = Held { context: &context, tunnel };
    tracing::info!(tunnel = held.tunnel.label.id, gateway = held.tunnel.peer, "tunnel up");
    context.links.up(held.tunnel.clone());
    let reason = channel.converse(&context, &held.tunnel).await;
    // Nobody asks any more where another one took its place.
    let _ = ended.send(reason.to_string());
}

/// Takes the tunnel out of the links however its task ends.
struct Held<'a> {
    context: &'a Context,
    tunnel: Arc<Tunnel>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.tunnel.close(code::PROTOCOL, "the control stream ended");
        self.tunnel.count(&self.context.metrics);
        self.context.links.down(&self.tunnel);
    }
}

async fn dial(context: &Context, target: &Target) -> Result<(Arc<Tunnel>, Channel), DialError> {
    let address = resolve(&target.gateway).await?;
    let setup = |error: String| DialError::Setup(error);
    let peer = system_identity(&target.trust_domain, "gateway").map_err(|error| setup(error.to_string()))?;
    let config = context.setup.client(peer).map_err(|error| setup(error.to_string()))?;
    let own = context.endpoint.local_addr().map_err(|error| setup(error.to_string()))?;
    let endpoint = context.setup.outgoing(own.ip()).map_err(|error| setup(error.to_string()))?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME);
    let connection = connecting.map_err(|error| setup(error.to_string()))?.await?;
    let mut channel = Channel::new(connection.open_bi().await?);
    let hello = channel.greet(context).await?;
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

async fn resolve(gateway: &str) -> Result<SocketAddr, DialError> {
    let fail = |reason: String| DialError::Address(gateway.to_owned(), reason);
    let mut found = tokio::net::lookup_host(gateway).await.map_err(|error| fail(error.to_string()))?;
    found.next().ok_or_else(|| fail("the name has none".into()))
}
