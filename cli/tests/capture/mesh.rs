//! Sidecars of one cluster, each a process in its pod as injection would start it: with a CA that enrols them, served from
//! the node, and their picture on their disks, as after a restart.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_ca::{
    Ca, Settings,
    enrol::{Asked, mint},
};
use isthmus_core::{
    model::{Endpoint, EndpointState, Endpoints, Mesh as Own, Resource, Service, TrafficPolicy, Trust},
    name::{Locality, MeshDomain, ServiceName, SpiffeId, TrustDomain},
    statement::{Consumers, Port, Protocol},
};
use isthmus_runtime::{
    drain::Drain,
    enrolment::system_identity,
    grpc,
    tls::{self, Accept, ClientAuth},
};
use isthmus_scenarios::wan::namespace::inside;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::world::{Pod, World, eventually};

/// The cluster's control, as far as sidecars need one, and what they are told.
pub struct Mesh {
    cluster: &'static str,
    /// Where it listens, on the node.
    control: String,
    ca: Ca,
    dir: TempDir,
    drain: Drain,
    runtime: tokio::runtime::Runtime,
}

impl Mesh {
    pub fn new(world: &World) -> Self {
        Self::of(world, "east", 15012)
    }

    /// Of the cluster of this name, whose control has this port.
    pub fn of(world: &World, name: &'static str, port: u16) -> Self {
        let address = format!("10.71.0.1:{port}");
        let (dir, domain) = (tempfile::tempdir().unwrap(), "mesh.test".parse::<MeshDomain>().unwrap());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (drain, inside_runtime) = (Drain::new(), runtime.enter());
        let cluster = name.parse().unwrap();
        let ca = Ca::open_or_create(&dir.path().join("ca"), &domain, &cluster, Settings::default()).unwrap();
        let control = system_identity(ca.trust_domain(), "control").unwrap();
        let identity = ca.local_identity(&control, drain.clone()).unwrap();
        let config = tls::server_config(&identity, Accept::Any, &[grpc::ALPN], ClientAuth::Optional);
        let listener = inside(&world.node.name, || std::net::TcpListener::bind(&address).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let routes = tonic::service::Routes::new(isthmus_ca::service(ca.clone(), None));
        runtime.spawn(grpc::serve(listener, config, routes, drain.clone()));
        drop(inside_runtime);
        Self { cluster: name, control: address, ca, dir, drain, runtime }
    }

    /// Its roots, by its trust domain.
    pub fn roots(&self) -> (TrustDomain, Vec<String>) {
        (self.ca.trust_domain().clone(), self.ca.roots().iter().map(|root| STANDARD.encode(root)).collect())
    }

    pub fn identity(&self, account: &str) -> SpiffeId {
        format!("spiffe://{}/ns/bookinfo/sa/{account}", self.ca.trust_domain()).parse().unwrap()
    }

    /// A service with its addresses in the cluster and in the set, its ports, and the pods that are there for it.
    pub fn service(
        &self,
        name: &str,
        index: u16,
        addresses: &[&str],
        ports: &[Offered],
        pods: &[(&str, &str)],
    ) -> Told {
        let name = ServiceName::new("bookinfo", name).unwrap();
        let [high, low] = index.to_be_bytes();
        let port = |offered: &Offered| Port { name: offered.0.into(), port: offered.1, protocol: offered.3 };
        let service = Service {
            name: name.clone(),
            global: false,
            clusterset: true,
            address_index: Some(index),
            set_address: Some([242, 240, high, low].into()),
            addresses: addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect(),
            ports: ports.iter().map(port).collect(),
            exported: Some(Consumers::All),
            routes: vec![],
            subsets: BTreeMap::new(),
            policy: TrafficPolicy::default(),
        };
        let endpoint = |(account, address): &(&str, &str)| Endpoint {
            id: format!("{account}-1").parse().unwrap(),
            address: SocketAddr::new(address.parse().unwrap(), 15006),
            locality: Locality { region: "east".into(), zone: "a".into() },
            labels: BTreeMap::new(),
            identity: self.identity(account),
            weight: 1,
            state: EndpointState::Ready,
            targets: ports.iter().map(|offered| (offered.1, offered.2)).collect(),
        };
        let local = pods.iter().map(endpoint).collect();
        vec![
            Resource::Service(service),
            Resource::Endpoints(Endpoints { service: name, local, remote: BTreeMap::new() }),
        ]
    }

    /// Raises the sidecar of a pod as this user and group, which knows these services, and waits until it is ready.
    pub fn sidecar_as(
        &self,
        who: (u32, u32),
        pod: &Pod,
        name: &str,
        address: &str,
        told: &[Told],
        more: &[(&str, &str)],
    ) -> Sidecar {
        let place = self.dir.path().join(name);
        self.furnish(&place, name, told, who);
        let program = Path::new(env!("CARGO_BIN_EXE_isthmus")).parent().unwrap();
        let script = format!(
            "mkdir /mnt/bin; mount --bind {} /mnt/bin; mount -t tmpfs none /var/lib; mkdir /var/lib/isthmus\n\
             mount --bind {place}/state /var/lib/isthmus; mount -t tmpfs none /run\n\
             mkdir -p /var/run/secrets/isthmus /var/run/isthmus/roots /var/run/isthmus/pod\n\
             cp {place}/token /var/run/secrets/isthmus; cp {place}/roots.pem /var/run/isthmus/roots\n\
             cp {place}/labels /var/run/isthmus/pod",
            program.display(),
            place = place.display()
        );
        let log = place.join("log");
        let mut command = pod.prepared(who, &script, &["/mnt/bin/isthmus", "proxy", "--pod"]);
        self.environment(&mut command, name, address);
        command.envs(more.iter().copied()).stdout(File::create(&log).unwrap());
        let errors = place.join("errors");
        let process = command.stderr(Stdio::from(File::create(&errors).unwrap())).spawn().unwrap();
        let sidecar = Sidecar { process, log, errors };
        let ready = format!("http://{}/healthz/ready", SocketAddr::new(address.parse().unwrap(), 15021));
        eventually(&format!("the sidecar of {name} is ready"), || {
            pod.get(&ready).map_err(|why| why + &fs::read_to_string(&sidecar.errors).unwrap_or_default())
        });
        sidecar
    }

    /// What injection and the kubelet put into a pod, and what its sidecar kept.
    fn furnish(&self, place: &Path, name: &str, told: &[Told], who: (u32, u32)) {
        let asked = Asked {
            trust_domain: self.ca.trust_domain().clone(),
            namespace: "bookinfo",
            service_account: name,
            workload: &format!("{name}-1"),
            ttl: Duration::from_secs(600),
            control: &self.control,
        };
        let enrolment = mint(&self.dir.path().join("ca"), &asked).unwrap();
        let feed = place.join("state/feed");
        fs::create_dir_all(&feed).unwrap();
        fs::write(place.join("token"), enrolment.token).unwrap();
        fs::write(place.join("roots.pem"), enrolment.roots.concat()).unwrap();
        fs::write(place.join("labels"), format!("app=\"{name}\"\n")).unwrap();
        let trust = Trust { roots: BTreeMap::from([self.roots()]) };
        let domain = "mesh.test".parse().unwrap();
        let own = Own { domain, cluster: self.cluster.parse().unwrap(), gateways: vec![], member: None };
        let all = [Resource::Trust(trust), Resource::Mesh(own)].into_iter().chain(told.iter().flatten().cloned());
        let resources: BTreeMap<_, _> =
            all.map(|resource| (resource.key(), json!({ "version": 1, "resource": resource }))).collect();
        let kept = json!({ "version": 1, "body": { "run": "test", "resources": resources } });
        fs::write(feed.join("feed.json"), kept.to_string()).unwrap();
        for path in [place.join("state"), feed.clone(), feed.join("feed.json")] {
            chown(path, Some(who.0), Some(who.1)).unwrap();
        }
    }

    fn environment(&self, command: &mut Command, name: &str, address: &str) {
        let pod = format!("{name}-1");
        let pairs = [
            ("POD_NAME", pod.as_str()),
            ("POD_NAMESPACE", "bookinfo"),
            ("POD_UID", "1"),
            ("POD_IP", address),
            ("SERVICE_ACCOUNT", name),
            ("ISTHMUS_MESH", "mesh.test"),
            ("ISTHMUS_CLUSTER", self.cluster),
            ("ISTHMUS_CONTROL", &self.control),
            ("ISTHMUS_REGION", "east"),
            ("ISTHMUS_ZONE", "a"),
            ("ISTHMUS_TRUST_DOMAIN", self.ca.trust_domain().as_str()),
        ];
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).envs(pairs);
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.drain.trigger().close("the test is over");
    }
}

/// A port: its name, its number, the application's, the protocol.
pub type Offered = (&'static str, u16, u16, Protocol);
/// A service and its endpoints.
pub type Told = Vec<Resource>;

/// A sidecar's process; killed when dropped.
pub struct Sidecar {
    process: Child,
    log: PathBuf,
    errors: PathBuf,
}

impl Sidecar {
    /// Where it says what happens to it.
    pub fn errors(&self) -> &Path {
        &self.errors
    }

    /// Its access log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// How many files and sockets it has open.
    pub fn open(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let id = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<bool> {
        self.process.try_wait().unwrap().map(|status| status.success())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
