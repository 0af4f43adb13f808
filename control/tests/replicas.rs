//! Two replicas of one control: their desks, the feed's server and what they tell each other, over mTLS on loopback. Whose turn it
//! is to speak, and where they are, which Kubernetes says in life, the test says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use isthmus_ca::{Ca, Plugged, Settings};
use isthmus_control::{
    compiler::{self, Setting},
    desk::{Desk, Disk, Outputs},
    feed::Service as FeedService,
    handle::{Back, Handle, Message, SpeakerView, Wish},
    heard::{Member, World},
    metrics::Metrics,
    replicas::{
        Deeds,
        service::Service,
        siblings::{Replicas, Siblings},
    },
    sources::Sources,
};
use isthmus_core::{
    compile,
    failover::verb::Deed,
    statement::{Card, Content},
};
use isthmus_inject::words::INJECTED;
use isthmus_kubernetes::{Facts, Kind, Seen, arrived::Arrived, seen::Told};
use isthmus_runtime::{
    disk::Keeper,
    drain::{Drain, DrainTrigger},
    enrolment::system_identity,
    feed::{self, Role},
    grpc,
    identity::Identity,
    listen,
    readiness::Readiness,
    tls::{self, Accept, ClientAuth},
};
use isthmus_wire::{
    feed::feed_server::FeedServer,
    replicas::{FollowRequest, replicas_client::ReplicasClient, replicas_server::ReplicasServer},
};
use serde_json::json;
use support::{east, mesh, registration, secrets::authority, until, within};
use tokio::sync::{mpsc, watch};

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, \
                       spec: {selector: {app: cart}, ports: [{port: 80}]}}";

/// What both have the same.
struct Cluster {
    folder: tempfile::TempDir,
    ca: Ca,
    net: u8,
    drain: Drain,
}

/// One replica.
struct Replica {
    desk: Handle,
    contents: watch::Receiver<Option<Vec<Content>>>,
    deeds: watch::Receiver<Option<Arc<Deeds>>>,
    readiness: Readiness,
    trigger: DrainTrigger,
    address: SocketAddr,
    _shown: watch::Sender<Option<Replicas>>,
}

impl Cluster {
    fn new(net: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::open_or_create(&folder.path().join("ca"), &mesh(), &east(), Settings::default()).unwrap();
        Self { folder, ca, net, drain: Drain::new() }
    }

    fn identity(&self, namespace: &str, account: &str) -> Identity {
        let id = format!("spiffe://{}/ns/{namespace}/sa/{account}", self.ca.trust_domain());
        self.ca.local_identity(&id.parse().unwrap(), self.drain.clone()).unwrap()
    }

    fn at(&self, host: u8) -> IpAddr {
        IpAddr::from([127, self.net, host, 1])
    }

    /// As [`Cluster::replica_of`], with the one authority of the test.
    async fn replica(&self, host: u8, port: u16, all: Replicas) -> Replica {
        self.replica_of(self.ca.clone(), (host, port), all).await
    }

    /// As [`Cluster::begun`], of a cluster that is alone.
    async fn replica_of(&self, ca: Ca, at: (u8, u16), all: Replicas) -> Replica {
        let replica = self.begun(ca, at, all).await;
        replica.desk.tell(Message::World(Arc::new(World::default()))).await;
        replica
    }

