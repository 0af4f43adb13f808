//! What a gateway is told.

use std::time::Duration;

use isthmus_runtime::config::Common;
use serde::{Deserialize, Serialize};

/// The configuration file of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every role is told.
    pub common: Common,
    /// The own control, `host:15012`.
    pub control: String,
    /// The own federation member, `host:15050`: connections of other members are passed to it unread.
    pub member: String,
    /// Whether packets are handed to the kernel in batches (GSO); off where what is below mangles them.
    #[serde(default = "offload")]
    pub segmentation_offload: bool,
    /// Seconds from the beginning of a drain until streams that are still open are closed.
    #[serde(default = "drain_deadline_seconds")]
    pub drain_deadline_seconds: u32,
}

/// Kubernetes kills a pod 30 s after it was asked to end, unless told otherwise: the rest is left to close what is open
/// and to say how much that was.
pub const DRAIN_DEADLINE_SECONDS: u32 = 25;

fn drain_deadline_seconds() -> u32 {
    DRAIN_DEADLINE_SECONDS
}

impl Config {
    /// Streams of opaque bytes live so long once the drain began.
    #[must_use]
    pub fn drain_deadline(&self) -> Duration {
        Duration::from_secs(self.drain_deadline_seconds.into())
    }
}

/// On: it halves the cost of bulk, and quinn stops using it by itself where the kernel refuses.
fn offload() -> bool {
    true
}
