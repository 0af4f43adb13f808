//! What another member asks over a session, and the answers.

use std::sync::Arc;

use isthmus_wire::federation::{ProposeAnswer, RaftAnswer, SessionFrame, SignedStatement, session_frame::Body};

use super::Member;
use crate::{
    raft::network,
    session::End,
    state::{Answer, Command},
    view::Heard,
};

impl Member {
    /// Answers what another member asks, until its session ends.
    pub(crate) async fn converse<S>(self: &Arc<Self>, cluster: &str, end: End, mut frames: S)
    where
        S: futures_util::Stream<Item = Result<SessionFrame, tonic::Status>> + Unpin,
    {
        use futures_util::StreamExt;
        tracing::info!(cluster, "session open");
        loop {
            let frame = tokio::select! {
                frame = frames.next() => frame,
                () = end.ended() => None,
            };
            let Some(Ok(frame)) = frame else { break };
            let Some((id, request)) = end.take(frame) else { continue };
            if let Body::Delta(statement) = request {
                self.delta(cluster, &statement);
                continue;
            }
            let (member, out) = (Arc::clone(self), end.reply());
            tokio::spawn(async move {
                if let Some(body) = member.answer(request).await {
                    let _ = out.send(SessionFrame { id, body: Some(body) }).await;
                }
            });
        }
        tracing::info!(cluster, "session closed");
    }

    /// Anyone may relay: what counts is whose signature a statement carries.
    fn delta(&self, from: &str, statement: &SignedStatement) {
        match self.view.hear(statement) {
            Heard::Applied => {
                self.sessions.relay(from, statement);
                self.heed_roots(statement);
            }
            Heard::Stale => {}
            Heard::Forged => {
                tracing::warn!(
                    from,
                    said_for = statement.cluster,
                    "a delta is not signed by the cluster it is said for"
                );
            }
        }
    }

    async fn answer(&self, request: Body) -> Option<Body> {
        match request {
            Body::Raft(call) => {
                let answered = self.raft_call(&call.method, &call.body).await;
                let (body, error) = answered.map_or_else(|error| (vec![], error), |body| (body, String::new()));
                Some(Body::RaftAnswer(RaftAnswer { body, error }))
            }
            Body::Propose(bytes) => {
                let answer = match serde_json::from_slice::<Command>(&bytes) {
                    Ok(command) => self.propose(command).await,
                    Err(error) => ProposeAnswer {
                        error: format!("a command this member does not know: {error}"),
                        ..ProposeAnswer::default()
                    },
                };
                Some(Body::ProposeAnswer(answer))
            }
            _ => None,
        }
    }

    /// Takes a write as the leader; a `leader` in the answer means: not me.
    async fn propose(&self, command: Command) -> ProposeAnswer {
        let elsewhere = || ProposeAnswer { error: "not the leader".into(), leader: "?".into(), revision: 0 };
        let Some(raft) = self.raft() else { return elsewhere() };
        match raft.client_write(command).await {
            Ok(written) => match written.data {
                Answer::Done => ProposeAnswer { revision: written.log_id.index, ..ProposeAnswer::default() },
                Answer::Refused(error) => ProposeAnswer { error, ..ProposeAnswer::default() },
            },
            Err(_) => elsewhere(),
        }
    }

    async fn raft_call(&self, called: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        let raft = self.raft().ok_or("this member has not begun yet")?;
        network::answer(raft, called, body).await
    }
}
