//! What a worker thread has of its own, and what all of them share.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use hyper::client::conn::http2::SendRequest;
use isthmus_core::name::ClusterName;
use isthmus_runtime::drain::Drain;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    body::Body,
    config::Config,
    connect::Connector,
    dial::Dial,
    notices::Notices,
    pool::{Http1Pool, Peer, Place, link::Links},
    snapshot::Snapshot,
    telemetry::{Called, Party, Telemetry},
    under_way::UnderWay,
};

/// What requests to another cluster showed since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) unanswered: u64,
}

/// Shared by all workers.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) connector: Connector,
    pub(crate) notices: Notices,
    /// This workload, as labels have it.
    pub(crate) own: Arc<Party>,
    /// The upstream of what went nowhere.
    pub(crate) none: Arc<str>,
    /// The service of what is for no service of the mesh.
    pub(crate) passthrough: Arc<Called>,
    pub(crate) evidence: Mutex<BTreeMap<ClusterName, Evidence>>,
    /// When the process ends.
    pub(crate) drain: Drain,
    /// What it waits for then.
    pub(crate) under_way: UnderWay,
    /// The edition of the picture in force.
    changed: watch::Sender<u64>,
    /// How often this workload stopped being ready.
    rests: watch::Sender<u64>,
    next_gateway: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: Config, connector: Connector, own: Party, drain: Drain) -> Arc<Self> {
        Arc::new(Self {
            config,
            snapshot: ArcSwap::from_pointee(Snapshot::empty()),
            connector,
            notices: Notices::default(),
            own: Arc::new(own),
            none: "".into(),
            passthrough: Arc::new(Called::passthrough()),
            evidence: Mutex::default(),
            drain,
            under_way: UnderWay::default(),
            changed: watch::Sender::new(0),
            rests: watch::Sender::new(0),
            next_gateway: AtomicU64::new(0),
        })
    }

    /// Puts a new picture in force.
    pub(crate) fn show(&self, snapshot: Snapshot) {
        let edition = snapshot.edition;
        self.snapshot.store(Arc::new(snapshot));
        self.changed.send_if_modified(|shown| std::mem::replace(shown, edition) != edition);
    }

    /// Editions: pictures in which more changed than where requests go.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// This workload is not ready any more.
    pub(crate) fn rest(&self) {
        self.rests.send_modify(|count| *count += 1);
    }

    /// Wakes each time this workload stops being ready from now on.
    pub(crate) fn rests(&self) -> watch::Receiver<u64> {
        self.rests.subscribe()
    }

    /// A local gateway whose path to the cluster is usable, in turn, and not this one; `None`: there is none.
    pub(crate) fn gateway_to(&self, cluster: &ClusterName, not: Option<SocketAddr>) -> Option<SocketAddr> {
        let snapshot = self.snapshot.load();
        let gateways = &snapshot.mesh.as_ref()?.gateways;
        let others = gateways.iter().filter(|gateway| Some(**gateway) != not);
        let usable: Vec<_> = others.filter(|gateway| self.notices.is_usable(**gateway, cluster)).collect();
        let turn = usize::try_from(self.next_gateway.fetch_add(1, Ordering::Relaxed)).unwrap_or_default();
        usable.get(turn.checked_rem(usable.len())?).map(|gateway| **gateway)
    }

    /// Whether a local gateway has a usable path to the cluster.
    pub(crate) fn has_way(&self, cluster: &ClusterName) -> bool {
        let snapshot = self.snapshot.load();
        let mut gateways = snapshot.mesh.iter().flat_map(|mesh| &mesh.gateways);
        gateways.any(|gateway| self.notices.is_usable(*gateway, cluster))
    }

    pub(crate) fn saw(&self, cluster: &ClusterName, add: impl FnOnce(&mut Evidence)) {
        let mut evidence = self.evidence.lock();
        if let Some(of) = evidence.get_mut(cluster) {
            add(of);
        } else {
            add(evidence.entry(cluster.clone()).or_default());
        }
    }
}

/// An inner HTTP/2 connection, and whom it leads to.
pub(crate) type InnerHttp2 = (SendRequest<Body>, Rc<Peer>);

/// One worker's own.
pub(crate) struct Worker {
    /// From 0.
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) http1: Http1Pool,
    pub(crate) links: Links,
    /// HTTP/2 connections to endpoints of the own cluster, by place.
    pub(crate) inner_http2: RefCell<HashMap<Place, InnerHttp2>>,
    /// HTTP/2 connections to the own application.
    pub(crate) http2: RefCell<HashMap<Dial, SendRequest<Body>>>,
    pub(crate) telemetry: RefCell<Telemetry>,
}

/// Tasks of a worker stay on its thread.
#[derive(Clone, Copy)]
pub(crate) struct Here;

impl<F> hyper::rt::Executor<F> for Here
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
