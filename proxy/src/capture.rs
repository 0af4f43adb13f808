//! What of a pod's traffic goes by its sidecar, and the rules that lead it there: pure, from a setting to text.
//!
//! ```text
//!  Capture ─► rules ─┬─► nft        `nft -f -`
//!                    └─► iptables   `iptables-restore --noflush`, where the kernel has no nf_tables
//! ```
//! Both texts are written from one list of rules, so they cannot disagree. Leaving is always left alone: the sidecar's own
//! user, loopback (calls to oneself included). Coming in is always left alone: the sidecar's own ports.
//!
//! | module | idea |
//! | --- | --- |
//! | `setting` | what is captured, in the words of Istio's annotations |
//! | `rules` | the rules, first match wins |
//! | `nft`, `iptables` | the same as text |

mod iptables;
mod nft;
mod rules;
mod setting;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use self::{
    iptables::{Family, JUMPS, Tables, text as iptables},
    nft::{TABLE, text as nft},
    setting::{Capture, Interface, Invalid, Mode, Ports, Ranges, list},
};

/// Where connections of the application are taken.
pub const OUTBOUND: u16 = 15001;
/// Where connections to the application are taken.
pub const INBOUND: u16 = 15006;
/// Where the application's questions to DNS are taken.
pub const DNS: u16 = 15053;
/// The user and the group of the sidecar, and the mark of what it sends in a client's name.
pub const SIDECAR: u32 = 1337;
/// From where a sidecar dials its application in IPv4.
pub const APPLICATION_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// The same in IPv6; unlike 127.0.0.0/8 it must be put on `lo` first.
pub const APPLICATION_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
/// The routing table by which answers to what was sent in a client's name come back.
pub const ROUTES: u32 = 133;
