//! Raft's calls over member sessions.

use std::{future::Future, time::Duration};

use openraft::{
    OptionalSend, Raft,
    alias::{SnapshotMetaOf, SnapshotOf, VoteOf},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
    storage::RaftStateMachine,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Node, TypeConfig, Types};
use crate::{
    session::{CallError, Sessions},
    state::Blob,
};

/// A snapshot is sent whole; it takes longer than a heartbeat.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(30);

/// What goes over the session, by method.
pub mod method {
    /// `AppendEntries`.
    pub const APPEND: &str = "append";
    /// `RequestVote`.
    pub const VOTE: &str = "vote";
    /// Whether a vote would be won.
    pub const PRE_VOTE: &str = "pre-vote";
    /// `InstallSnapshot`, whole.
    pub const SNAPSHOT: &str = "snapshot";
}

/// A snapshot on its way.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotCall {
    pub(crate) vote: VoteOf<TypeConfig>,
    pub(crate) meta: SnapshotMetaOf<TypeConfig>,
    pub(crate) bytes: Blob,
}

/// A call and the Raft id it is for. A session leads to a cluster, and a cluster that was installed anew has another id:
/// what is meant for the member that was wiped must not be answered by the one in its place, whose log is empty.
#[derive(Serialize, Deserialize)]
struct Addressed<T> {
    to: u64,
    rpc: T,
}

/// What carries calls to other members: sessions, or a simulation of them.
pub trait Carrier: Clone + Send + Sync + 'static {
    /// Calls the member of `cluster`; its answer, or why there is none within the limit.
    fn call(
        &self,
        cluster: &str,
        method: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, CallError>> + Send;
}

impl Carrier for Sessions {
    async fn call(&self, cluster: &str, method: &str, body: Vec<u8>, limit: Duration) -> Result<Vec<u8>, CallError> {
        self.raft(cluster, method, body, limit).await
    }
}

/// Makes clients.
pub struct Network<S = Sessions>(pub S);

/// A client to one member.
pub struct Client<S = Sessions> {
    carrier: S,
    target: u64,
    cluster: String,
}

impl<C: Types, S: Carrier> RaftNetworkFactory<C> for Network<S> {
    type Network = Client<S>;

    async fn new_client(&mut self, target: u64, node: &Node) -> Client<S> {
        Client { carrier: self.0.clone(), target, cluster: node.cluster.clone() }
    }
}

impl<S: Carrier> Client<S> {
    async fn call<C: Types, A: DeserializeOwned>(
        &self,
        method: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<A, RPCError<C>> {
        let bytes = serde_json::to_vec(&Addressed { to: self.target, rpc: body });
        let bytes = bytes.map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        let answer = self.carrier.call(&self.cluster, method, bytes, limit).await;
        let answer = answer.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
        serde_json::from_slice(&answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }
}

impl<C: Types, S: Carrier> RaftNetworkV2<C> for Client<S> {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        self.call(method::APPEND, &rpc, option.hard_ttl()).await
    }

    async fn vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RPCError<C>> {
        self.call(method::VOTE, &rpc, option.hard_ttl()).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RPCError<C>> {
        self.call(method::PRE_VOTE, &rpc, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<C>,
        snapshot: SnapshotOf<C, Vec<u8>>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let call = SnapshotCall { vote, meta: snapshot.meta, bytes: Blob(snapshot.snapshot) };
        Ok(self.call(method::SNAPSHOT, &call, SNAPSHOT_LIMIT).await?)
    }
}

/// Answers a call that came by a session.
///
/// # Errors
/// The reason, for the caller to read: the call is not known, malformed, or Raft stopped.
pub async fn answer<C, SM>(raft: &Raft<C, SM>, called: &str, body: &[u8]) -> Result<Vec<u8>, String>
where
    C: Types,
    SM: RaftStateMachine<C, SnapshotData = Vec<u8>>,
{
    let own = *raft.node_id();
    match called {
        method::APPEND => encode(raft.append_entries(decode(body, own)?).await),
        method::VOTE => encode(raft.vote(decode(body, own)?).await),
        method::PRE_VOTE => encode(raft.pre_vote(decode(body, own)?).await),
        method::SNAPSHOT => {
            let call: SnapshotCall = decode(body, own)?;
            let snapshot = SnapshotOf::<C, Vec<u8>> { meta: call.meta, snapshot: call.bytes.0 };
            encode(raft.install_full_snapshot(call.vote, snapshot).await)
        }
        other => Err(format!("a call this member does not know: {other}")),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8], own: u64) -> Result<T, String> {
    let Addressed { to, rpc } = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if to == own { Ok(rpc) } else { Err(format!("this is raft member {own}, not {to}")) }
}

fn encode<T: Serialize>(answered: Result<T, impl std::fmt::Display>) -> Result<Vec<u8>, String> {
    let answer = answered.map_err(|error| error.to_string())?;
    serde_json::to_vec(&answer).map_err(|error| error.to_string())
}
