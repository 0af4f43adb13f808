//! The client half of the feed against a control that a test plays.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod support;

use std::net::SocketAddr;

use isthmus_core::model::{Endpoints, Mesh, Resource, Trust};
use isthmus_runtime::{
    drain::Drain,
    feed::{self, Hello, Registration, Report, Reporter, Role, Update, Updates},
    grpc,
    identity::Identity,
    listen,
    tls::{self, Accept, ClientAuth},
    trust::TrustRoots,
};
use isthmus_wire::feed::{
    FeedRequest, FeedResponse, Resource as WireResource,
    feed_request::Request as Said,
    feed_server::{Feed, FeedServer},
};
use support::{Root, soon};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, service::Routes};

const CONTROL: &str = "spiffe://east.mesh/ns/isthmus-system/sa/control";
const PROXY: &str = "spiffe://east.mesh/ns/shop/sa/cart";

/// One stream, in the test's hands.
struct Stream {
    heard: Streaming<FeedRequest>,
    say: mpsc::Sender<Result<FeedResponse, Status>>,
}

impl Stream {
    async fn hear(&mut self) -> Said {
        soon("a message of the client", self.heard.message()).await.unwrap().unwrap().request.unwrap()
    }
    async fn say(&self, nonce: u64, run: &str, upserts: Vec<WireResource>, removals: &[&str]) {
        self.answer(FeedResponse { nonce, run: run.into(), upserts, removals: texts(removals), ..whole() }).await;
    }
    /// As a control that knows its own cluster only.
    async fn say_partly(&self, nonce: u64, run: &str, upserts: Vec<WireResource>, removals: &[&str]) {
        let (run, removals) = (run.into(), texts(removals));
        self.answer(FeedResponse { nonce, run, upserts, removals, partial: true, ..whole() }).await;
    }
    async fn answer(&self, response: FeedResponse) {
        self.say.send(Ok(response)).await.unwrap();
    }
}

fn whole() -> FeedResponse {
    FeedResponse { synced: true, ..FeedResponse::default() }
}

