//! All tunnels there are, and how each path stands because of them.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use isthmus_core::{model::RemoteCluster, name::ClusterName};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{
    path::{Path, Seen, State},
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// State and round trip.
    pub view: View,
    /// Mean loss of its tunnels.
    pub loss_ppm: u32,
    /// Milliseconds since anything was heard on any tunnel; 0 when there is none.
    pub silent_ms: u64,
    /// Tunnels that are up.
    pub tunnels: u32,
}

/// What sidecars are told of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// How the path to it stands.
    pub view: View,
    /// How each tunnel of it is that this gateway dialled, by its id: what leads over one shares its fate.
    pub tunnels: BTreeMap<String, Seen>,
}

/// All of it, by cluster.
pub type Views = Arc<BTreeMap<ClusterName, Told>>;

#[derive(Debug)]
struct Peer {
    path: Path,
    tunnels: Vec<Arc<Tunnel>>,
}

/// The tunnels. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Links(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peers: Mutex<BTreeMap<ClusterName, Peer>>,
    incoming: Mutex<Vec<Arc<Tunnel>>>,
    views: watch::Sender<Views>,
    /// How many tunnels of each cluster were taken in all.
    taken: watch::Sender<BTreeMap<ClusterName, u64>>,
    nudge: Notify,
}

impl Default for Links {
    fn default() -> Self {
        Self(Arc::new(Inner {
            peers: Mutex::default(),
            incoming: Mutex::default(),
            views: watch::Sender::new(Views::default()),
            taken: watch::Sender::default(),
            nudge: Notify::new(),
        }))
    }
}

