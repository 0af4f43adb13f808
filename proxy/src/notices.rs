//! What the local gateways say of themselves, of the paths to other clusters and of their tunnels, as it is said:
//! suspect, lost, draining. They do not know which requests are safe; whoever holds the request does, and decides
//! (DESIGN.md decision 16).

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use isthmus_core::name::ClusterName;
use isthmus_runtime::{backoff::Backoff, drain::Drain};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Notice, notice},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{broadcast, watch},
};

use crate::worker::Shared;

/// How something stands that inner connections lead over; the worst of several counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Until a gateway says otherwise it is worth a try.
    #[default]
    Up,
    /// Nothing new goes there; what is under way may end.
    Draining,
    /// Nothing comes back from there.
    Lost,
}

/// The path to a cluster by one gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path {
    state: State,
    /// Smoothed round trip; zero: not known.
    pub(crate) rtt: Duration,
}

/// What one inner connection leads over: a local gateway, its path to the cluster, and one tunnel of that.
#[derive(Clone)]
pub(crate) struct Way {
    gateway: watch::Receiver<State>,
    path: watch::Receiver<Path>,
    tunnel: watch::Receiver<State>,
}

impl Way {
    /// As it stands now.
    pub(crate) fn state(&self) -> State {
        let path = self.path.borrow().state;
        path.max(*self.gateway.borrow()).max(*self.tunnel.borrow())
    }

    /// Ends when any part of it is lost.
    pub(crate) async fn lost(&mut self) {
        tokio::select! {
            Ok(_) = self.gateway.wait_for(|state| *state == State::Lost) => {}
            Ok(_) = self.path.wait_for(|path| path.state == State::Lost) => {}
            Ok(_) = self.tunnel.wait_for(|state| *state == State::Lost) => {}
            else => std::future::pending().await,
        }
    }
}

/// Inner connections that lead over what is gone or goes: all of a gateway, or those to a cluster or over a tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    /// Draining or lost.
    pub(crate) state: State,
    gateway: SocketAddr,
    cluster: Option<ClusterName>,
    tunnel: Option<String>,
}

impl Leaving {
    /// Whether a connection by this gateway, to this cluster, over this tunnel, is meant.
    pub(crate) fn means(&self, gateway: SocketAddr, cluster: &ClusterName, tunnel: &str) -> bool {
        self.gateway == gateway
            && self.cluster.as_ref().is_none_or(|meant| meant == cluster)
            && self.tunnel.as_ref().is_none_or(|meant| meant == tunnel)
    }
}

/// All that gateways said; shared by workers.
pub(crate) struct Notices {
    known: Mutex<Known>,
    leaving: broadcast::Sender<Leaving>,
    /// Counts what is up again.
    back: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    gateways: HashMap<SocketAddr, watch::Sender<State>>,
    /// When each of them last said anything.
    heard: HashMap<SocketAddr, Instant>,
    paths: HashMap<(SocketAddr, ClusterName), watch::Sender<Path>>,
    /// By the ids that gateways give them.
    tunnels: HashMap<(SocketAddr, String), watch::Sender<State>>,
}

/// What left and no worker has heeded yet: every path of a large mesh at once.
const UNHEEDED: usize = 1024;

impl Default for Notices {
    fn default() -> Self {
        Self { known: Mutex::default(), leaving: broadcast::channel(UNHEEDED).0, back: watch::Sender::new(0) }
    }
}

impl Notices {
    /// What a connection by this gateway to this cluster over this tunnel leads over.
    pub(crate) fn way(&self, gateway: SocketAddr, cluster: &ClusterName, tunnel: &str) -> Way {
        let mut known = self.known.lock();
        Way {
            gateway: known.gateways.entry(gateway).or_default().subscribe(),
            path: known.paths.entry((gateway, cluster.clone())).or_default().subscribe(),
            tunnel: known.tunnels.entry((gateway, tunnel.to_owned())).or_default().subscribe(),
        }
    }

