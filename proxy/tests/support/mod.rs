//! Real sidecars of two clusters in one process, with what surrounds them: CAs that enrol them, applications, and a
//! gateway that leads to whichever far sidecar the test wants. Their pictures come from their disks, as after a restart;
//! control only listens to what they report.
#![allow(dead_code, missing_docs, reason = "each test file uses a part")]

pub mod control;
pub mod gateway;
pub mod http;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_ca::{
    Ca, Settings,
    enrol::{Asked, mint},
};
use isthmus_core::{
    failover::policy::WhenNothingHealthy,
    model::{
        Cap, Endpoint, EndpointState, Endpoints, Failover, FailoverMember, FailoverTier, Group, Mesh, RemoteCluster,
        Resource, Service, Standing, TrafficPolicy, Trust,
    },
    name::{ClusterName, Locality, MeshDomain, ServiceName},
    plan::{ClusterAddresses, Form},
    statement::{Consumers, Gateways, Port, Protocol},
};
use isthmus_proxy::{AccessLog, Config, Format};
use isthmus_runtime::{
    config::Common,
    drain::{Drain, DrainTrigger},
    enrolment::system_identity,
    grpc, listen,
    tls::{self, Accept, ClientAuth},
};
use serde_json::json;
use tempfile::TempDir;

use self::control::Heard;

/// Longer than anything takes, on a busy machine too.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The port of the service, and of its application.
pub const PORT: u16 = 9080;

pub fn mesh() -> MeshDomain {
    "mesh.test".parse().unwrap()
}

pub fn details() -> ServiceName {
    "bookinfo/details".parse().unwrap()
}

/// A cluster: its CA, served as control serves it, and its addresses.
pub struct Cluster {
    pub name: ClusterName,
    pub ca: Ca,
    pub at: ClusterAddresses,
    /// What its sidecars tell control.
    pub heard: Heard,
    control: SocketAddr,
    gateway: SocketAddr,
    dir: TempDir,
    drain: Drain,
}

impl Cluster {
    pub fn new(name: &str, number: u8) -> Self {
        let (dir, name) = (tempfile::tempdir().unwrap(), name.parse().unwrap());
        let ca = Ca::open_or_create(&dir.path().join("ca"), &mesh(), &name, Settings::default()).unwrap();
        let at = ClusterAddresses::new(Form::Loopback, number);
        let listener = listen::tcp(SocketAddr::new(at.control(), 0)).unwrap();
        let (control, gateway) = (listener.local_addr().unwrap(), SocketAddr::new(at.gateway(), 15444));
        let cluster = Self { name, ca, at, heard: Heard::default(), control, gateway, dir, drain: Drain::new() };
        let control = system_identity(cluster.ca.trust_domain(), "control").unwrap();
        let identity = cluster.ca.local_identity(&control, cluster.drain.clone()).unwrap();
        let config = tls::server_config(&identity, Accept::Any, &[grpc::ALPN], ClientAuth::Optional);
        let routes = tonic::service::Routes::new(isthmus_ca::service(cluster.ca.clone(), None));
        let routes = routes.add_service(cluster.heard.service());
        tokio::spawn(grpc::serve(listener, config, routes, cluster.drain.clone()));
        cluster
    }

    pub fn control(&self) -> SocketAddr {
        self.control
    }

    pub fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// The same with its gateway beside the workload at this place: tests on other places leave it alone.
    pub fn with_gateway_at(mut self, place: u8) -> Self {
        self.gateway = SocketAddr::new(self.at.workload(place), 15444);
        self
    }

    fn common(&self, name: &str, account: &str, address: IpAddr) -> Common {
        let control = self.control().to_string();
        let asked = Asked {
            trust_domain: self.ca.trust_domain().clone(),
            namespace: "bookinfo",
            service_account: account,
            workload: name,
            ttl: Duration::from_secs(600),
            control: &control,
        };
        let enrolment = self.dir.path().join(format!("{name}.enrolment"));
        mint(&self.dir.path().join("ca"), &asked).unwrap().write(&enrolment).unwrap();
        Common {
            mesh: mesh(),
            cluster: self.name.clone(),
            locality: Locality { region: self.name.to_string(), zone: "a".into() },
            name: name.into(),
            address,
            state_dir: self.dir.path().join(name),
            enrolment: Some(enrolment.into()),
            admin: None,
            log: None,
        }
    }

    /// A sidecar at the workload address of this place, with this picture on its disk.
    pub fn sidecar(&self, name: &str, account: &str, place: u8, picture: Vec<Resource>) -> Sidecar {
        let address = self.at.workload(place);
        let common = self.common(name, account, address);
        let feed = common.state_dir.join("feed");
        std::fs::create_dir_all(&feed).unwrap();
        let resources: BTreeMap<_, _> = picture
            .into_iter()
            .map(|resource| (resource.key(), json!({ "version": 1, "resource": resource })))
            .collect();
        let kept = json!({ "version": 1, "body": { "run": "test", "resources": resources } });
        std::fs::write(feed.join("feed.json"), kept.to_string()).unwrap();
        let config = Config {
            common,
            control: self.control().to_string(),
            node: String::new(),
            namespace: "bookinfo".into(),
            service_account: account.into(),
            labels: BTreeMap::new(),
            workers: 1,
            application: address,
            probe: None,
            access_log: AccessLog { format: Format::Off, path: None },
            listeners: vec![],
            capture: None,
            workload: None,
            resolv_conf: "/etc/resolv.conf".into(),
            probes: BTreeMap::new(),
            drain_deadline_seconds: 5,
        };
        Sidecar::start(config)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.drain.trigger().close("the test is over");
    }
}

