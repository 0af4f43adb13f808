//! All tunnels there are, and how each path stands because of them.
//!
//! A stream to another cluster goes by a tunnel that this side dialled. Where there is none, because the cluster names no
//! gateway or nobody ever got through to it, it goes by one that the cluster dialled.

mod peer;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use isthmus_core::{model::RemoteCluster, name::ClusterName};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use self::peer::Peer;
use crate::{
    path::{Seen, State},
    trouble::Trouble,
    tunnel::{Row, Tunnel},
};

/// A round trip that moved by less than this part of itself is not told to sidecars.
const RTT_MOVED: u64 = 4;
/// ... nor one that moved by less than this, microseconds.
const RTT_MOVED_US: u64 = 500;

/// How the path to a cluster stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its state.
    pub state: State,
    /// Smoothed round trip of the best tunnel, microseconds; 0: none.
    pub rtt_us: u64,
}

/// How a path stands, in full, for control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// State and round trip.
    pub view: View,
    /// Mean loss of its tunnels.
    pub loss_ppm: u32,
    /// Milliseconds since anything was heard on a tunnel that streams go by, those that are gone among them; 0: never.
    pub silent_ms: u64,
    /// Tunnels that are up.
    pub tunnels: u32,
    /// Why it is not up, for people; empty: it is, or nothing is known.
    pub why: String,
}

/// What sidecars are told of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// How the path to it stands.
    pub view: View,
    /// How each tunnel is that streams to it go by, by its id: what leads over one shares its fate.
    pub tunnels: BTreeMap<String, Seen>,
}

/// All of it, by cluster.
pub type Views = Arc<BTreeMap<ClusterName, Told>>;

/// The tunnels. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Links(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peers: Mutex<BTreeMap<ClusterName, Peer>>,
    views: watch::Sender<Views>,
    /// How many tunnels of each cluster were taken in all.
    taken: watch::Sender<BTreeMap<ClusterName, u64>>,
    nudge: Notify,
}

impl Default for Links {
    fn default() -> Self {
        Self(Arc::new(Inner {
            peers: Mutex::default(),
            views: watch::Sender::new(Views::default()),
            taken: watch::Sender::default(),
            nudge: Notify::new(),
        }))
    }
}

