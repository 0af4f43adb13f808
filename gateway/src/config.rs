//! What a gateway is told.

use std::net::SocketAddr;

use isthmus_runtime::config::Common;
use serde::{Deserialize, Serialize};

/// The configuration file of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every role is told.
    pub common: Common,
    /// The own control, 15012.
    pub control: SocketAddr,
    /// The own federation member, 15050: connections of other members are passed to it unread.
    pub member: SocketAddr,
    /// Whether packets are handed to the kernel in batches (GSO); off where what is below mangles them.
    #[serde(default = "offload")]
    pub segmentation_offload: bool,
}

/// On: it halves the cost of bulk, and quinn stops using it by itself where the kernel refuses.
fn offload() -> bool {
    true
}
