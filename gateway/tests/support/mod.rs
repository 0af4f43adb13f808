//! Two clusters' gateways in one process, with what surrounds them: CAs, an application, a sidecar's side of the talk,
//! and a cable between the gateways that can be pulled.
#![allow(dead_code, missing_docs, reason = "each test file uses a part")]

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use isthmus_ca::{Ca, Settings};
use isthmus_core::{
    model::{Endpoint, EndpointState, Endpoints, RemoteCluster, Resource, Service, Standing, TrafficPolicy},
    name::{ClusterName, MeshDomain, ServiceName},
    statement::{Consumers, Gateways},
};
use isthmus_gateway::{
    Config,
    config::DRAIN_DEADLINE_SECONDS,
    context::Context,
    framed,
    metrics::Metrics,
    service::{Gateway, Ports},
};
use isthmus_runtime::{
    config::Common,
    drain::{Drain, DrainTrigger},
    feed::{PathReport, Report},
    identity::Identity,
    pass,
};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Answer, Header, Notice, answer},
};
use prost::Message;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
};

pub const LIMIT: Duration = Duration::from_secs(10);

pub fn mesh() -> MeshDomain {
    "mesh.test".parse().unwrap()
}

pub fn service() -> ServiceName {
    "bookinfo/reviews".parse().unwrap()
}

/// A cluster's CA.
pub struct Cluster {
    pub name: ClusterName,
    pub ca: Ca,
    dir: TempDir,
}

impl Cluster {
    pub fn new(name: &str) -> Self {
        let (dir, name) = (tempfile::tempdir().unwrap(), name.parse().unwrap());
        let ca = Ca::open_or_create(dir.path(), &mesh(), &name, Settings::default()).unwrap();
        Self { name, ca, dir }
    }

    /// An identity that knows the roots of all `others`.
    pub fn identity(&self, account: &str, others: &[&Cluster]) -> Identity {
        let id = format!("spiffe://{}/ns/isthmus-system/sa/{account}", self.ca.trust_domain()).parse().unwrap();
        let mut roots = self.ca.trust_roots();
        for other in others {
            roots.add(other.ca.trust_domain(), other.ca.roots().remove(0));
        }
        Identity::new(self.ca.issue_local(&id).unwrap(), roots)
    }

    /// As other clusters' tables have it.
    pub fn seen_at(&self, gateway: SocketAddr) -> Resource {
        self.seen_at_all(&[gateway])
    }

    /// With several gateways.
    pub fn seen_at_all(&self, gateways: &[SocketAddr]) -> Resource {
        Resource::Cluster(RemoteCluster {
            name: self.name.clone(),
            region: "r".into(),
            trust_domain: self.ca.trust_domain().clone(),
            gateways: Gateways::both(gateways.iter().map(ToString::to_string).collect()),
            share: 1.0,
            standing: Standing::Alive,
            rtt_us: 0,
        })
    }

    /// The second gateway of the cluster.
    pub fn second_gateway(&self, member: SocketAddr, others: &[&Cluster]) -> Running {
        let ports = Ports { tunnel: 0, edge: 0, local: 0 };
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let name = format!("gateway-2-{}", self.name);
        self.gateway_named(name, ports, dir, "gateway", member, others).unwrap()
    }

    pub fn gateway(&self, account: &str, member: SocketAddr, others: &[&Cluster]) -> Running {
        let ports = Ports { tunnel: 0, edge: 0, local: 0 };
        let dir = Arc::new(tempfile::tempdir().unwrap());
        self.gateway_at(ports, dir, account, member, others).unwrap()
    }

    pub fn gateway_at(
        &self,
        ports: Ports,
        dir: Arc<TempDir>,
        account: &str,
        member: SocketAddr,
        others: &[&Cluster],
    ) -> Result<Running, isthmus_gateway::Error> {
        self.gateway_named(format!("gateway-{}", self.name), ports, dir, account, member, others)
    }

    fn gateway_named(
        &self,
        name: String,
        ports: Ports,
        dir: Arc<TempDir>,
        account: &str,
        member: SocketAddr,
        others: &[&Cluster],
    ) -> Result<Running, isthmus_gateway::Error> {
        let common = Common {
            mesh: mesh(),
            cluster: self.name.clone(),
            locality: Default::default(),
            name,
            address: "127.0.0.1".parse().unwrap(),
            state_dir: dir.path().to_owned(),
            enrolment: None,
            admin: None,
            log: None,
        };
        let (control, member) = ("127.0.0.1:1".to_owned(), member.to_string());
        let drain_deadline_seconds = DRAIN_DEADLINE_SECONDS;
        let config = Config { common, control, member, segmentation_offload: true, drain_deadline_seconds };
        let (trigger, drain) = Drain::pair();
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let identity = self.identity(account, others);
        let gateway = Gateway::bind(&config, ports, identity, metrics, drain)?;
        let (tunnel, edge, local) = (gateway.tunnel, gateway.edge, gateway.local);
        let (context, (reports, received)) = (gateway.context.clone(), mpsc::unbounded_channel());
        let task = tokio::spawn(gateway.serve(move |report| drop(reports.send(report))));
        Ok(Running { context, tunnel, edge, local, reports: received, trigger, task, dir })
    }
}