impl Links {
    /// The clusters there are; of the others the paths are forgotten, and their tunnels are the caller's to close. Nothing is
    /// judged of one before it says where its gateways are or a tunnel with it is up: that nobody could dial it yet is no
    /// evidence against it.
    pub fn expect<'a>(&self, clusters: impl IntoIterator<Item = &'a RemoteCluster>, now: Instant) {
        let mut peers = self.0.peers.lock();
        let mut before = std::mem::take(&mut *peers);
        for cluster in clusters {
            let mut peer = before.remove(&cluster.name).unwrap_or_default();
            peer.expect(!cluster.gateways.udp.is_empty(), now);
            peer.troubles.keep(&cluster.gateways.udp);
            peers.insert(cluster.name.clone(), peer);
        }
        let gone = before.into_iter().filter(|(_, peer)| !peer.tunnels.is_empty());
        peers.extend(gone.map(|(name, peer)| (name, Peer { tunnels: peer.tunnels, ..Peer::default() })));
        drop(peers);
        self.judge(now);
    }

    /// A tunnel is up.
    pub fn up(&self, tunnel: Arc<Tunnel>) {
        let now = Instant::now();
        let (cluster, dialled) = (tunnel.label.cluster.clone(), tunnel.label.dialled);
        self.0.peers.lock().entry(cluster.clone()).or_default().up(tunnel, now);
        if !dialled {
            self.0.taken.send_modify(|taken| *taken.entry(cluster).or_default() += 1);
        }
        self.judge(now);
    }

    /// Ends when a cluster's gateway dials a tunnel from now on: then it can be dialled too.
    pub async fn dials(&self, cluster: &ClusterName) {
        let mut taken = self.0.taken.subscribe();
        let before = taken.borrow().get(cluster).copied();
        // The sender lives as long as `self`.
        let _ = taken.wait_for(|taken| taken.get(cluster).copied() != before).await;
    }

    /// Whether there are tunnels both ways with every cluster that names gateways, and one with each of the others.
    #[must_use]
    pub fn are_whole(&self) -> bool {
        let peers = self.0.peers.lock();
        peers.values().filter(|peer| peer.known).all(|peer| {
            let has = |dialled: bool| peer.tunnels.iter().any(|tunnel| tunnel.label.dialled == dialled);
            has(false) && (has(true) || !peer.named)
        })
    }

    /// Whether streams go by this tunnel as far as is known, so that it has to be known how it is.
    #[must_use]
    pub fn carries(&self, tunnel: &Tunnel) -> bool {
        self.0.peers.lock().get(&tunnel.label.cluster).is_some_and(|peer| peer.carries(tunnel))
    }

    /// A tunnel is gone.
    pub fn down(&self, tunnel: &Arc<Tunnel>) {
        let mut peers = self.0.peers.lock();
        if let Some(peer) = peers.get_mut(&tunnel.label.cluster) {
            peer.tunnels.retain(|one| !Arc::ptr_eq(one, tunnel));
        }
        peers.retain(|_, peer| peer.known || !peer.tunnels.is_empty());
        drop(peers);
        self.judge(Instant::now());
    }

    /// There is no tunnel to a gateway of a cluster, or none any more. This is for people: no path is judged by it.
    pub fn failed(&self, cluster: &ClusterName, gateway: &str, trouble: Trouble) {
        if let Some(peer) = self.0.peers.lock().get_mut(cluster) {
            peer.troubles.add(gateway, trouble);
        }
    }

    /// Something was learned of a tunnel that may change its path.
    pub fn nudge(&self) {
        self.0.nudge.notify_one();
    }

    /// Ends when [`Links::nudge`] was called.
    pub async fn nudged(&self) {
        self.0.nudge.notified().await;
    }

    /// The tunnel for a new stream: usable and none of those it was `tried` on; one whose gateway does not drain, that is not
    /// doubted, of a gateway that was not tried, with the fewest streams; ties at random. And whether there is another one.
    #[must_use]
    pub fn pick(&self, cluster: &ClusterName, tried: &[Arc<Tunnel>], now: Instant) -> Option<(Arc<Tunnel>, bool)> {
        let peers = self.0.peers.lock();
        let fresh = |tunnel: &&Arc<Tunnel>| !tried.iter().any(|one| Arc::ptr_eq(one, tunnel));
        let usable: Vec<_> = peers.get(cluster)?.usable(now).filter(fresh).collect();
        let key = |tunnel: &&&Arc<Tunnel>| {
            let same = tried.iter().any(|one| one.peer == tunnel.peer);
            (tunnel.is_draining(), tunnel.is_doubted(), same, tunnel.streams(), fastrand::u32(..))
        };
        let best = usable.iter().min_by_key(key)?;
        Some((Arc::clone(best), usable.len() > 1))
    }

    /// This process itself stood still from `from` to `now`: that is no silence of others.
    pub fn excuse(&self, from: Instant, now: Instant) {
        for peer in self.0.peers.lock().values_mut() {
            peer.tunnels.iter().for_each(|tunnel| tunnel.excuse(from, now));
            if let Some(path) = &mut peer.path {
                path.excuse(from, now);
            }
        }
    }

    /// Judges every path by what is known at `now` and tells whoever listens what changed.
    pub fn judge(&self, now: Instant) {
        let mut peers = self.0.peers.lock();
        let mut views = BTreeMap::new();
        for (name, peer) in peers.iter_mut() {
            peer.judge(now);
            if let Some(told) = peer.told(now) {
                views.insert(name.clone(), told);
            }
        }
        // Told under the lock, so that an older judgement never overtakes a newer one.
        self.0.views.send_if_modified(|told| {
            let news = is_news(told, &views);
            if news {
                *told = Arc::new(views);
            }
            news
        });
    }

    /// How the paths stand; wakes at each change.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Views> {
        self.0.views.subscribe()
    }

    /// Every settled path in full.
    #[must_use]
    pub fn details(&self, now: Instant) -> BTreeMap<ClusterName, Detail> {
        let peers = self.0.peers.lock();
        peers.iter().filter_map(|(name, peer)| Some((name.clone(), peer.detail(now)?))).collect()
    }

    /// Every tunnel, those of a cluster together, dialled ones first.
    #[must_use]
    pub fn tunnels(&self) -> Vec<Arc<Tunnel>> {
        self.0.peers.lock().values().flat_map(|peer| peer.tunnels.clone()).collect()
    }

    /// Every tunnel as people see it.
    #[must_use]
    pub fn rows(&self, now: Instant) -> Vec<Row> {
        self.tunnels().iter().map(|tunnel| tunnel.row(now)).collect()
    }
}

