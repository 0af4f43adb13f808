//! Raft's calls over member sessions.

use std::{future::Future, time::Duration};

use openraft::{
    OptionalSend,
    alias::{SnapshotMetaOf, SnapshotOf, VoteOf},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Node, TypeConfig};
use crate::{session::Sessions, state::Blob};

/// A snapshot is sent whole; it takes longer than a heartbeat.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(30);

/// What goes over the session, by method.
pub(crate) mod method {
    pub(crate) const APPEND: &str = "append";
    pub(crate) const VOTE: &str = "vote";
    pub(crate) const PRE_VOTE: &str = "pre-vote";
    pub(crate) const SNAPSHOT: &str = "snapshot";
}

/// A snapshot on its way.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotCall {
    pub(crate) vote: VoteOf<TypeConfig>,
    pub(crate) meta: SnapshotMetaOf<TypeConfig>,
    pub(crate) bytes: Blob,
}

/// Makes clients.
pub struct Network(pub(crate) Sessions);

/// A client to one member.
pub struct Client {
    sessions: Sessions,
    cluster: String,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, _target: u64, node: &Node) -> Client {
        Client { sessions: self.0.clone(), cluster: node.cluster.clone() }
    }
}

impl Client {
    async fn call<A: DeserializeOwned>(
        &self,
        method: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        let bytes = serde_json::to_vec(body).map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        let answer = self.sessions.raft(&self.cluster, method, bytes, limit).await;
        let answer = answer.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
        serde_json::from_slice(&answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(method::APPEND, &rpc, option.hard_ttl()).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(method::VOTE, &rpc, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(method::PRE_VOTE, &rpc, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Vec<u8>>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let call = SnapshotCall { vote, meta: snapshot.meta, bytes: Blob(snapshot.snapshot) };
        Ok(self.call(method::SNAPSHOT, &call, SNAPSHOT_LIMIT).await?)
    }
}
