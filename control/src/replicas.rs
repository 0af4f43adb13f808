//! Replicas of one control. Each serves clients of its own and decides for itself; so that all decide alike, each tells the
//! others what its clients say, and whoever speaks for the cluster what it keeps for it.
//!
//! ```text
//! own clients ─► feed ─┬─► desk ◄── follower ◄── Follow ◄── the other replicas, each
//!                      └─► hub ──► service ──► Follow ──► the other replicas, each
//! ```
//! A follower's desk takes what another replica's client says as if it were its own's: a registration, a report, a refusal. A
//! client that moves from one replica to another is heard of by both, and which comes first does not matter: a registration counts
//! for who spoke for it last, and one that is lost stands for [`crate::registry::LOST_AFTER`]. When a replica dies its clients are
//! lost to the others until they come to one of them.
//!
//! What each believes leaves of the cluster by goes the same way, beside the Secret that all share ([`crate::keeping`]): a replica
//! whom the API server does not answer hears of a new authority all the same, and so do its clients.
//!
//! A replica that begins without any memory waits for another one's before it tells its clients anything, as it waits for the member.

mod follower;
pub mod hub;
pub mod service;
pub mod siblings;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{decider, failover, heard::World};

pub use hub::Hub;

/// All that a replica knows and decided: what one that begins goes on with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Of other clusters.
    pub decisions: decider::OnDisk,
    /// Verbs, shares, limits, history.
    pub failover: failover::OnDisk,
    /// What the other clusters say: the member that would tell it may be replaced at the same time.
    #[serde(default)]
    pub world: Option<Arc<World>>,
}

/// What whoever speaks keeps for the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deeds {
    /// What operators do here, and since when what others do is known.
    pub verbs: failover::verbs::OnDisk,
    /// When own policies were read first, Unix milliseconds, by `namespace/name`.
    pub born: BTreeMap<String, u64>,
}
