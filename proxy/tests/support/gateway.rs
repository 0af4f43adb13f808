//! The local and the far gateway in one: reads the signed header, says which endpoint it chose, and passes bytes on to
//! that endpoint's sidecar without looking at them. It says what it is told to on its notice connections.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Accept, Answer, Header, Notice, SignedHeader, answer, notice::State},
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
};

/// Where a far endpoint is: its id, and the address of its sidecar.
pub type Far = (&'static str, SocketAddr);

/// As a gateway says how it is.
const BEAT: Duration = Duration::from_millis(250);

/// A gateway that serves while it lives.
pub struct Gateway {
    /// Headers that came, in order.
    pub headers: Arc<Mutex<Vec<Header>>>,
    shared: Arc<Shared>,
    killed: watch::Sender<bool>,
    frozen: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    headers: Arc<Mutex<Vec<Header>>>,
    far: Vec<(&'static str, Vec<Far>)>,
    /// The tunnel that streams lead over from now on.
    tunnel: Mutex<String>,
    /// Streams open, by tunnel.
    open: Mutex<BTreeMap<String, usize>>,
    notices: broadcast::Sender<Notice>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gateway {
    /// Listens at `address` and leads to the first of a cluster's endpoints that is not to be avoided, as a gateway does
    /// when that one has no connection open.
    pub async fn start(address: SocketAddr, far: Vec<(&'static str, Vec<Far>)>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let headers = Arc::<Mutex<Vec<Header>>>::default();
        let (tunnel, open, notices) = (Mutex::new("first".into()), Mutex::default(), broadcast::channel(64).0);
        let shared = Arc::new(Shared { headers: headers.clone(), far, tunnel, open, notices });
        let (killed, frozen, kept) = (watch::Sender::new(false), watch::Sender::new(false), shared.clone());
        let (kills, freezes) = (killed.clone(), frozen.clone());
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (kept, mut killed, mut frozen) = (kept.clone(), kills.subscribe(), freezes.subscribe());
                tokio::spawn(async move {
                    let serving = serve(tcp, &kept);
                    tokio::pin!(serving);
                    tokio::select! {
                        _ = &mut serving => return,
                        _ = killed.wait_for(|killed| *killed) => return,
                        _ = frozen.wait_for(|frozen| *frozen) => {}
                    }
                    let _ = killed.wait_for(|killed| *killed).await;
                });
            }
        });
        Self { headers, shared, killed, frozen, task }
    }

    /// Says so to all sidecars.
    pub fn say(&self, cluster: &str, tunnel: &str, state: State) {
        let notice = Notice { cluster: cluster.into(), state: state.into(), rtt_us: 900, tunnel: tunnel.into() };
        assert!(self.shared.notices.send(notice).is_ok(), "a sidecar listens");
    }

    /// Streams lead over this tunnel from now on.
    pub fn lead_over(&self, tunnel: &str) {
        *self.shared.tunnel.lock().unwrap() = tunnel.into();
    }

    /// Streams open over a tunnel.
    pub fn streams(&self, tunnel: &str) -> usize {
        self.shared.open.lock().unwrap().get(tunnel).copied().unwrap_or_default()
    }

    /// Streams that were asked for so far.
    pub fn asked(&self) -> usize {
        self.headers.lock().unwrap().len()
    }

    /// Does nothing any more, and keeps all its connections.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// Ends at once, with all its connections.
    pub fn kill(&self) {
        self.task.abort();
        self.killed.send_replace(true);
    }
}

/// A stream that is open.
struct Open<'a>(&'a Shared, String);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        let tunnel = shared.tunnel.lock().unwrap().clone();
        *shared.open.lock().unwrap().entry(tunnel.clone()).or_default() += 1;
        Self(shared, tunnel)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
    }
}

async fn serve(mut tcp: TcpStream, shared: &Shared) -> Option<()> {
    let mut buffer = BytesMut::new();
    let (kind, bytes) = loop {
        if let Some(taken) = frame::take(&mut buffer).ok()? {
            break taken;
        }
        if tcp.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    };
    if kind == Kind::Subscribe {
        return tell(tcp, shared).await;
    }
    let signed = SignedHeader::decode(bytes).ok()?;
    let header = Header::decode(signed.header.as_slice()).ok()?;
    shared.headers.lock().unwrap().push(header.clone());
    let (_, endpoints) = shared.far.iter().find(|(cluster, _)| *cluster == header.cluster)?;
    let wanted = endpoints.iter().find(|(id, _)| !header.avoid.iter().any(|avoided| avoided == id));
    let (id, address) = wanted.or(endpoints.first())?;
    let open = Open::new(shared);
    let (endpoint_id, gateway, tunnel) = ((*id).into(), "far".into(), open.1.clone());
    let accept = Accept { endpoint_id, zone: "a".into(), gateway, tunnel, ..Accept::default() };
    let answer = Answer { answer: Some(answer::Answer::Accept(accept)) };
    let mut to = TcpStream::connect(address).await.ok()?;
    tcp.write_all(&frame::encode(Kind::Answer, &answer).ok()?).await.ok()?;
    to.write_all(&buffer).await.ok()?;
    tokio::io::copy_bidirectional(&mut tcp, &mut to).await.ok().map(drop)
}

/// First that it and its paths are up, then what it is told to say.
async fn tell(mut tcp: TcpStream, shared: &Shared) -> Option<()> {
    let mut notices = shared.notices.subscribe();
    for cluster in std::iter::once("").chain(shared.far.iter().map(|(cluster, _)| *cluster)) {
        let notice = Notice { cluster: cluster.into(), state: State::Up.into(), rtt_us: 900, tunnel: String::new() };
        tcp.write_all(&frame::encode(Kind::Notice, &notice).ok()?).await.ok()?;
    }
    let mut beat = Notice { state: State::Up.into(), ..Notice::default() };
    loop {
        let notice = match tokio::time::timeout(BEAT, notices.recv()).await {
            Ok(notice) => notice.ok()?,
            Err(_) => beat.clone(),
        };
        if notice.cluster.is_empty() {
            beat = notice.clone();
        }
        tcp.write_all(&frame::encode(Kind::Notice, &notice).ok()?).await.ok()?;
    }
}
