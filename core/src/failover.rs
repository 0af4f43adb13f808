//! Where requests go when something is wrong, and why: what operators wrote, what is seen, what follows (DESIGN.md
//! decisions 25 to 27).
//!
//! ```text
//! policies, verbs ─► policy, verb: which binds ─► order: tiers of clusters ─┐
//! paths, leases ───► judge: left or not ────────────────────────────────────┼─► steering ─► shares ─► feed
//! requests ────────► window: errors, latency ─► breaker ────────────────────┘      └─ climb: calm up, fast down
//! demand ──────────► cap: who gets how much of a limit
//! ```
//! Everything here is pure: time is an argument, equal inputs give equal outputs. What must always hold of the whole, as
//! `properties` tests it: shares sum to one, a constraint is never violated, worse health never draws more traffic, noise under
//! the hysteresis moves nothing.
//!
//! | module | idea |
//! | --- | --- |
//! | [`judge`] | whether another cluster is dead, blind, cut off or fine |
//! | [`policy`] | FailoverPolicy, and which of several binds a service |
//! | [`selector`] | selectors over labels and cluster properties (KEP-5939) |
//! | [`verb`] | drain, evacuate, pin, drill: what operators do for a while |
//! | [`order`] | the tiers of a service for one importing cluster |
//! | [`window`] | what requests showed in the last seconds |
//! | [`breaker`] | errors and latency that leave a cluster, with hysteresis |
//! | [`climb`] | a share that falls at once and rises along a ramp |
//! | [`steering`] | all of it for one service: shares, why, since when, what next |
//! | [`shares`] | shares to parts of all requests |
//! | [`cap`] | a limit divided by demand, and the bucket that holds it |
//! | [`drill`] | when a drill stops by itself |

pub mod breaker;
pub mod cap;
pub mod climb;
pub mod drill;
pub mod judge;
pub mod order;
pub mod policy;
#[cfg(test)]
mod properties;
pub mod selector;
pub mod shares;
pub mod steering;
pub mod verb;
pub mod window;

pub use judge::{BEAT, Decision, Judge, LEASE_LOST_AFTER, LEAVE_AFTER, Path, RAMP, STABLE, ramp};
