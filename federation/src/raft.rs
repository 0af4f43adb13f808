//! openraft's types as this mesh uses them.

pub mod log;
pub mod machine;
pub mod network;

use std::sync::Arc;

use openraft::{Entry, EntryPayload, RaftTypeConfig, SnapshotPolicy, impls::Vote, vote::RaftLeaderId};
use serde::{Deserialize, Serialize};

use crate::{
    config::Timing,
    error::Error,
    state::{Answer, Command},
};

/// Log entries between snapshots.
const SNAPSHOT_EVERY: u64 = 2000;

/// A member as Raft's membership names it: by its cluster. How it is reached is no matter of Raft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The cluster.
    pub cluster: String,
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.cluster)
    }
}

openraft::declare_raft_types!(
    /// The types.
    pub TypeConfig:
        D = Command,
        R = Answer,
        Node = Node,
        // One leader a term: what people and the simulation expect of Raft.
        LeaderId = LeaderId,
);

/// Who leads in which term.
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;

/// A log entry.
type LogEntry = Entry<<LeaderId as RaftLeaderId>::Committed, EntryPayload<Command, u64, Node>>;

/// Every type config of this mesh: all of it is fixed but the runtime, so that the stores and the calls which run on
/// Tokio in production are the very ones that the simulation runs in virtual time.
pub trait Types:
    RaftTypeConfig<
        D = Command,
        R = Answer,
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = LeaderId,
        Vote = Vote<LeaderId>,
        Payload = EntryPayload<Command, u64, Node>,
        Entry = LogEntry,
    >
{
}

impl<C> Types for C where
    C: RaftTypeConfig<
            D = Command,
            R = Answer,
            NodeId = u64,
            Node = Node,
            Term = u64,
            LeaderId = LeaderId,
            Vote = Vote<LeaderId>,
            Payload = EntryPayload<Command, u64, Node>,
            Entry = LogEntry,
        >
{
}

/// Raft's settings of a member.
///
/// # Errors
/// When the times do not fit together.
pub fn settings(mesh: &str, timing: Timing) -> Result<Arc<openraft::Config>, Error> {
    let config = openraft::Config {
        cluster_name: mesh.to_owned(),
        heartbeat_interval: timing.heartbeat_ms,
        election_timeout_min: timing.election_min_ms,
        election_timeout_max: timing.election_max_ms,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| Error::Raft(error.to_string()))
}

/// A member's Raft.
pub type Raft = openraft::Raft<TypeConfig, machine::Machine>;