pub struct Running {
    pub context: Context,
    pub tunnel: SocketAddr,
    pub edge: SocketAddr,
    pub local: SocketAddr,
    pub reports: mpsc::UnboundedReceiver<Report>,
    pub trigger: DrainTrigger,
    pub task: tokio::task::JoinHandle<()>,
    dir: Arc<TempDir>,
}

impl Running {
    /// Streams in this direction with this cluster that a drain closed.
    pub fn closed_at_drain(&self, direction: &str, cluster: &str) -> u64 {
        self.context.metrics.closed_at_drain.with_label_values(&[direction, cluster]).get()
    }

    pub fn learn(&self, resources: impl IntoIterator<Item = Resource>) {
        assert!(self.context.table.apply(resources, &[]).is_empty());
    }

    /// Waits until so many tunnels that this gateway dialled are up, and control hears that the path is.
    pub async fn dialled(&mut self, tunnels: usize) {
        let up = async {
            while self.context.links.tunnels().iter().filter(|tunnel| tunnel.label.dialled).count() < tunnels {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, up).await.expect("no tunnel is dialled");
        self.path("up", 1).await;
    }

    /// Waits until a report says so of a path.
    pub async fn path(&mut self, state: &str, tunnels: u32) -> PathReport {
        self.reported(state, |path| path.state == state && path.tunnels >= tunnels).await
    }

    /// Waits until a report says that a path is lost, and why.
    pub async fn lost_because(&mut self, why: &str) {
        self.reported(why, |path| path.state == "lost" && path.why.contains(why)).await;
    }

    async fn reported(&mut self, what: &str, fits: impl Fn(&PathReport) -> bool) -> PathReport {
        let mut last = vec![];
        let reported = async {
            while let Some(report) = self.reports.recv().await {
                match report.paths.iter().position(&fits) {
                    Some(at) => return report.paths[at].clone(),
                    None => last = report.paths,
                }
            }
            panic!("the gateway closed");
        };
        let reported = tokio::time::timeout(LIMIT, reported).await;
        reported.unwrap_or_else(|_| panic!("no path is {what}: {last:?}"))
    }
}

/// `reviews`, exported for `consumers`, answered by `endpoints`.
pub fn reviews(consumers: Consumers, endpoints: &[(&str, SocketAddr)]) -> Vec<Resource> {
    let endpoint = |(id, address): &(&str, SocketAddr)| Endpoint {
        id: id.parse().unwrap(),
        address: *address,
        locality: Default::default(),
        labels: BTreeMap::new(),
        identity: "spiffe://west.mesh.test/ns/bookinfo/sa/reviews".parse().unwrap(),
        weight: 1,
        state: EndpointState::Ready,
        targets: [(9080, 9080)].into(),
    };
    let local = endpoints.iter().map(endpoint).collect();
    vec![
        Resource::Service(Service {
            name: service(),
            global: false,
            clusterset: true,
            address_index: None,
            set_address: None,
            addresses: vec![],
            ports: vec![],
            exported: Some(consumers),
            routes: vec![],
            subsets: BTreeMap::new(),
            policy: TrafficPolicy::default(),
        }),
        Resource::Endpoints(Endpoints { service: service(), local, remote: BTreeMap::new() }),
    ]
}

/// Says back what it hears, and ends when its client does.
pub async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = tcp.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

pub fn header(cluster: &str) -> Header {
    Header {
        namespace: "bookinfo".into(),
        service: "reviews".into(),
        port: 9080,
        cluster: cluster.into(),
        source_identity: "spiffe://forged.mesh.test/ns/a/sa/b".into(),
        ..Header::default()
    }
}

/// A sidecar of `cluster`: sends a header with `first` behind it in one write, and reads the answer.
pub async fn call(cluster: &Cluster, gateway: SocketAddr, header: &Header, first: &[u8]) -> Call {
    let mut bytes = signed(cluster, Kind::SignedHeader, header.encode_to_vec());
    bytes.extend_from_slice(first);
    let mut tcp = TcpStream::connect(gateway).await.unwrap();
    tcp.write_all(&bytes).await.unwrap();
    let mut buffer = BytesMut::new();
    let frame = framed::next(&mut tcp, &mut buffer).await.unwrap();
    let answer: Answer = frame::decode(Kind::Answer, frame).unwrap();
    Call { answer: answer.answer.unwrap(), tcp, buffer }
}

pub fn signed(cluster: &Cluster, kind: Kind, header: Vec<u8>) -> BytesMut {
    let id = format!("spiffe://{}/ns/bookinfo/sa/page", cluster.ca.trust_domain()).parse().unwrap();
    let pass = cluster.ca.issue_local(&id).unwrap().pass.clone().unwrap();
    let mut bytes = BytesMut::new();
    frame::put(kind, &pass::sign_header(&pass, header), &mut bytes).unwrap();
    bytes
}

pub struct Call {
    pub answer: answer::Answer,
    pub tcp: TcpStream,
    pub buffer: BytesMut,
}

impl Call {
    /// The reason's word of a refusal.
    pub fn refused(&self) -> &'static str {
        match &self.answer {
            answer::Answer::Refuse(refused) => isthmus_gateway::refusal::word(refused.reason()),
            answer::Answer::Accept(_) => "accepted",
        }
    }