    /// A replica with this host and, from the first one on, its port; `all` are those that it knows of. Its member is not there.
    async fn begun(&self, ca: Ca, (host, port): (u8, u16), all: Replicas) -> Replica {
        let (trigger, drain) = Drain::pair();
        let disk = |name: &str| {
            let file = self.folder.path().join(format!("{host}-{}", trigger_number())).join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            Keeper::new(file, "a test's state")
        };
        let files = Disk {
            registrations: disk("registrations.json"),
            decisions: disk("decisions.json"),
            indexes: disk("indexes.json"),
            failover: disk("failover.json"),
        };
        let (tell, messages) = mpsc::channel(64);
        let (snapshots, in_force) = watch::channel(None);
        let (contents, said) = watch::channel(None);
        let (deeds, spoken) = watch::channel(None);
        let readiness = Readiness::new();
        let outputs = Outputs {
            snapshots,
            contents,
            lease: watch::channel(Default::default()).0,
            compiled: watch::channel(None).0,
            deeds,
            ready: readiness.needs("model"),
        };
        let registry = prometheus::Registry::new();
        let desk = Desk::open(self.setting(), files, outputs, Metrics::new(&registry).unwrap()).unwrap().replicated();
        let handle = Handle::new(tell, in_force);
        tokio::spawn(desk.run(messages, drain.clone()));
        let control = system_identity(self.ca.trust_domain(), "control").unwrap();
        let identity = self.identity("isthmus-system", "control");
        let listener = listen::tcp(SocketAddr::new(self.at(host), port)).unwrap();
        let address = listener.local_addr().unwrap();
        let trust_domain = self.ca.trust_domain().clone();
        let tls = tls::server_config(
            &identity,
            Accept::TrustDomain(trust_domain.clone()),
            &[grpc::ALPN],
            ClientAuth::Optional,
        );
        let feed = FeedServer::new(FeedService::new(handle.clone(), trust_domain, drain.clone()));
        let replicas = ReplicasServer::new(Service::new(
            (handle.clone(), self.ca.clone()),
            spoken.clone(),
            control.clone(),
            drain.clone(),
        ));
        let routes = tonic::service::Routes::new(feed).add_service(replicas);
        tokio::spawn(grpc::serve(listener, tls, routes, drain.clone()));
        let (shown, replicas) = watch::channel(Some(all));
        let siblings = Siblings {
            name: format!("control-{host}"),
            port: address.port(),
            identity,
            control,
            desk: handle.clone(),
            ca,
            replicas,
        };
        tokio::spawn(siblings.run(drain));
        let in_force = [("f".to_owned(), Arc::new(compiler::parse("f", SERVICE).unwrap()))].into();
        handle.tell(Message::Sources(Sources { known: true, revision: 1, in_force, ..Sources::default() })).await;
        Replica { desk: handle, contents: said, deeds: spoken, readiness, trigger, address, _shown: shown }
    }

    fn setting(&self) -> Setting {
        let core = compile::Setting {
            mesh: mesh(),
            cluster: east(),
            region: "us-east".into(),
            zones: vec![],
            nodes: Default::default(),
            gateways: vec![],
            advertise: Default::default(),
            member: None,
            roots: vec![],
        };
        Setting { core, dns_for: None }
    }

    /// The first, and the second, which knows of the first; the first knows of the second as well.
    async fn two(&self) -> (Replica, Replica) {
        let all: Replicas = [1, 2].map(|host| (format!("control-{host}"), self.at(host))).into();
        let first = self.replica(1, 0, all.clone()).await;
        let second = self.replica(2, first.address.port(), all).await;
        (first, second)
    }
}

/// Directories of replicas that come after another.
fn trigger_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

impl Replica {
    async fn speaks(&self) {
        self.desk.tell(Message::Speaker(SpeakerView { speaks: true, ..SpeakerView::default() })).await;
    }

    async fn endpoint(&self, id: &str) -> Option<String> {
        let view = self.desk.look().await?;
        view.endpoints.iter().find(|row| row.endpoint == id).map(|row| row.state.clone())
    }

    fn says_a_verb(&self) -> bool {
        self.contents
            .borrow()
            .iter()
            .flatten()
            .any(|content| matches!(content, Content::Verb(verb) if verb.ended.is_none()))
    }
}

