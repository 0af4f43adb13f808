//! A federation member that records what is published and plays the watch it is told to play.

use std::{collections::BTreeMap, net::SocketAddr, pin::Pin, sync::Arc};

use isthmus_core::statement::{Content, Version};
use isthmus_runtime::{drain::Drain, grpc, identity::Identity, listen, tls};
use isthmus_wire::federation::{
    JoinRequest, JoinResponse, MemberRecord, PublishAnswer, SessionFrame, SignedStatement, Snapshot, WatchEvent,
    WatchRequest,
    member_server::{Member, MemberServer},
    publish_answer::Outcome,
    watch_event::Event,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

type Events = mpsc::UnboundedSender<Result<WatchEvent, Status>>;

/// What the member holds.
#[derive(Default)]
pub struct Held {
    /// Everything published, in order, leases too.
    pub published: Vec<SignedStatement>,
    /// The highest version by key.
    pub versions: BTreeMap<String, Version>,
    /// What a new watcher gets.
    pub snapshot: Snapshot,
    /// Revisions watchers asked to resume from.
    pub resumed: Vec<u64>,
    revision: u64,
    watchers: Vec<Events>,
}

/// The member.
#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<Held>>);

impl Fake {
    /// Serves it as `identity` at `address` until the drain closes.
    pub fn serve(&self, identity: &Identity, address: SocketAddr, drain: Drain) -> tokio::task::JoinHandle<()> {
        let accept = tls::Accept::TrustDomain(identity.spiffe().trust_domain().clone());
        let config = tls::server_config(identity, accept, &[grpc::ALPN], tls::ClientAuth::Required);
        let listener = listen::tcp(address).unwrap();
        let routes = tonic::service::Routes::new(MemberServer::new(self.clone()));
        tokio::spawn(grpc::serve(listener, config, routes, drain))
    }

    /// Holds members from the beginning.
    pub fn members(&self, records: Vec<MemberRecord>) {
        self.0.lock().snapshot.members = records;
    }

    /// Tells all watchers, and later ones by the snapshot.
    pub fn say(&self, statement: SignedStatement) {
        let mut held = self.0.lock();
        held.snapshot.statements.push(statement.clone());
        held.tell(Event::Statement(statement));
    }

    /// Tells all watchers of a lease.
    pub fn lease(&self, lease: SignedStatement) {
        self.0.lock().tell(Event::Lease(lease));
    }

    /// What was published last under a key.
    pub fn last(&self, key: &str) -> Option<(Version, Content)> {
        let held = self.0.lock();
        let said = held.published.iter().rev().find(|said| said.key == key)?;
        Some((Version { epoch: said.epoch, number: said.number }, serde_json::from_slice(&said.content).ok()?))
    }
}

impl Held {
    fn tell(&mut self, event: Event) {
        self.revision += 1;
        let event = WatchEvent { revision: self.revision, history: "h".into(), event: Some(event) };
        self.watchers.retain(|watcher| watcher.send(Ok(event.clone())).is_ok());
    }

    fn take(&mut self, said: SignedStatement) -> Outcome {
        let version = Version { epoch: said.epoch, number: said.number };
        let held = self.versions.entry(said.key.clone()).or_default();
        if *held > version {
            return Outcome::HigherEpoch(held.epoch);
        }
        *held = version;
        self.published.push(said);
        Outcome::Taken(true)
    }
}

#[tonic::async_trait]
impl Member for Fake {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionFrame, Status>> + Send>>;
    type PublishStream = Pin<Box<dyn Stream<Item = Result<PublishAnswer, Status>> + Send>>;
    type WatchStream = UnboundedReceiverStream<Result<WatchEvent, Status>>;

    async fn session(&self, _: Request<Streaming<SessionFrame>>) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("no sessions here"))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(Status::unimplemented("nobody joins here"))
    }

    async fn publish(
        &self,
        request: Request<Streaming<SignedStatement>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let held = self.0.clone();
        let answers = request.into_inner().map(move |said| {
            let said = said?;
            let (key, epoch, number) = (said.key.clone(), said.epoch, said.number);
            let outcome = Some(held.lock().take(said));
            Ok(PublishAnswer { key, epoch, number, outcome })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (events, out) = mpsc::unbounded_channel();
        let mut held = self.0.lock();
        held.resumed.push(request.get_ref().revision);
        held.revision += 1;
        let snapshot = Some(Event::Snapshot(held.snapshot.clone()));
        let _ = events.send(Ok(WatchEvent { revision: held.revision, history: "h".into(), event: snapshot }));
        held.watchers.push(events);
        Ok(Response::new(UnboundedReceiverStream::new(out)))
    }
}
