//! The feed: compiled configuration to proxies and gateways, and what they report back.
//!
//! A stream keeps for itself what its client has and compares that with the snapshot in force, at the client's own
//! pace: a slow one skips versions, nobody waits for anybody. Who may speak: identities of the own trust domain, and
//! as a gateway only `sa/gateway` of the system's namespace.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_core::name::{EndpointId, SpiffeId, TrustDomain};
use isthmus_runtime::{drain::Drain, grpc::PeerIdentity};
use isthmus_wire::feed::{
    FeedRequest, FeedResponse, Hello, Nack, Resource as WireResource, Role as WireRole, feed_request, feed_server,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    clients::Role,
    handle::{Handle, Message},
    registry,
    table::{self, Snapshot},
};

/// A client that opened a stream says hello within so long.
const HELLO: Duration = Duration::from_secs(10);
/// Refusals of one message that are kept; the rest is counted only.
const MAX_REFUSALS: usize = 256;
/// The stream of a client that may not register what it says ends so long after it was refused.
const REFUSED_AFTER: Duration = Duration::from_secs(1);

/// The service on 15012.
#[derive(Clone)]
pub struct Service {
    desk: Handle,
    trust_domain: TrustDomain,
    drain: Drain,
}

impl Service {
    /// For clients of one trust domain.
    #[must_use]
    pub fn new(desk: Handle, trust_domain: TrustDomain, drain: Drain) -> Self {
        Self { desk, trust_domain, drain }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<SpiffeId, Status> {
        let peer = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.0.clone());
        let identity = peer.ok_or_else(|| Status::unauthenticated("the feed is only for callers with an identity"))?;
        if identity.trust_domain() != &self.trust_domain {
            let reason = format!("{identity} is not of trust domain {}, which this feed serves", self.trust_domain);
            return Err(Status::permission_denied(reason));
        }
        Ok(identity)
    }
}

#[tonic::async_trait]
impl feed_server::Feed for Service {
    type StreamStream = ReceiverStream<Result<FeedResponse, Status>>;