fn drain_west() -> Wish {
    let deed = Deed::Drain { cluster: east(), over: Duration::ZERO };
    Wish { deed, lasts: None, by: "test".into(), reason: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_one_replica_is_known_to_all_and_survives_its_replica() {
    let cluster = Cluster::new(44);
    let (first, second) = cluster.two().await;
    let subscribe = |replica: &Replica| {
        let hello = feed::Hello { role: Role::Proxy, name: "cart-1".into(), node: String::new() };
        let (trigger, drain) = Drain::pair();
        let cache = cluster.folder.path().join(format!("cache-{}", replica.address.ip()));
        (feed::subscribe(&cluster.identity("shop", "cart"), replica.address, hello, cache, drain), trigger)
    };
    let ((mut updates, reporter), client) = subscribe(&first);
    tokio::spawn(async move {
        while let Some(update) = updates.next().await {
            update.ack.accept()
        }
    });
    reporter.register(registration("cart-1", "shop", "cart", "127.44.11.1:15006"));
    for replica in [&first, &second] {
        until("the endpoint at each replica", || async {
            replica.endpoint("cart-1").await.as_deref() == Some("ready")
        })
        .await;
    }
    let shown = async || second.desk.look().await.unwrap().clients.iter().any(|one| one.connected && one.acked > 0);
    until("what the client took, at the other replica", shown).await;
    first.trigger.drain("the test says so");
    first.trigger.close("the test says so");
    let gone = async || second.desk.look().await.unwrap().clients.iter().all(|one| !one.connected);
    until("the client is lost to the other replica", gone).await;
    assert_eq!(second.endpoint("cart-1").await.as_deref(), Some("ready"), "it stands until it is heard of again");
    let ((_updates, reporter), _client) = subscribe(&second);
    reporter.register(registration("cart-1", "shop", "cart", "127.44.11.1:15006"));
    let back = async || second.desk.look().await.unwrap().clients.iter().any(|one| one.connected);
    until("it comes to the other replica", back).await;
    client.drain("the test says so");
}

/// What Kubernetes shows: a pod with a sidecar, ready.
fn cart() -> Facts {
    let labels = json!({"app": "cart", INJECTED: "1.0"});
    let pod = json!({
        "metadata": {"name": "cart-1", "namespace": "shop", "labels": labels},
        "spec": {"serviceAccountName": "cart"},
        "status": {"phase": "Running", "podIP": "127.46.11.1", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let mut seen = Seen::default();
    let arrived = Arrived::of(Kind::Pod, serde_json::from_value(pod).unwrap()).unwrap();
    seen.take(Told::All(Kind::Pod, vec![arrived]));
    Facts::of(&seen, "isthmus-system")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_that_begins_tells_of_no_endpoints_before_its_sidecars_have_come() {
    let cluster = Cluster::new(46);
    let control = cluster.begun(cluster.ca.clone(), (1, 0), Replicas::new()).await;
    let in_force = [("f".to_owned(), Arc::new(compiler::parse("f", SERVICE).unwrap()))].into();
    let facts = Some(Arc::new(cart()));
    let sources = Sources { known: true, revision: 2, in_force, facts, ..Sources::default() };
    control.desk.tell(Message::Sources(sources)).await;
    control.desk.tell(Message::World(Arc::new(World::default()))).await;
    within(control.readiness.wait()).await;
    assert!(control.contents.borrow().is_none(), "sidecars find it, but others hear nothing yet");
    let hello = feed::Hello { role: Role::Proxy, name: "cart-1".into(), node: String::new() };
    let (cache, drain) = (cluster.folder.path().join("cache"), cluster.drain.clone());
    let (_updates, reporter) = feed::subscribe(&cluster.identity("shop", "cart"), control.address, hello, cache, drain);
    reporter.register(registration("cart-1", "shop", "cart", "127.46.11.1:15006"));
    until("it speaks", || async { control.contents.borrow().is_some() }).await;
    assert_eq!(control.endpoint("cart-1").await.as_deref(), Some("ready"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_do_outlives_the_replica_that_was_told() {
    let cluster = Cluster::new(45);
    let (first, second) = cluster.two().await;
    first.speaks().await;
    let refused = within(second.desk.wish(drain_west())).await.unwrap_err();
    assert!(refused.contains("Lease isthmus-control"), "{refused}");
    within(first.desk.wish(drain_west())).await.unwrap();
    until("the other replica keeps it too", || async { second.says_a_verb() }).await;
    first.trigger.drain("the test says so");
    first.trigger.close("the test says so");
    second.speaks().await;
    // One that begins with nothing goes on with what the living one decided, before it tells its clients anything.
    let all = [2, 3].map(|host| (format!("control-{host}"), cluster.at(host))).into();
    let third = cluster.replica(3, second.address.port(), all).await;
    until("the third has it from the start", || async { third.contents.borrow().is_some() }).await;
    assert!(third.says_a_verb());
    let name = second.desk.look().await.unwrap().verbs[0].name.clone();
    within(second.desk.take_back(name, Back::default())).await.unwrap();
    until("what is taken back is taken back everywhere", || async { !third.says_a_verb() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_did_before_a_memory_came_stays() {
    let cluster = Cluster::new(47);
    let away = [("control-2".to_owned(), cluster.at(2))].into();
    let only = cluster.begun(cluster.ca.clone(), (1, 0), away).await;
    only.speaks().await;
    within(only.desk.wish(drain_west())).await.unwrap();
    only.desk.tell(Message::Memory(Some(Box::default()))).await;
    let verbs = only.desk.look().await.unwrap().verbs;
    assert!(verbs.iter().any(|row| row.verb == "drain"), "{verbs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_before_a_memory_came_tells_nobody_that_nothing_is_kept() {
    let cluster = Cluster::new(48);
    let away = [("control-2".to_owned(), cluster.at(2))].into();
    let only = cluster.begun(cluster.ca.clone(), (1, 0), away).await;
    only.speaks().await;
    assert!(only.desk.look().await.unwrap().speaker.speaks);
    assert!(only.deeds.borrow().is_none(), "others go by what it says, and would forget what it is to hear of them");
    only.desk.tell(Message::Memory(Some(Box::default()))).await;
    until("it tells what is kept", || async { only.deeds.borrow().is_some() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_believes_leaves_by_the_others_believe_without_asking_anybody_else() {
    let cluster = Cluster::new(191);
    let (here, there) = (cluster.folder.path().join("ca"), cluster.folder.path().join("ca-of-the-other"));
    std::fs::create_dir(&there).unwrap();
    for file in ["authority.json", "pass-roots.json"] {
        std::fs::copy(here.join(file), there.join(file)).unwrap();
    }
    let other = Ca::open_or_create(&there, &mesh(), &east(), Settings::default()).unwrap();
    let all: Replicas = [1, 2].map(|host| (format!("control-{host}"), cluster.at(host))).into();
    let first = cluster.replica(1, 0, all.clone()).await;
    let _second = cluster.replica_of(other.clone(), (2, first.address.port()), all).await;
    for number in 2..4 {
        let plugged = Plugged::read("a test", &authority(), cluster.ca.trust_domain(), SystemTime::now()).unwrap();
        cluster.ca.announce(&plugged).unwrap();
        until("the other believes it", || async { other.roots().len() == number }).await;
        assert_eq!(other.roots()[0], cluster.ca.roots()[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_member_is_away_has_the_other_clusters_of_another_one() {
    let cluster = Cluster::new(190);
    let first = cluster.replica(1, 0, Replicas::new()).await;
    let west = Member {
        trust_domain: "west.mesh.test".parse().unwrap(),
        roots: vec![],
        key: vec![1],
        addresses: vec![],
        operator: false,
    };
    let card = Content::Card(Card { region: "us-west".into(), ..Card::default() });
    let world = World {
        members: [("west".parse().unwrap(), west)].into(),
        operators: vec![],
        contents: [("west".parse().unwrap(), [(card.key(), Arc::new(card))].into())].into(),
    };
    first.desk.tell(Message::World(Arc::new(world))).await;
    let all = [1, 2].map(|host| (format!("control-{host}"), cluster.at(host))).into();
    let second = cluster.begun(cluster.ca.clone(), (2, first.address.port()), all).await;
    until("it speaks to its clients", || async { second.contents.borrow().is_some() }).await;
    let known = second.desk.look().await.unwrap().clusters;
    assert!(known.iter().any(|row| row.name == "west" && row.region == "us-west"), "{known:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_a_control_of_the_cluster_may_follow() {
    let cluster = Cluster::new(46);
    let only = cluster.replica(1, 0, Replicas::new()).await;
    let control = system_identity(cluster.ca.trust_domain(), "control").unwrap();
    for (namespace, account) in [("shop", "cart"), ("isthmus-system", "gateway"), ("shop", "control")] {
        let channel = grpc::channel(&cluster.identity(namespace, account), only.address, Accept::one(control.clone()));
        let asked = FollowRequest { name: "me".into() };
        let status = within(ReplicasClient::new(channel).follow(asked)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status}");
    }
}