impl Links {
    /// The clusters there are; of the others the paths are forgotten. Nothing is judged of one before it says where its
    /// gateways are: that nobody could dial it yet is no evidence against it.
    pub fn expect<'a>(&self, clusters: impl IntoIterator<Item = &'a RemoteCluster>, now: Instant) {
        let mut peers = self.0.peers.lock();
        let mut gone = std::mem::take(&mut *peers);
        for cluster in clusters {
            let fresh =
                || (!cluster.gateways.udp.is_empty()).then(|| Peer { path: Path::new(now), tunnels: Vec::new() });
            if let Some(peer) = gone.remove(&cluster.name).or_else(fresh) {
                peers.insert(cluster.name.clone(), peer);
            }
        }
        drop(peers);
        self.judge(now);
    }

    /// A tunnel is up.
    pub fn up(&self, tunnel: Arc<Tunnel>) {
        if tunnel.label.dialled {
            if let Some(peer) = self.0.peers.lock().get_mut(&tunnel.label.cluster) {
                peer.tunnels.push(tunnel);
            }
        } else {
            let cluster = tunnel.label.cluster.clone();
            self.0.incoming.lock().push(tunnel);
            self.0.taken.send_modify(|taken| *taken.entry(cluster).or_default() += 1);
        }
        self.judge(Instant::now());
    }

    /// Ends when a cluster's gateway dials a tunnel from now on: then it can be dialled too.
    pub async fn dials(&self, cluster: &ClusterName) {
        let mut taken = self.0.taken.subscribe();
        let before = taken.borrow().get(cluster).copied();
        // The sender lives as long as `self`.
        let _ = taken.wait_for(|taken| taken.get(cluster).copied() != before).await;
    }

    /// Whether there are tunnels both ways with every cluster that names gateways.
    #[must_use]
    pub fn are_whole(&self) -> bool {
        let peers = self.0.peers.lock();
        let incoming = self.0.incoming.lock();
        let comes = |cluster: &ClusterName| incoming.iter().any(|tunnel| tunnel.label.cluster == *cluster);
        peers.iter().all(|(cluster, peer)| !peer.tunnels.is_empty() && comes(cluster))
    }

    /// A tunnel is gone.
    pub fn down(&self, tunnel: &Arc<Tunnel>) {
        let other = |one: &Arc<Tunnel>| !Arc::ptr_eq(one, tunnel);
        if tunnel.label.dialled {
            if let Some(peer) = self.0.peers.lock().get_mut(&tunnel.label.cluster) {
                peer.tunnels.retain(other);
            }
        } else {
            self.0.incoming.lock().retain(other);
        }
        self.judge(Instant::now());
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
    /// doubted, of a gateway that was not tried, with the fewest streams; ties at random.
    #[must_use]
    pub fn pick(&self, cluster: &ClusterName, tried: &[Arc<Tunnel>], now: Instant) -> Option<Arc<Tunnel>> {
        let peers = self.0.peers.lock();
        let fresh = |tunnel: &Tunnel| !tried.iter().any(|one| std::ptr::eq(&**one, tunnel));
        let usable = peers.get(cluster)?.usable(now).into_iter().filter(|tunnel| fresh(tunnel));
        let key = |tunnel: &&Arc<Tunnel>| {
            let same = tried.iter().any(|one| one.peer == tunnel.peer);
            (tunnel.is_draining(), tunnel.is_doubted(), same, tunnel.streams(), fastrand::u32(..))
        };
        usable.min_by_key(key).cloned()
    }

    /// Judges every path by what is known at `now` and tells whoever listens what changed.
    pub fn judge(&self, now: Instant) {
        let mut peers = self.0.peers.lock();
        let mut views = BTreeMap::new();
        for (name, peer) in peers.iter_mut() {
            peer.tunnels.iter().for_each(|tunnel| tunnel.listen(now));
            let seen: Vec<_> = peer.seen(now).into_iter().map(|(_, seen)| seen).collect();
            peer.path.judge(seen, now);
            if peer.path.is_settled() {
                views.insert(name.clone(), peer.told(now));
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
        let settled = peers.iter().filter(|(_, peer)| peer.path.is_settled());
        settled.map(|(name, peer)| (name.clone(), peer.detail(now))).collect()
    }

    /// Every tunnel, dialled ones first.
    #[must_use]
    pub fn tunnels(&self) -> Vec<Arc<Tunnel>> {
        let mut all: Vec<_> = self.0.peers.lock().values().flat_map(|peer| peer.tunnels.clone()).collect();
        all.extend(self.0.incoming.lock().iter().cloned());
        all
    }

    /// Every tunnel as people see it.
    #[must_use]
    pub fn rows(&self, now: Instant) -> Vec<Row> {
        self.tunnels().iter().map(|tunnel| tunnel.row(now)).collect()
    }
}

impl Peer {
    /// How each tunnel is. One whose gateway drains is as good as before until another is up: what leads over it is not
    /// sent away before there is somewhere to go.
    fn seen(&self, now: Instant) -> Vec<(&Arc<Tunnel>, Seen)> {
        let has_other = self.tunnels.iter().any(|tunnel| tunnel.seen(now) == Seen::Up);
        let of = |tunnel: &Tunnel| match tunnel.seen(now) {
            Seen::Draining if !has_other && tunnel.still_takes(now) => Seen::Up,
            seen => seen,
        };
        self.tunnels.iter().map(|tunnel| (tunnel, of(tunnel))).collect()
    }

    /// Tunnels that take new streams.
    fn usable(&self, now: Instant) -> Vec<&Arc<Tunnel>> {
        self.seen(now).into_iter().filter(|(_, seen)| *seen == Seen::Up).map(|(tunnel, _)| tunnel).collect()
    }

    fn told(&self, now: Instant) -> Told {
        let tunnels = self.seen(now).into_iter().map(|(tunnel, seen)| (tunnel.label.id.clone(), seen)).collect();
        Told { view: View { state: self.path.state(), rtt_us: self.rtt_us() }, tunnels }
    }

    fn rtt_us(&self) -> u64 {
        let best = self.tunnels.iter().map(|tunnel| tunnel.rtt().as_micros()).min().unwrap_or(0);
        u64::try_from(best).unwrap_or(u64::MAX)
    }

    fn detail(&self, now: Instant) -> Detail {
        let count = u64::try_from(self.tunnels.len()).unwrap_or(1).max(1);
        let loss = self.tunnels.iter().map(|tunnel| u64::from(tunnel.loss_ppm())).sum::<u64>() / count;
        let silent = self.tunnels.iter().map(|tunnel| tunnel.silent(now).as_millis()).min().unwrap_or(0);
        let up = self.tunnels.iter().filter(|tunnel| tunnel.seen(now) != Seen::Suspect).count();
        Detail {
            view: View { state: self.path.state(), rtt_us: self.rtt_us() },
            loss_ppm: u32::try_from(loss).unwrap_or(u32::MAX),
            silent_ms: u64::try_from(silent).unwrap_or(u64::MAX),
            tunnels: u32::try_from(up).unwrap_or(u32::MAX),
        }
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
        assert!(links.details(start + later).is_empty() && links.views().borrow().is_empty());
        let dialled = start + later;
        links.expect([&west(&["127.2.3.1:15443"])], dialled);
        assert!(links.details(dialled).is_empty(), "not settled");
        links.judge(dialled + Duration::from_secs(3));
        let state = |links: &Links| links.details(dialled).values().map(|detail| detail.view.state).next();
        assert_eq!(state(&links), Some(State::Lost));
        links.expect([&west(&[])], dialled);
        assert_eq!(state(&links), Some(State::Lost), "a path that was judged stays judged");
        links.expect([], dialled);
        assert_eq!(state(&links), None);
    }
}