    /// Whether new streams to the cluster may go by this gateway.
    pub(crate) fn is_usable(&self, gateway: SocketAddr, cluster: &ClusterName) -> bool {
        let known = self.known.lock();
        let gateway_is_up = known.gateways.get(&gateway).is_none_or(|state| *state.borrow() == State::Up);
        let path = known.paths.get(&(gateway, cluster.clone()));
        gateway_is_up && path.is_none_or(|path| path.borrow().state == State::Up)
    }

    /// Smoothed round trip to the cluster by this gateway.
    pub(crate) fn rtt(&self, gateway: SocketAddr, cluster: &ClusterName) -> Duration {
        self.known.lock().paths.get(&(gateway, cluster.clone())).map_or(Duration::ZERO, |path| path.borrow().rtt)
    }

    fn heard(&self, gateway: SocketAddr) {
        self.known.lock().heard.insert(gateway, Instant::now());
    }

    /// Whether another gateway than this one said something lately.
    fn hears_another(&self, gateway: SocketAddr) -> bool {
        let known = self.known.lock();
        known.heard.iter().any(|(other, at)| *other != gateway && at.elapsed() < SILENT)
    }

    /// What leaves, as it does.
    pub(crate) fn leaving(&self) -> broadcast::Receiver<Leaving> {
        self.leaving.subscribe()
    }

    /// Changes when a gateway or a path is up again.
    pub(crate) fn back(&self) -> watch::Receiver<u64> {
        self.back.subscribe()
    }

    fn set_gateway(&self, gateway: SocketAddr, state: State) {
        self.known.lock().gateways.entry(gateway).or_default().send_replace(state);
        self.tell(Leaving { state, gateway, cluster: None, tunnel: None });
    }

    fn set_path(&self, gateway: SocketAddr, cluster: &ClusterName, path: Path) {
        self.known.lock().paths.entry((gateway, cluster.clone())).or_default().send_replace(path);
        self.tell(Leaving { state: path.state, gateway, cluster: Some(cluster.clone()), tunnel: None });
    }

    fn set_tunnel(&self, gateway: SocketAddr, cluster: &ClusterName, tunnel: &str, state: State) {
        let mut known = self.known.lock();
        let key = (gateway, tunnel.to_owned());
        let told = known.tunnels.entry(key.clone()).or_default();
        told.send_replace(state);
        // A tunnel that is gone and that nothing leads over is not remembered: its id may never come back.
        if state == State::Lost && told.receiver_count() == 0 {
            known.tunnels.remove(&key);
        }
        drop(known);
        let tunnel = Some(tunnel.to_owned());
        self.tell(Leaving { state, gateway, cluster: Some(cluster.clone()), tunnel });
    }

    fn tell(&self, leaving: Leaving) {
        if leaving.state == State::Up {
            self.back.send_modify(|count| *count += 1);
        } else {
            // Without a worker there is nothing to be left.
            let _ = self.leaving.send(leaving);
        }
    }
}

