//! The role: its sockets, its tasks, and their end.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::get};
use isthmus_runtime::{
    admin::Admin,
    drain::Drain,
    enrolment,
    feed::{self, Report},
    identity::Identity,
    listen, metrics,
    readiness::{Part, Readiness},
};
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    config::Config,
    context::{Context, Limits},
    edge,
    error::Error,
    links::Links,
    local,
    metrics::Metrics,
    open::Open,
    reporting,
    table::Table,
    tunnel::{accept, code, dial, endpoint::Setup},
};

/// Leases that wait for their report.
const LEASES: usize = 64;
/// Streams that are still open at a drain are looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Peers have so long to hear that this gateway has ended.
const FAREWELL: Duration = Duration::from_millis(500);
/// Tunnels with all clusters are there within so long: a dial that failed is made again after a second at most.
const JOIN_LIMIT: Duration = Duration::from_secs(3);
/// Where a gateway listens; port 0: any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Tunnels, udp.
    pub tunnel: u16,
    /// Members and the fallback, tcp.
    pub edge: u16,
    /// Local sidecars, tcp.
    pub local: u16,
}

/// DESIGN.md, "Ports".
pub const PORTS: Ports = Ports { tunnel: 15443, edge: 15443, local: 15444 };

/// A gateway that listens, with where it does.
#[derive(Debug)]
pub struct Gateway {
    /// What its parts share.
    pub context: Context,
    /// Tunnels, udp.
    pub tunnel: SocketAddr,
    /// Members, tcp.
    pub edge: SocketAddr,
    /// Local sidecars, tcp.
    pub local: SocketAddr,
    listeners: (TcpListener, TcpListener),
    member: String,
    leases: mpsc::Receiver<bytes::Bytes>,
}

impl Gateway {
    /// Takes the sockets.
    ///
    /// # Errors
    /// [`Error`]: an address is taken, the state directory fails.
    pub fn bind(
        config: &Config,
        ports: Ports,
        identity: Identity,
        metrics: Metrics,
        drain: Drain,
    ) -> Result<Self, Error> {
        let common = &config.common;
        let at = |port| SocketAddr::new(common.address, port);
        let setup = Setup::new(identity.clone(), config.segmentation_offload);
        let endpoint = setup.endpoint(at(ports.tunnel), &common.state_dir)?;
        let (on_edge, on_local) = (listen::tcp(at(ports.edge))?, listen::tcp(at(ports.local))?);
        let (heard, leases) = mpsc::channel(LEASES);
        Ok(Self {
            tunnel: endpoint.local_addr()?,
            edge: on_edge.local_addr()?,
            local: on_local.local_addr()?,
            listeners: (on_edge, on_local),
            member: config.member.clone(),
            leases,
            context: Context {
                name: common.name.as_str().into(),
                cluster: common.cluster.clone(),
                zone: common.locality.zone.as_str().into(),
                identity,
                table: Table::default(),
                links: Links::default(),
                open: Open::default(),
                metrics,
                drain,
                door: Arc::default(),
                setup,
                endpoint,
                leases: heard,
                limits: Limits::default(),
            },
        })
    }

    /// Serves until the drain is over; `report` takes what is for control.
    pub async fn serve(self, report: impl Fn(Report)) {
        let Self { context, listeners: (on_edge, on_local), member, leases, .. } = self;
        let of = || context.clone();
        tokio::select! {
            () = accept::accept_all(of()) => {}
            () = local::accept_all(of(), on_local) => {}
            () = edge::accept_all(of(), on_edge, member) => {}
            () = reporting::judge(of()) => {}
            () = reporting::report(of(), leases, report) => {}
            () = async { tokio::join!(dial::keep_all(of()), follow_trust(of())); std::future::pending().await } => {}
            () = finished(&context) => {}
        }
        count_rest(&context);
        farewell(&context).await;
    }
}

/// An ejection changes the roots: what is open under the old ones ends.
async fn follow_trust(context: Context) {
    let mut changes = context.identity.trust_changes();
    while changes.changed().await.is_ok() {
        dial::close_strangers(&context);
    }
}

/// Ends when a drain has begun and nothing is open any more, or everything has to end. Everybody hears of the drain by
/// their notices and control streams when it begins; the door is shut only after that.
async fn finished(context: &Context) {
    context.drain.draining().await;
    let quiet = async {
        context.door.shut().await;
        while context.links.tunnels().iter().any(|tunnel| tunnel.streams() > 0) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = quiet => {}
        () = context.drain.closed() => {}
    }
}

