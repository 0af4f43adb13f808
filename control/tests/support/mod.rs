//! A whole control on loopback, and who talks to it.

#![allow(dead_code)]

pub mod member;
pub mod secrets;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use isthmus_control::config::{Ca, Config};
use isthmus_core::{
    name::{ClusterName, Locality, MeshDomain},
    statement::Gateways,
};
use isthmus_runtime::{
    config::Common,
    drain::{Drain, DrainTrigger},
    enrolment,
    feed::{self, Registration, Reporter, Role, Update, Updates},
    identity::Identity,
};
use tokio::task::JoinHandle;

/// Longer than anything takes, on a busy machine too.
pub const LIMIT: Duration = Duration::from_secs(60);

/// One cluster's ground: its directory and its addresses, 127.`net`.x.1.
pub struct Ground {
    pub folder: tempfile::TempDir,
    net: u8,
}

/// A running control.
pub struct Running {
    trigger: DrainTrigger,
    task: JoinHandle<Result<(), isthmus_control::error::Error>>,
}

impl Running {
    pub async fn stop(self) {
        self.trigger.drain("the test says so");
        self.task.await.unwrap().unwrap();
    }
}

impl Ground {
    pub fn new(net: u8) -> Self {
        let ground = Self { folder: tempfile::tempdir().unwrap(), net };
        std::fs::create_dir_all(ground.path("config")).unwrap();
        ground
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn at(&self, host: u8) -> IpAddr {
        IpAddr::from([127, self.net, host, 1])
    }

    pub fn control(&self) -> SocketAddr {
        SocketAddr::new(self.at(1), 15012)
    }

    pub fn member(&self) -> SocketAddr {
        SocketAddr::new(self.at(2), 15050)
    }

    pub fn write(&self, file: &str, text: &str) {
        let fresh = self.path("config").join(format!(".{file}.new"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(&fresh, self.path("config").join(file)).unwrap();
    }

    pub fn common(&self, name: &str, host: u8) -> Common {
        Common {
            mesh: mesh(),
            cluster: east(),
            locality: Locality { region: "us-east".into(), zone: "us-east-a".into() },
            name: name.into(),
            address: self.at(host),
            state_dir: self.path(&format!("state-{name}")),
            enrolment: Some(self.path(&format!("enrolment-{name}.json")).into()),
            admin: None,
            log: None,
        }
    }

    pub fn config(&self) -> Config {
        Config {
            common: self.common("control", 1),
            config_dir: Some(self.path("config")),
            kubernetes: None,
            federation_key: Some(self.path("federation.key")),
            member: self.member().into(),
            gateways: vec![SocketAddr::new(self.at(3), 15444).into()],
            advertise_gateways: Gateways::both(vec![format!("{}:15443", self.at(3))]),
            dns_for: Some(self.at(11)),
            zones: vec!["us-east-a".into(), "us-east-b".into()],
            injection: None,
            ca: Ca::default(),
        }
    }

    pub fn start(&self) -> Running {
        self.start_with(self.config())
    }

    pub fn start_with(&self, config: Config) -> Running {
        let (trigger, drain) = Drain::pair();
        let task = tokio::spawn(async move {
            let ended = isthmus_control::run(config, drain).await;
            if let Err(error) = &ended {
                eprintln!("control ended: {error}: {:?}", std::error::Error::source(error));
            }
            ended
        });
        Running { trigger, task }
    }

    /// Enrols a workload, or a role, as it would in life.
    pub async fn identity(&self, namespace: &str, account: &str, name: &str) -> Identity {
        self.enrolled((namespace, account, name), |_| ()).await
    }

    /// The same, with something changed in what the CA minted.
    pub async fn enrolled(
        &self,
        (namespace, account, name): (&str, &str, &str),
        change: impl FnOnce(&mut enrolment::Enrolment),
    ) -> Identity {
        let common = self.common(name, 250);
        let asked = isthmus_ca::enrol::Asked {
            trust_domain: east().trust_domain(&mesh()),
            namespace,
            service_account: account,
            workload: name,
            ttl: Duration::from_secs(600),
            control: &self.control().to_string(),
        };
        let minted = isthmus_ca::enrol::mint(&self.config().ca_dir(), &asked);
        let mut minted = minted.unwrap();
        change(&mut minted);
        minted.write(&self.path(&format!("enrolment-{name}.json"))).unwrap();
        within(enrolment::enrol(&common, &Drain::new())).await.unwrap()
    }

    pub fn subscribe(&self, identity: &Identity, role: Role, name: &str) -> Client {
        let (trigger, drain) = Drain::pair();
        let hello = feed::Hello { role, name: name.into(), node: String::new() };
        let cache = self.path(&format!("cache-{name}"));
        let (updates, reporter) = feed::subscribe(identity, self.control(), hello, cache, drain);
        Client { updates, reporter, trigger, known: Default::default() }
    }

    /// A row set of the admin API.
    pub async fn rows(&self, path: &str) -> Vec<serde_json::Value> {
        let address = SocketAddr::new(self.at(1), 15000);
        let Ok(text) = get(address, path).await else { return vec![] };
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Its metrics, as scraped.
    pub async fn metrics(&self) -> String {
        get(SocketAddr::new(self.at(1), 15020), "/metrics").await.unwrap_or_default()
    }
}

/// The body of an answer.
pub async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// A subscriber that takes everything, and remembers it.
pub struct Client {
    pub updates: Updates,
    pub reporter: Reporter,
    trigger: DrainTrigger,
    pub known: std::collections::BTreeMap<String, isthmus_core::model::Resource>,
}

impl Client {
    pub fn leave(self) {
        self.trigger.drain("the test says so");
        self.trigger.close("the test says so");
    }

    pub async fn next(&mut self) -> Update {
        within(self.updates.next()).await.expect("the feed goes on")
    }

    /// Takes updates until what is known fits.
    pub async fn until(&mut self, what: &str, fits: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !fits(self) {
            let update = tokio::time::timeout_at(deadline, self.updates.next()).await;
            let update = update.unwrap_or_else(|_| panic!("{what} never came; known: {:#?}", self.known)).unwrap();
            for (key, _, resource) in update.upserts {
                self.known.insert(key, resource);
            }
            for key in update.removals {
                self.known.remove(&key);
            }
            update.ack.accept();
        }
    }
}

pub fn registration(workload: &str, namespace: &str, app: &str, inbound: &str) -> Registration {
    Registration {
        workload: workload.into(),
        namespace: namespace.into(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        inbound: inbound.into(),
        region: "us-east".into(),
        zone: "us-east-a".into(),
        state: "ready".into(),
        weight: 1,
    }
}

pub fn mesh() -> MeshDomain {
    "mesh.test".parse().unwrap()
}

pub fn east() -> ClusterName {
    "us-east".parse().unwrap()
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it takes too long")
}

/// Polls until a condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks a DNS server over UDP, and over TCP; both must say the same, unless it changed its mind between.
pub async fn dns(server: SocketAddr, name: &str, kind: hickory_proto::rr::RecordType) -> Message {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name.parse().unwrap(), kind));
    let bytes = question.to_vec().unwrap();
    loop {
        let before = dns_by_udp(server, &bytes).await;
        let by_tcp = dns_by_tcp(server, &bytes).await;
        if dns_by_udp(server, &bytes).await == before {
            assert_eq!(by_tcp, before);
            return by_tcp;
        }
    }
}

async fn dns_by_udp(server: SocketAddr, question: &[u8]) -> Message {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(question, server).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = within(socket.recv(&mut buffer)).await.unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn dns_by_tcp(server: SocketAddr, question: &[u8]) -> Message {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server).await.unwrap();
    stream.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
    stream.write_all(question).await.unwrap();
    let length = within(stream.read_u16()).await.unwrap();
    let mut buffer = vec![0; usize::from(length)];
    within(stream.read_exact(&mut buffer)).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}