fn texts(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

struct Control(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl Feed for Control {
    type StreamStream = ReceiverStream<Result<FeedResponse, Status>>;
    async fn stream(&self, request: Request<Streaming<FeedRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let (say, answers) = mpsc::channel(8);
        let _ = self.0.send(Stream { heard: request.into_inner(), say }).await;
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

struct World {
    root: Root,
    dir: tempfile::TempDir,
    identity: Identity,
    address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
    control: Drain,
}

impl World {
    fn new() -> Self {
        let root = Root::new();
        let (listener, address) = support::listener();
        let (control, streams) = serve(&root, listener);
        let identity = root.identity(PROXY);
        Self { identity, root, dir: tempfile::tempdir().unwrap(), address, streams, control }
    }
    fn subscribe(&self, drain: &Drain) -> (Updates, Reporter) {
        let hello = Hello { role: Role::Proxy, name: "cart-1".into(), node: String::new() };
        feed::subscribe(&self.identity, self.address, hello, self.dir.path().to_owned(), drain.clone())
    }
    async fn stream(&mut self) -> Stream {
        soon("a stream", self.streams.recv()).await.unwrap()
    }
}

fn serve(root: &Root, listener: tokio::net::TcpListener) -> (Drain, mpsc::Receiver<Stream>) {
    let (streams, received) = mpsc::channel(8);
    let drain = Drain::new();
    let tls = tls::server_config(&root.identity(CONTROL), Accept::Any, &[grpc::ALPN], ClientAuth::Optional);
    tokio::spawn(grpc::serve(listener, tls, Routes::new(FeedServer::new(Control(streams))), drain.clone()));
    (drain, received)
}

fn mesh(member: u16) -> Resource {
    let member = Some(SocketAddr::from(([127, 0, 0, 1], member)));
    let (domain, cluster) = ("mesh".parse().unwrap(), "east".parse().unwrap());
    Resource::Mesh(Mesh { domain, cluster, gateways: vec![], member })
}

fn wire(version: u64, resource: &Resource) -> WireResource {
    WireResource { key: resource.key(), version, body: serde_json::to_vec(resource).unwrap() }
}

async fn next(updates: &mut Updates) -> Update {
    soon("an update", updates.next()).await.unwrap()
}

async fn hello(stream: &mut Stream) -> isthmus_wire::feed::Hello {
    match stream.hear().await {
        Said::Hello(hello) => hello,
        other => panic!("hello is first, not {other:?}"),
    }
}

#[tokio::test]
async fn what_is_accepted_is_acknowledged_kept_and_delivered_first_after_a_restart() {
    let mut world = World::new();
    let drain = Drain::new();
    let (mut updates, reporter) = world.subscribe(&drain);
    let mut stream = world.stream().await;
    assert!(hello(&mut stream).await.have.is_empty());
    let mut connected = reporter.connected();
    soon("the connection", connected.wait_for(|connected| *connected)).await.unwrap();

    stream.say(1, "run-1", vec![wire(3, &mesh(1))], &[]).await;
    let update = next(&mut updates).await;
    assert!(update.synced && !update.from_disk);
    assert_eq!(update.upserts, [("mesh".to_owned(), 3, mesh(1))]);
    update.ack.accept();
    assert!(matches!(stream.hear().await, Said::Ack(ack) if ack.nonce == 1));

    let file = world.dir.path().join("feed.json");
    soon("the write", async {
        while !file.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drain.trigger().close("test");
    assert!(soon("the end", updates.next()).await.is_none());

    let (mut updates, _reporter) = world.subscribe(&Drain::new());
    let kept = next(&mut updates).await;
    assert!(kept.from_disk && !kept.synced);
    assert_eq!(kept.upserts, [("mesh".to_owned(), 3, mesh(1))]);
    kept.ack.accept();
    let again = hello(&mut world.stream().await).await;
    assert_eq!((again.run.as_str(), again.have["mesh"]), ("run-1", 3));
}

#[tokio::test]
async fn what_cannot_be_read_or_is_refused_is_named_and_the_last_good_stays() {
    let mut world = World::new();
    let (mut updates, _reporter) = world.subscribe(&Drain::new());
    let mut stream = world.stream().await;
    hello(&mut stream).await;
    stream.say(1, "run", vec![wire(1, &mesh(1))], &[]).await;
    next(&mut updates).await.ack.accept();
    assert!(matches!(stream.hear().await, Said::Ack(_)));

    let strange = |key: &str, body: &[u8]| WireResource { key: key.into(), version: 2, body: body.to_vec() };
    let bad = vec![
        strange("service/a/b", b"{\"kind\":\"hologram\"}"),
        strange("endpoints/a/b", &[0xff; 100]),
        WireResource { key: "trust".into(), ..wire(2, &mesh(9)) },
        wire(2, &mesh(2)),
    ];
    stream.say(2, "run", bad, &[]).await;
    let update = next(&mut updates).await;
    assert_eq!(update.upserts.len(), 1, "only what can be read is delivered");
    update.ack.refuse(vec![("mesh".into(), "no such member".into())]);
    let Said::Nack(nack) = stream.hear().await else { panic!("a refusal is due") };
    let refused: Vec<_> = nack.refusals.iter().map(|refusal| refusal.key.as_str()).collect();
    assert_eq!((nack.nonce, refused), (2, vec!["service/a/b", "endpoints/a/b", "trust", "mesh"]));
    assert!(nack.refusals[0].reason.contains("hologram"), "{:?}", nack.refusals[0]);

    // The stream breaks: the next hello has the last good.
    drop(stream);
    let mut stream = world.stream().await;
    assert_eq!(hello(&mut stream).await.have["mesh"], 1);
}

#[tokio::test]
async fn roots_come_into_force_and_none_is_taken_away_by_emptiness() {
    let mut world = World::new();
    let (mut updates, _reporter) = world.subscribe(&Drain::new());
    let mut stream = world.stream().await;
    hello(&mut stream).await;
    let west = Root::new().trust("west.mesh");
    stream.say(1, "run", vec![wire(1, &Resource::Trust(west.to_model()))], &[]).await;
    next(&mut updates).await.ack.accept();
    let known = |identity: &Identity| identity.trust().domains().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(known(&world.identity), ["east.mesh", "west.mesh"], "the own roots stay");
    assert!(matches!(stream.hear().await, Said::Ack(_)));

    stream.say(2, "run", vec![wire(2, &Resource::Trust(Trust::default()))], &["trust"]).await;
    let update = next(&mut updates).await;
    assert!(update.upserts.is_empty() && update.removals.is_empty());
    update.ack.accept();
    assert!(matches!(stream.hear().await, Said::Nack(nack) if nack.refusals[0].key == "trust"));
    assert_eq!(known(&world.identity), ["east.mesh", "west.mesh"]);
    assert!(!TrustRoots::from_model(&west.to_model()).roots(&"west.mesh".parse().unwrap()).is_empty());
}

#[tokio::test]
async fn a_registration_is_told_again_to_a_control_that_comes_back() {
    let mut world = World::new();
    let (mut updates, reporter) = world.subscribe(&Drain::new());
    let registration = Registration { workload: "cart-1".into(), state: "ready".into(), ..Registration::default() };
    reporter.register(registration.clone());
    for life in 1..=2 {
        let mut stream = world.stream().await;
        hello(&mut stream).await;
        assert!(matches!(stream.hear().await, Said::Registration(said) if said == registration), "life {life}");
        let mut connected = reporter.connected();
        soon("the connection", connected.wait_for(|connected| *connected)).await.unwrap();
        reporter.report(Report { leases: vec![b"lease".to_vec()], ..Report::default() });
        assert!(matches!(stream.hear().await, Said::Report(report) if report.leases.len() == 1));
        stream.say(1, &format!("run-{life}"), vec![wire(1, &mesh(life))], &[]).await;
        next(&mut updates).await.ack.accept();
        assert!(matches!(stream.hear().await, Said::Ack(_)));
        world.control.trigger().close("test");
        drop(stream);
        // The server lets go of the port when it has ended.
        let listener = soon("the port to be free", async {
            loop {
                match listen::tcp(world.address) {
                    Ok(listener) => break listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        (world.control, world.streams) = serve(&world.root, listener);
    }
}

#[tokio::test]
async fn a_control_that_knows_only_its_own_cluster_takes_nothing_of_others_away() {
    let mut world = World::new();
    let (mut updates, _reporter) = world.subscribe(&Drain::new());
    let mut stream = world.stream().await;
    hello(&mut stream).await;
    let (east, west) = (Root::new().trust("east.mesh"), Root::new().trust("west.mesh"));
    let imported: Resource = Resource::Endpoints(Endpoints {
        service: "shop/stock".parse().unwrap(),
        local: vec![],
        remote: [("west".parse().unwrap(), vec![])].into(),
    });
    let upserts = vec![wire(1, &Resource::Trust(west.to_model())), wire(1, &imported), wire(1, &mesh(1))];
    stream.say(1, "run-1", upserts, &[]).await;
    next(&mut updates).await.ack.accept();
    assert!(matches!(stream.hear().await, Said::Ack(_)));

    let upserts = vec![wire(7, &Resource::Trust(east.to_model())), wire(7, &mesh(2))];
    stream.say_partly(1, "run-2", upserts, &["endpoints/shop/stock", "node/n1"]).await;
    let update = next(&mut updates).await;
    assert_eq!(update.removals, ["node/n1"]);
    assert!(update.upserts.iter().any(|(_, _, resource)| *resource == mesh(2)), "what is its own is new");
    assert!(update.upserts.iter().any(|(_, _, resource)| *resource == imported));
    update.ack.accept();
    let known: Vec<_> = world.identity.trust().domains().map(ToString::to_string).collect();
    assert_eq!(known, ["east.mesh", "west.mesh"]);

    // Whoever knows more tells all of it again: what was kept has no version.
    assert!(matches!(stream.hear().await, Said::Ack(_)));
    drop(stream);
    let again = hello(&mut world.stream().await).await;
    assert_eq!((again.run.as_str(), again.have["trust"], again.have["endpoints/shop/stock"]), ("run-2", 0, 0));
}