    /// Ends the own side and reads the rest.
    pub async fn finish(mut self) -> Vec<u8> {
        self.tcp.shutdown().await.unwrap();
        let mut rest = self.buffer.to_vec();
        tokio::time::timeout(LIMIT, self.tcp.read_to_end(&mut rest)).await.unwrap().unwrap();
        rest
    }
}

/// Calls again until the answer is `word`.
pub async fn called_until(cluster: &Cluster, gateway: SocketAddr, header: &Header, word: &str) -> Call {
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        let call = call(cluster, gateway, header, b"").await;
        if call.refused() == word {
            return call;
        }
        assert!(tokio::time::Instant::now() < until, "{:?}, not {word}", call.answer);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The remote gateway and the tunnel of an accepted call.
pub fn over(call: &Call) -> (String, String) {
    match &call.answer {
        answer::Answer::Accept(accept) => (accept.gateway.clone(), accept.tunnel.clone()),
        answer::Answer::Refuse(refused) => panic!("{refused:?}"),
    }
}

/// Waits until a gateway has tunnels both ways with every cluster it knows.
pub async fn whole(gateway: &Running) {
    let links = &gateway.context.links;
    let whole = async {
        while !links.are_whole() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, whole).await.expect("tunnels both ways");
}

/// Waits for a notice.
pub async fn hears(notices: &mut mpsc::UnboundedReceiver<Notice>, what: &str, is: impl Fn(&Notice) -> bool) {
    let heard = async {
        while let Some(notice) = notices.recv().await {
            if is(&notice) {
                return;
            }
        }
        panic!("the gateway closed; no notice says {what}");
    };
    tokio::time::timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("no notice says {what}"));
}

/// Subscribes to notices.
pub async fn subscribe(cluster: &Cluster, gateway: SocketAddr) -> mpsc::UnboundedReceiver<Notice> {
    let mut tcp = TcpStream::connect(gateway).await.unwrap();
    tcp.write_all(&signed(cluster, Kind::Subscribe, vec![])).await.unwrap();
    let (told, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        while let Ok(frame) = framed::next(&mut tcp, &mut buffer).await {
            let _ = told.send(frame::decode(Kind::Notice, frame).unwrap());
        }
    });
    heard
}

/// A cable between gateways: datagrams to its address go to `to`, until it is pulled.
pub struct Cable {
    pub address: SocketAddr,
    pulled: Arc<AtomicBool>,
}

impl Cable {
    pub async fn new(to: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let cable = Self { address: front.local_addr().unwrap(), pulled: Arc::default() };
        let pulled = cable.pulled.clone();
        tokio::spawn(async move {
            let (mut backs, mut packet) = (HashMap::<SocketAddr, Arc<UdpSocket>>::new(), vec![0; 65_536]);
            while let Ok((length, from)) = front.recv_from(&mut packet).await {
                if let Entry::Vacant(absent) = backs.entry(from) {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    back.connect(to).await.unwrap();
                    tokio::spawn(returning(back.clone(), front.clone(), from, pulled.clone()));
                    absent.insert(back);
                }
                if !pulled.load(Ordering::Relaxed) {
                    let _ = backs[&from].send(&packet[..length]).await;
                }
            }
        });
        cable
    }

    pub fn pull(&self, pulled: bool) {
        self.pulled.store(pulled, Ordering::Relaxed);
    }
}

async fn returning(back: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, pulled: Arc<AtomicBool>) {
    let mut packet = vec![0; 65_536];
    while let Ok(length) = back.recv(&mut packet).await {
        if !pulled.load(Ordering::Relaxed) {
            let _ = front.send_to(&packet[..length], to).await;
        }
    }
}
