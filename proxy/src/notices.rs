//! What the local gateways say of the paths to other clusters, as it is said: suspect, lost, draining. They do not know
//! which requests are safe; whoever holds the request does, and decides (DESIGN.md decision 16).

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use isthmus_core::name::ClusterName;
use isthmus_runtime::{backoff::Backoff, drain::Drain};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Notice, notice::State},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{broadcast, watch},
};

use crate::worker::Shared;

/// The path to a cluster by one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// New streams may go there.
    pub(crate) usable: bool,
    /// Smoothed round trip; zero: not known.
    pub(crate) rtt: Duration,
}

impl Default for Path {
    /// Until a gateway says otherwise it is worth a try.
    fn default() -> Self {
        Self { usable: true, rtt: Duration::ZERO }
    }
}

type Key = (SocketAddr, ClusterName);

/// All paths; shared by workers.
pub(crate) struct Notices {
    paths: Mutex<HashMap<Key, watch::Sender<Path>>>,
    lost: broadcast::Sender<Key>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { paths: Mutex::default(), lost: broadcast::channel(256).0 }
    }
}

impl Notices {
    /// The path by a gateway to a cluster, and its changes.
    pub(crate) fn path(&self, gateway: SocketAddr, cluster: &ClusterName) -> watch::Receiver<Path> {
        self.paths.lock().entry((gateway, cluster.clone())).or_default().subscribe()
    }

    /// Paths as they stop being usable.
    pub(crate) fn lost(&self) -> broadcast::Receiver<Key> {
        self.lost.subscribe()
    }

    fn set(&self, gateway: SocketAddr, cluster: &ClusterName, path: Path) {
        if !path.usable {
            let _ = self.lost.send((gateway, cluster.clone()));
        }
        self.paths.lock().entry((gateway, cluster.clone())).or_default().send_if_modified(|current| {
            let changed = *current != path;
            *current = path;
            changed
        });
    }

    /// The gateway itself is gone or drains: none of its paths takes new streams; or it is back, and all are worth a try.
    fn set_all(&self, gateway: SocketAddr, usable: bool) {
        for (key, sender) in self.paths.lock().iter() {
            if key.0 == gateway {
                sender.send_modify(|path| path.usable = usable);
                if !usable {
                    let _ = self.lost.send(key.clone());
                }
            }
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

async fn listen(shared: Arc<Shared>, gateway: SocketAddr) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let outcome = subscribe(&shared, gateway, &mut backoff).await;
        shared.notices.set_all(gateway, false);
        if let Err(error) = outcome {
            tracing::debug!(%gateway, %error, "no notices from the gateway");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn subscribe(shared: &Shared, gateway: SocketAddr, backoff: &mut Backoff) -> std::io::Result<()> {
    let opening = shared.connector.subscription().ok_or_else(|| std::io::Error::other("the leaf has no pass"))?;
    let mut stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&opening).await?;
    let mut buffer = BytesMut::new();
    loop {
        while let Some(taken) = frame::take(&mut buffer).map_err(std::io::Error::other)? {
            let notice: Notice = frame::decode(Kind::Notice, taken).map_err(std::io::Error::other)?;
            backoff.reset();
            heed(shared, gateway, &notice);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn heed(shared: &Shared, gateway: SocketAddr, notice: &Notice) {
    let usable = notice.state() == State::Up;
    if notice.cluster.is_empty() {
        shared.notices.set_all(gateway, usable);
    } else if let Ok(cluster) = notice.cluster.parse() {
        let path = Path { usable, rtt: Duration::from_micros(notice.rtt_us) };
        tracing::debug!(%gateway, %cluster, state = ?notice.state(), "notice");
        shared.notices.set(gateway, &cluster, path);
    }
}