fn is_news(told: &BTreeMap<ClusterName, Told>, now: &BTreeMap<ClusterName, Told>) -> bool {
    let moved = |before: &Told, after: &Told| {
        let off = before.view.rtt_us.abs_diff(after.view.rtt_us);
        let far = off >= RTT_MOVED_US && off >= before.view.rtt_us / RTT_MOVED;
        far || before.view.state != after.view.state || before.tunnels != after.tunnels
    };
    told.len() != now.len() || now.iter().any(|(name, view)| told.get(name).is_none_or(|before| moved(before, view)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isthmus_core::{model::Standing, statement::Gateways};

    use super::*;

    fn west(gateways: &[&str]) -> RemoteCluster {
        RemoteCluster {
            name: "west".parse().unwrap(),
            region: "west".into(),
            trust_domain: "west.mesh.test".parse().unwrap(),
            gateways: Gateways::both(gateways.iter().map(|&gateway| gateway.to_owned()).collect()),
            share: 1.0,
            standing: Standing::Unknown,
            rtt_us: 0,
        }
    }

    #[test]
    fn nothing_is_said_of_a_cluster_before_it_can_be_dialled_and_lost_once_it_could_not_be() {
        let (links, start, later) = (Links::default(), Instant::now(), Duration::from_secs(60));
        links.expect([&west(&[])], start);
        links.judge(start + later);
        assert!(links.details(start + later).is_empty(), "control hears nothing of it");
        let told = |links: &Links| links.views().borrow().values().map(|told| told.view.state).collect::<Vec<_>>();
        assert_eq!(told(&links), [State::Lost], "sidecars go by other gateways");
        let dialled = start + later;
        links.expect([&west(&["127.2.3.1:15443"])], dialled);
        assert!(links.details(dialled).is_empty() && told(&links).is_empty(), "not settled");
        links.judge(dialled + Duration::from_secs(3));
        let state = |links: &Links| links.details(dialled).values().map(|detail| detail.view.state).next();
        assert_eq!(state(&links), Some(State::Lost));
        let why = |links: &Links| links.details(dialled).values().map(|detail| detail.why.clone()).next();
        links.failed(&west(&[]).name, "127.2.3.1:15443", Trouble::silence("nobody answers"));
        assert_eq!((state(&links), why(&links)), (Some(State::Lost), Some("nobody answers".into())));
        links.expect([&west(&["127.2.3.2:15443"])], dialled);
        assert_eq!(why(&links), Some(String::new()), "what is not named any more is no reason");
        links.expect([&west(&[])], dialled);
        assert_eq!(state(&links), Some(State::Lost), "a path that was judged stays judged");
        links.expect([], dialled);
        assert_eq!(state(&links), None);
    }
}
