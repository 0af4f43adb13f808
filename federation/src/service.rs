//! The member's gRPC: sessions and joins from other members, publish and watch from the own control.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt};
use isthmus_core::name::SpiffeId;
use isthmus_runtime::grpc::PeerIdentity;
use isthmus_wire::federation::{
    JoinRequest, JoinResponse, PublishAnswer, SessionFrame, SignedStatement, WatchEvent, WatchRequest,
    member_server::Member as MemberService, publish_answer::Outcome, session_frame::Body,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    join,
    member::{Member, keeper::hello},
    view::Heard,
    watcher,
};

/// Events that wait for a watcher's connection.
const QUEUE: usize = 256;

/// The service.
pub struct Service(pub Arc<Member>);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    /// The own control, and nobody else.
    fn only_control<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let peer = PeerIdentity::of(request).ok_or_else(|| Status::unauthenticated("show who you are"))?;
        let own = self.0.config.common.cluster.trust_domain(&self.0.config.common.mesh);
        if *peer.trust_domain() == own && peer.namespace() == "isthmus-system" && peer.service_account() == "control" {
            return Ok(());
        }
        Err(Status::permission_denied(format!("{peer} is not the control of this member's cluster")))
    }

    /// The cluster whose member calls.
    fn member_of<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let peer = PeerIdentity::of(request).ok_or_else(|| Status::unauthenticated("show who you are"))?;
        let is_member = |id: &SpiffeId| id.namespace() == "isthmus-system" && id.service_account() == "federation";
        let mut members = self.0.view.members().into_iter().filter(|record| !record.ejected);
        members
            .find(|record| is_member(&peer) && record.trust_domain == peer.trust_domain().as_str())
            .map(|record| record.cluster)
            .ok_or_else(|| Status::permission_denied(format!("{peer} is the member of no cluster of this mesh")))
    }
}

#[tonic::async_trait]
impl MemberService for Service {
    type SessionStream = Out<SessionFrame>;
    type PublishStream = Out<PublishAnswer>;
    type WatchStream = Out<WatchEvent>;

    async fn session(
        &self,
        request: Request<Streaming<SessionFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let cluster = self.member_of(&request)?;
        let mut frames = request.into_inner();
        let first = frames.message().await?.and_then(|frame| frame.body);
        let Some(Body::Hello(said)) = first else {
            return Err(Status::invalid_argument("a session begins with a hello"));
        };
        if said.mesh != self.0.mesh() || said.cluster != cluster {
            let reason = format!("{cluster} says it is {} of mesh {:?}", said.cluster, said.mesh);
            return Err(Status::failed_precondition(reason));
        }
        let (prepared, out) = self.0.sessions.prepare(&cluster);
        let (member, end) = (Arc::clone(&self.0), prepared.open());
        tokio::spawn(async move { member.converse(&cluster, end, frames).await });
        let answer = SessionFrame { id: 0, body: Some(Body::Hello(hello(&self.0))) };
        let out = futures_util::stream::iter([answer]).chain(ReceiverStream::new(out)).map(Ok);
        Ok(Response::new(Box::pin(out)))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let joined = join::admit(&self.0, request.into_inner()).await;
        joined.map(Response::new).map_err(|refusal| Status::failed_precondition(refusal.to_string()))
    }

    async fn publish(
        &self,
        request: Request<Streaming<SignedStatement>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        self.only_control(&request)?;
        if !self.0.is_joined() {
            return Err(Status::unavailable("this member is of no mesh yet; bootstrap it, or join it with a token"));
        }
        let member = Arc::clone(&self.0);
        let answers = request.into_inner().filter_map(move |statement| {
            let answer = statement.ok().map(|statement| Ok(answer(&member, statement)));
            std::future::ready(answer)
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.only_control(&request)?;
        let WatchRequest { revision, history } = request.into_inner();
        let (out, events) = mpsc::channel(QUEUE);
        let member = Arc::clone(&self.0);
        tokio::spawn(async move { watcher::follow(&member.view, revision, history, out).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(events).map(Ok))))
    }
}

fn answer(member: &Member, statement: SignedStatement) -> PublishAnswer {
    let (key, epoch, number) = (statement.key.clone(), statement.epoch, statement.number);
    let highest = member.view.highest(&statement.cluster);
    let outcome = if statement.cluster != member.cluster() {
        Outcome::Refused(format!("{} speaks for itself only, not for {}", member.cluster(), statement.cluster))
    } else if key != "lease" && highest.epoch > epoch {
        Outcome::HigherEpoch(highest.epoch)
    } else {
        match member.publish(statement) {
            Heard::Applied | Heard::Stale => Outcome::Taken(true),
            Heard::Forged => {
                Outcome::Refused("it is not signed with the federation key of this cluster's join entry".into())
            }
        }
    };
    PublishAnswer { key, epoch, number, outcome: Some(outcome) }
}
