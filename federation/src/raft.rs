//! openraft's types as this mesh uses them.

pub mod log;
pub mod machine;
pub mod network;

use serde::{Deserialize, Serialize};

use crate::state::{Answer, Command};

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
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// A member's Raft.
pub type Raft = openraft::Raft<TypeConfig, machine::Machine>;
