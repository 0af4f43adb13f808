//! What a member is told.

use std::{path::PathBuf, time::Duration};

use isthmus_runtime::config::Common;
use serde::{Deserialize, Serialize};

/// A member's whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What all roles have.
    pub common: Common,
    /// The file of the cluster's federation key.
    pub federation_key: PathBuf,
    /// `host:port` where other members reach this one: the own gateways' 15443. None: whoever bootstraps or joins it says.
    #[serde(default)]
    pub advertise: Vec<String>,
    /// Raft's clock.
    #[serde(default)]
    pub timing: Timing,
}

/// Raft's clock (DESIGN.md decision 14).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Between heartbeats, milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest election timeout, milliseconds.
    pub election_min_ms: u64,
    /// Longest election timeout, milliseconds.
    pub election_max_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat_ms: 500, election_min_ms: 3000, election_max_ms: 6000 }
    }
}

/// gRPC of members.
pub const PORT: u16 = 15050;
/// How members name their protocol, so that a gateway passes it through by this alone.
pub const ALPN: &[u8] = b"isthmus-member/1";
/// Statements wait so long for others before they go into the log together.
pub const BATCH: Duration = Duration::from_millis(200);
/// A write that has found no leader and no quorum in this time is refused.
pub const WRITE_LIMIT: Duration = Duration::from_secs(4);