/// Says that the gateway is ready once it has tunnels with all clusters, or should have: whoever upgrades the gateways of a
/// cluster one after the other must not take the next one before this one carries streams.
async fn join(links: Links, joined: Part) {
    let whole = async {
        // The table is in force a moment later than it is taken.
        tokio::time::sleep(LOOK_EVERY).await;
        while !links.are_whole() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    // A cluster that is down must not keep this one from being ready.
    let _ = tokio::time::timeout(JOIN_LIMIT, whole).await;
    joined.ready();
}

/// Counts what the end closes. What is inside a stream a gateway cannot see: a request that takes long, a WebSocket and
/// opaque TCP are all one stream each.
fn count_rest(context: &Context) {
    let mut left = BTreeMap::<(&str, String), usize>::new();
    for tunnel in context.links.tunnels() {
        for (direction, streams) in [("out", tunnel.opened()), ("in", tunnel.taken())] {
            *left.entry((direction, tunnel.label.cluster.to_string())).or_default() += streams;
        }
    }
    left.retain(|_, streams| *streams > 0);
    for ((direction, cluster), streams) in &left {
        let closed = context.metrics.closed_at_drain.with_label_values(&[*direction, cluster.as_str()]);
        closed.inc_by(u64::try_from(*streams).unwrap_or(u64::MAX));
    }
    let of = |way: &str| left.iter().filter(|((direction, _), _)| *direction == way).map(|(_, count)| count).sum();
    let (out, into): (usize, usize) = (of("out"), of("in"));
    if out + into > 0 {
        tracing::warn!(
            streams = out + into,
            out,
            r#in = into,
            "the drain came to its end; streams still open are closed"
        );
    }
}

/// Closes all tunnels, and waits until the peers had time to hear it.
async fn farewell(context: &Context) {
    let tunnels = context.links.tunnels();
    tunnels.iter().for_each(|tunnel| tunnel.close(code::DRAINED, "the gateway ends"));
    context.endpoint.close(code::DRAINED, b"the gateway ends");
    let heard = async {
        for tunnel in &tunnels {
            tunnel.endpoint.wait_idle().await;
        }
        context.endpoint.wait_idle().await;
    };
    let _ = tokio::time::timeout(FAREWELL, heard).await;
}

/// Runs a gateway until it has drained.
///
/// # Errors
/// [`Error`]: another process holds its addresses, or it gets no identity.
pub async fn run(config: Config, drain: Drain) -> Result<(), Error> {
    let common = &config.common;
    let admin = Admin::bind(common, "gateway")?;
    let registry = metrics::registry("gateway")?;
    let (metrics, readiness) = (Metrics::new(&registry)?, Readiness::new());
    let (identified, synced) = (readiness.needs("identity"), readiness.needs("feed"));
    let joined = readiness.needs("tunnels");
    let links = Arc::new(OnceLock::<Links>::new());
    let shown = links.clone();
    let rows = get(move || {
        let rows = shown.get().map(|links| links.rows(Instant::now())).unwrap_or_default();
        std::future::ready(Json(rows))
    });
    let admin = admin.router(Router::new().route("/tunnels", rows));
    let certificates = admin.certificates();
    let serving = tokio::spawn(admin.serve(registry, readiness, drain.clone()));

    let identity = enrolment::enrol(common, &drain).await?;
    certificates.add_leaf(&identity);
    identified.ready();
    let gateway = Gateway::bind(&config, PORTS, identity.clone(), metrics, drain.clone())?;
    let _ = links.set(gateway.context.links.clone());
    let hello = feed::Hello { role: feed::Role::Gateway, name: common.name.clone(), node: String::new() };
    let cache = common.state_dir.join("feed");
    let (mut updates, reporter) = feed::subscribe(&identity, &config.control, hello, cache, drain.clone());
    let (table, joining) = (gateway.context.table.clone(), gateway.context.links.clone());
    let feeding = tokio::spawn(async move {
        let mut joined = Some(joined);
        while let Some(update) = updates.next().await {
            let whole = update.synced || update.from_disk;
            table.take(update);
            if whole {
                synced.ready();
                if let Some(joined) = joined.take() {
                    tokio::spawn(join(joining.clone(), joined));
                }
            }
        }
    });
    tracing::info!(tunnels = %gateway.tunnel, local = %gateway.local, "gateway up");
    gateway.serve(move |report| reporter.report(report)).await;
    feeding.abort();
    serving.abort();
    Ok(())
}