    async fn stream(&self, request: Request<Streaming<FeedRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let identity = self.admit(&request)?;
        let (out, answers) = mpsc::channel(4);
        let (desk, drain) = (self.desk.clone(), self.drain.clone());
        tokio::spawn(async move {
            let requests = request.into_inner();
            if let Err(status) = Session::serve(desk, identity, requests, out.clone(), drain).await {
                tracing::debug!(%status, "a feed stream ends");
                let _ = out.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// One stream.
struct Session {
    desk: Handle,
    identity: SpiffeId,
    stream: u64,
    name: String,
    role: Role,
    /// That it is on.
    node: String,
    have: BTreeMap<String, u64>,
    run: String,
    /// Whether what was sent last was.
    partial: bool,
    nonce: u64,
    greeted: bool,
    out: mpsc::Sender<Result<FeedResponse, Status>>,
}

impl Session {
    async fn serve(
        desk: Handle,
        identity: SpiffeId,
        mut requests: Streaming<FeedRequest>,
        out: mpsc::Sender<Result<FeedResponse, Status>>,
        drain: Drain,
    ) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(FeedRequest { request: Some(feed_request::Request::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("a feed stream must begin with a hello"));
        };
        let role = role_of(&hello, &identity)?;
        let stream = desk.next_stream();
        let mut session = Self {
            stream,
            name: hello.name,
            role,
            node: hello.node,
            have: hello.have.into_iter().collect(),
            run: hello.run,
            partial: false,
            nonce: 0,
            greeted: false,
            identity,
            desk,
            out,
        };
        session
            .tell(Message::Opened { stream, role, name: session.name.clone(), identity: session.identity.clone() })
            .await;
        let ended = session.exchange(&mut requests, drain).await;
        session.tell(Message::Closed { stream }).await;
        ended
    }

    async fn exchange(&mut self, requests: &mut Streaming<FeedRequest>, drain: Drain) -> Result<(), Status> {
        let mut snapshots = self.desk.snapshots();
        self.push(&mut snapshots).await?;
        loop {
            tokio::select! {
                request = requests.message() => match request? {
                    Some(FeedRequest { request: Some(request) }) => self.take(request).await?,
                    Some(FeedRequest { request: None }) => {}
                    None => return Ok(()),
                },
                changed = snapshots.changed() => match changed {
                    Ok(()) => self.push(&mut snapshots).await?,
                    Err(_) => return Err(Status::unavailable("this control stops")),
                },
                () = drain.draining() => return Err(Status::unavailable("this control drains")),
                () = self.out.closed() => return Ok(()),
            }
        }
    }

    async fn tell(&self, message: Message) {
        self.desk.tell(message).await;
    }

    /// Sends what the client lacks of what is in force; nothing before anything is.
    async fn push(&mut self, snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>) -> Result<(), Status> {
        let Some(snapshot) = snapshots.borrow_and_update().clone() else { return Ok(()) };
        if *self.run != *snapshot.run || self.partial && !snapshot.partial {
            // Versions of another run say nothing here, nor those of what the client added to: only the keys count, for what is gone.
            self.have.values_mut().for_each(|version| *version = 0);
            self.run = snapshot.run.to_string();
        }
        self.partial = snapshot.partial;
        let delta = snapshot.delta(&self.have, |key| is_for(self.role, &self.node, key));
        if delta.is_empty() && self.greeted {
            return Ok(());
        }
        self.greeted = true;
        let mut parts = table::parts(delta).into_iter().peekable();
        while let Some(part) = parts.next() {
            self.send(&snapshot, part, parts.peek().is_none()).await?;
        }
        Ok(())
    }

    async fn send(&mut self, snapshot: &Snapshot, part: table::Delta, last: bool) -> Result<(), Status> {
        self.nonce += 1;
        let keys = part.upserts.iter().map(|(key, _)| key.clone()).chain(part.removals.iter().cloned()).collect();
        for (key, entry) in &part.upserts {
            self.have.insert(key.clone(), entry.version);
        }
        if !snapshot.partial {
            for key in &part.removals {
                self.have.remove(key);
            }
        }
        let resource = |(key, entry): (String, Arc<table::Entry>)| WireResource {
            key,
            version: entry.version,
            body: entry.body.to_vec(),
        };
        let response = FeedResponse {
            nonce: self.nonce,
            run: snapshot.run.to_string(),
            upserts: part.upserts.into_iter().map(resource).collect(),
            removals: part.removals,
            synced: last,
            partial: snapshot.partial,
        };
        let sent = Message::Sent { stream: self.stream, nonce: self.nonce, version: snapshot.version, keys };
        self.tell(sent).await;
        self.out.send(Ok(response)).await.map_err(|_| Status::cancelled("the client left"))
    }

    async fn take(&mut self, request: feed_request::Request) -> Result<(), Status> {
        match request {
            feed_request::Request::Hello(_) => Err(Status::invalid_argument("a second hello on one feed stream")),
            feed_request::Request::Ack(ack) => {
                let nonce = ack.nonce;
                self.tell(Message::Answered { stream: self.stream, nonce, refusals: vec![] }).await;
                Ok(())
            }
            feed_request::Request::Nack(nack) => {
                self.refused(nack).await;
                Ok(())
            }
            feed_request::Request::Report(report) => {
                let (stream, role) = (self.stream, self.role);
                self.tell(Message::Report { stream, role, report }).await;
                Ok(())
            }
            feed_request::Request::Registration(registration) => self.register(registration).await,
        }
    }

    async fn refused(&self, nack: Nack) {
        for refusal in &nack.refusals {
            tracing::warn!(client = self.name, key = refusal.key, reason = refusal.reason, "a resource is refused");
        }
        let cut = |text: String| text.chars().take(1024).collect::<String>();
        let refusals =
            nack.refusals.into_iter().take(MAX_REFUSALS).map(|one| (cut(one.key), cut(one.reason))).collect();
        self.tell(Message::Answered { stream: self.stream, nonce: nack.nonce, refusals }).await;
    }

    async fn register(&self, said: isthmus_wire::feed::Registration) -> Result<(), Status> {
        let taken = match self.checked(&said) {
            Ok(registered) => self.desk.register(self.stream, registered).await,
            Err(reason) => {
                self.tell(Message::RegistrationRefused { stream: self.stream, reason: reason.clone() }).await;
                Err(reason)
            }
        };
        let Err(reason) = taken else { return Ok(()) };
        tracing::warn!(client = self.name, reason, "a registration is refused");
        // A stream that ended at once would be opened anew at once, and its client would not have read why.
        tokio::time::sleep(REFUSED_AFTER).await;
        Err(Status::permission_denied(reason))
    }

    fn checked(&self, said: &isthmus_wire::feed::Registration) -> Result<registry::Registered, String> {
        if self.role == Role::Gateway {
            return Err("a gateway registers no workload".into());
        }
        if said.workload != self.name {
            return Err(format!("the stream of {:?} registers another workload, {:?}", self.name, said.workload));
        }
        registry::check(&self.identity, said).map_err(|refused| refused.to_string())
    }
}

/// Leases are sent by gateways, and how a service fails over is the proxies' business. Who is on a node has to know of that one.
fn is_for(role: Role, node: &str, key: &str) -> bool {
    match (role, key.strip_prefix("node/")) {
        (Role::Proxy, Some(name)) => name == node,
        (Role::Proxy, None) => key != "lease",
        (Role::Gateway, Some(_)) => false,
        (Role::Gateway, None) => !key.starts_with("failover/"),
    }
}

fn role_of(hello: &Hello, identity: &SpiffeId) -> Result<Role, Status> {
    let ours = isthmus_wire::WIRE_VERSIONS;
    if hello.wire_max < *ours.start() || hello.wire_min > *ours.end() {
        let reason = format!(
            "the caller speaks wire versions {} to {}, this control {} to {}",
            hello.wire_min,
            hello.wire_max,
            ours.start(),
            ours.end()
        );
        return Err(Status::failed_precondition(reason));
    }
    hello.name.parse::<EndpointId>().map_err(|error| Status::invalid_argument(error.to_string()))?;
    match hello.role() {
        WireRole::Proxy => Ok(Role::Proxy),
        WireRole::Gateway if identity.namespace() == "isthmus-system" && identity.service_account() == "gateway" => {
            Ok(Role::Gateway)
        }
        WireRole::Gateway => Err(Status::permission_denied(format!("{identity} is not a gateway's identity"))),
        WireRole::Unspecified => Err(Status::invalid_argument("a hello must name the caller's role")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_a_node_hears_of_that_one_and_who_is_on_none_of_none() {
        assert!(is_for(Role::Proxy, "n1", "node/n1") && !is_for(Role::Proxy, "n1", "node/n2"));
        assert!(!is_for(Role::Proxy, "", "node/n1") && !is_for(Role::Gateway, "n1", "node/n1"));
        assert!(is_for(Role::Proxy, "", "failover/shop/cart") && !is_for(Role::Gateway, "", "failover/shop/cart"));
        assert!(!is_for(Role::Proxy, "", "lease") && is_for(Role::Gateway, "", "lease"));
    }
}
