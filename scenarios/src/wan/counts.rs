//! What became of packets: each is counted once, by why it did not arrive if it did not.

use serde::{Deserialize, Serialize};

use super::link::Reason;

/// What became of the packets of one direction since the network was raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Arrived: handed to the device of the other end.
    pub passed: u64,
    /// Bytes of those.
    pub passed_bytes: u64,
    /// On their way now, or waiting for the rate.
    pub under_way: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub queue_full: u64,
    /// Dropped because the link was cut.
    pub cut: u64,
    /// Dropped because UDP was blocked or throttled.
    pub udp: u64,
    /// Dropped because of the MTU.
    pub too_large: u64,
    /// Dropped because the router had too many under way, all links together.
    #[serde(default)]
    pub overrun: u64,
    /// Dropped because the port they went to is none that a cluster shows to others.
    #[serde(default)]
    pub closed: u64,
    /// Dropped because they had the address of another cluster than they came from.
    #[serde(default)]
    pub foreign: u64,
    /// Come to the end of their way, where no device took them.
    #[serde(default)]
    pub untaken: u64,
}

impl Counts {
    /// The count of those that were dropped for this.
    pub(super) fn dropped(&mut self, why: Reason) -> &mut u64 {
        match why {
            Reason::Lost => &mut self.lost,
            Reason::QueueFull => &mut self.queue_full,
            Reason::Cut => &mut self.cut,
            Reason::Udp => &mut self.udp,
            Reason::TooLarge => &mut self.too_large,
            Reason::Overrun => &mut self.overrun,
            Reason::Closed => &mut self.closed,
            Reason::Foreign => &mut self.foreign,
        }
    }
}