/// A running sidecar.
pub struct Sidecar {
    pub address: IpAddr,
    pub config: Config,
    pub drain: Drain,
    pub task: tokio::task::JoinHandle<()>,
    trigger: DrainTrigger,
}

impl Sidecar {
    pub fn start(config: Config) -> Self {
        let (trigger, drain) = Drain::pair();
        let (address, running, drained) = (config.common.address, config.clone(), drain.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = isthmus_proxy::serve(running, drained).await {
                eprintln!("a sidecar ended: {error}");
            }
        });
        Self { address, config, drain, task, trigger }
    }

    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// Its metrics, as scraped.
    pub async fn metrics(&self) -> String {
        http::get(self.port(15020), "/metrics").await.unwrap().1
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.trigger.close("the test is over");
    }
}

/// `details`, with whoever answers for it.
pub fn picture(
    own: &Cluster,
    others: &[&Cluster],
    local: Vec<Endpoint>,
    groups: Vec<(&Cluster, Group)>,
) -> Vec<Resource> {
    let roots = |cluster: &Cluster| {
        let of = cluster.ca.roots().iter().map(|root| STANDARD.encode(root)).collect::<Vec<_>>();
        (cluster.ca.trust_domain().clone(), of)
    };
    let trust = Trust { roots: others.iter().copied().chain([own]).map(roots).collect() };
    let mesh = Mesh { domain: mesh(), cluster: own.name.clone(), gateways: vec![own.gateway()], member: None };
    let service = Service {
        name: details(),
        global: false,
        clusterset: true,
        address_index: Some(16),
        set_address: None,
        addresses: vec![],
        ports: vec![Port { name: "http".into(), port: PORT, protocol: Protocol::Detect }],
        exported: Some(Consumers::All),
        routes: vec![],
        subsets: BTreeMap::new(),
        policy: TrafficPolicy::default(),
    };
    let mut remote = BTreeMap::<ClusterName, Vec<Group>>::new();
    for (cluster, group) in groups {
        remote.entry(cluster.name.clone()).or_default().push(group);
    }
    let remote_cluster = |cluster: &&Cluster| {
        Resource::Cluster(RemoteCluster {
            name: cluster.name.clone(),
            region: cluster.name.to_string(),
            trust_domain: cluster.ca.trust_domain().clone(),
            gateways: Gateways::default(),
            share: 1.0,
            standing: Standing::Alive,
            rtt_us: 1000,
        })
    };
    let mut all: Vec<_> = others.iter().map(remote_cluster).collect();
    all.push(Resource::Trust(trust));
    all.push(Resource::Mesh(mesh));
    all.push(Resource::Service(service));
    all.push(Resource::Endpoints(Endpoints { service: details(), local, remote }));
    let tiers = [own].into_iter().chain(others.iter().copied()).map(|cluster| tier(cluster, 1.0, None));
    all.push(decided(tiers.collect(), None));
    all
}

/// What control decided of `details`; behind [`picture`] it replaces what that says: the own cluster, then the others.
pub fn decided(tiers: Vec<FailoverTier>, when_nothing_healthy: Option<WhenNothingHealthy>) -> Resource {
    Resource::Failover(Failover { service: details(), tiers, when_nothing_healthy })
}

/// A cluster as a tier of its own, with the most requests a second that a sidecar may send there.
pub fn tier(cluster: &Cluster, share: f64, limit: Option<f64>) -> FailoverTier {
    let cap = limit.map(|other| Cap { parts: BTreeMap::new(), other });
    let member = FailoverMember { cluster: cluster.name.clone(), weight: 1.0, cap };
    FailoverTier { name: cluster.name.to_string(), share, members: vec![member] }
}

/// The picture with these gateways of the own cluster.
pub fn by_gateways(mut picture: Vec<Resource>, gateways: &[SocketAddr]) -> Vec<Resource> {
    for resource in &mut picture {
        if let Resource::Mesh(mesh) = resource {
            mesh.gateways = gateways.to_vec();
        }
    }
    picture
}

/// A group of `cluster` whose members answer as this service account.
pub fn group(cluster: &Cluster, account: &str, usable: u32) -> Group {
    let id = format!("spiffe://{}/ns/bookinfo/sa/{account}", cluster.ca.trust_domain()).parse().unwrap();
    let identities = BTreeSet::from([id]);
    Group { zone: "a".into(), labels: BTreeMap::new(), identities, usable, total: usable, weight: usable }
}

/// An endpoint as its own cluster has it.
pub fn endpoint(cluster: &Cluster, name: &str, account: &str, place: u8) -> Endpoint {
    Endpoint {
        id: name.parse().unwrap(),
        address: SocketAddr::new(cluster.at.workload(place), 15006),
        locality: Locality { region: cluster.name.to_string(), zone: "a".into() },
        labels: BTreeMap::new(),
        identity: format!("spiffe://{}/ns/bookinfo/sa/{account}", cluster.ca.trust_domain()).parse().unwrap(),
        weight: 1,
        state: EndpointState::Ready,
        targets: [(PORT, PORT)].into(),
    }
}

/// The sum of a counter in scraped metrics, over the lines with this label.
pub fn metric(metrics: &str, name: &str, label: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Tries until it is so.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        match check().await {
            Ok(found) => return found,
            Err(reason) => assert!(tokio::time::Instant::now() < until, "{what}: {reason}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