/// Keeps a notice connection to each local gateway of the mesh's snapshot, until the drain.
pub(crate) async fn keep(shared: Arc<Shared>, drain: Drain) {
    let mut kept = HashMap::<SocketAddr, tokio::task::JoinHandle<()>>::new();
    let mut changes = shared.changes();
    loop {
        let gateways: BTreeSet<SocketAddr> = shared
            .snapshot
            .load()
            .mesh
            .as_ref()
            .map(|mesh| mesh.gateways.iter().copied().collect())
            .unwrap_or_default();
        kept.retain(|gateway, task| {
            let stays = gateways.contains(gateway);
            if !stays {
                task.abort();
            }
            stays
        });
        for gateway in gateways {
            let shared = &shared;
            kept.entry(gateway).or_insert_with(|| tokio::spawn(listen(Arc::clone(shared), gateway)));
        }
        match drain.unless(changes.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// A gateway that says nothing for so long, three of its beats, is gone: its machine may be.
const SILENT: Duration = Duration::from_millis(750);
/// It takes the connection within so long.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

async fn listen(shared: Arc<Shared>, gateway: SocketAddr) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let outcome = subscribe(&shared, gateway, &mut backoff).await;
        shared.notices.set_gateway(gateway, State::Lost);
        if let Err(error) = outcome {
            tracing::debug!(%gateway, %error, "no notices from the gateway");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn subscribe(shared: &Shared, gateway: SocketAddr, backoff: &mut Backoff) -> std::io::Result<()> {
    let opening = shared.connector.subscription().ok_or_else(|| std::io::Error::other("the leaf has no pass"))?;
    let mut stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(gateway)).await??;
    stream.set_nodelay(true)?;
    stream.write_all(&opening).await?;
    let mut buffer = BytesMut::new();
    loop {
        while let Some(taken) = frame::take(&mut buffer).map_err(std::io::Error::other)? {
            let notice: Notice = frame::decode(Kind::Notice, taken).map_err(std::io::Error::other)?;
            backoff.reset();
            heed(shared, gateway, &notice);
        }
        match tokio::time::timeout(SILENT, stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                read?;
                shared.notices.heard(gateway);
            }
            // Where all are silent it is this process that heard nothing, and there is none to go to instead.
            Err(_) if shared.notices.hears_another(gateway) => return Err(std::io::ErrorKind::TimedOut.into()),
            Err(_) => {}
        }
    }
}

fn heed(shared: &Shared, gateway: SocketAddr, notice: &Notice) {
    let state = match notice.state() {
        notice::State::Up => State::Up,
        notice::State::Draining => State::Draining,
        _ => State::Lost,
    };
    tracing::debug!(%gateway, cluster = notice.cluster, tunnel = notice.tunnel, state = ?notice.state(), "notice");
    if notice.cluster.is_empty() {
        return shared.notices.set_gateway(gateway, state);
    }
    let Ok(cluster) = notice.cluster.parse() else { return };
    if notice.tunnel.is_empty() {
        let path = Path { state, rtt: Duration::from_micros(notice.rtt_us) };
        shared.notices.set_path(gateway, &cluster, path);
    } else {
        shared.notices.set_tunnel(gateway, &cluster, &notice.tunnel, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_way_is_as_good_as_its_worst_part_and_what_leaves_means_those_over_it() {
        let (notices, west) = (Notices::default(), "west".parse().unwrap());
        let gateway = "127.0.0.1:1".parse().unwrap();
        let mut leaving = notices.leaving();
        let (mut one, two) = (notices.way(gateway, &west, "one"), notices.way(gateway, &west, "two"));
        assert!(one.state() == State::Up && notices.is_usable(gateway, &west), "worth a try before anything is said");
        notices.set_tunnel(gateway, &west, "one", State::Draining);
        assert_eq!((one.state(), two.state()), (State::Draining, State::Up));
        assert!(notices.is_usable(gateway, &west), "by another tunnel");
        let left = leaving.recv().await.unwrap();
        assert!(left.means(gateway, &west, "one") && !left.means(gateway, &west, "two"));
        notices.set_gateway(gateway, State::Lost);
        one.lost().await;
        assert!(two.state() == State::Lost && !notices.is_usable(gateway, &west));
        let left = leaving.recv().await.unwrap();
        assert!(left.means(gateway, &"north".parse().unwrap(), "three") && left.state == State::Lost);
        notices.set_gateway(gateway, State::Up);
        assert_eq!((one.state(), two.state()), (State::Draining, State::Up));
        notices.set_path(gateway, &west, Path { state: State::Draining, rtt: Duration::from_millis(3) });
        assert!(!notices.is_usable(gateway, &west) && two.state() == State::Draining);
        assert_eq!(notices.rtt(gateway, &west), Duration::from_millis(3));
    }
}
