//! When a tier is left: too few healthy endpoints, requests that fail, answers that take long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{failover::window::SLOWEST_TOLD, resource::duration};

/// When a tier is left, in part or wholly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Leave {
    /// The trigger part, above 0 to 1: a tier's share is min(1, healthy part ÷ this), the rest goes on to the next.
    pub healthy_share: f64,
    /// With fewer healthy endpoints than this a cluster gets nothing.
    pub healthy_at_least: u32,
    /// Leaves a cluster whose requests fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<ErrorRate>,
    /// Leaves a cluster that answers slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

impl Default for Leave {
    /// Envoy's overprovisioning factor of 1.4, turned round; nothing else leaves unless the policy says so.
    fn default() -> Self {
        Self { healthy_share: 0.7, healthy_at_least: 0, error_rate: None, latency: None }
    }
}

/// Failed requests of all, over a window: those without an answer, with a 5xx, or with a status of gRPC that means as much.
/// Fewer than [`crate::failover::breaker::LEAST_REQUESTS`] in it prove nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ErrorRate {
    /// Above this part, 0 to 1, the cluster is left.
    pub above: f64,
    /// Only below this part does its share rise again; half of `above` when not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// The window.
    #[serde(default = "window", with = "duration::text")]
    pub over: Duration,
}

/// A percentile of the time to the answer's head, over a window. Times are counted in buckets
/// ([`crate::failover::window::BOUNDS_MS`]): `above` holds when all of the percentile's bucket is above it, `below` when all of
/// it is below. Fewer than [`crate::failover::breaker::LEAST_REQUESTS`] in the window prove nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Latency {
    /// Above this the cluster is left.
    #[serde(with = "duration::text")]
    pub above: Duration,
    /// Only below this does its share rise again; half of `above` when not written.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional_text")]
    pub below: Option<Duration>,
    /// Which percentile, above 0 to 100.
    #[serde(default = "percentile")]
    pub percentile: f64,
    /// The window.
    #[serde(default = "window", with = "duration::text")]
    pub over: Duration,
}

pub(super) fn window() -> Duration {
    Duration::from_secs(10)
}

fn percentile() -> f64 {
    90.0
}

/// The longest window.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(300);

impl Leave {
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = vec![];
        let mut fault = |field: &str, reason: String| faults.push((format!("spec.leave.{field}"), reason));
        if !is_part(self.healthy_share) {
            fault("healthyShare", format!("{} is no part; write a number above 0, at most 1", self.healthy_share));
        }
        if let Some(rate) = &self.error_rate {
            if !is_part(rate.above) {
                fault("errorRate.above", format!("{} is no part; write a number above 0, at most 1", rate.above));
            }
            if rate.below.is_some_and(|below| !(0.0..=rate.above).contains(&below)) {
                fault("errorRate.below", "it must not be above `above`, or nothing would ever return".into());
            }
            if !is_window(rate.over) {
                fault("errorRate.over", "a window is 1s to 5m".into());
            }
        }
        if let Some(latency) = &self.latency {
            if latency.above.is_zero() || latency.below.is_some_and(|below| below > latency.above) {
                fault("latency.below", "it must not be above `above`, and `above` not 0".into());
            }
            if latency.above > SLOWEST_TOLD {
                fault("latency.above", "times beyond 10s are not told apart; write 10s or less".into());
            }
            if !(latency.percentile > 0.0 && latency.percentile <= 100.0) {
                fault("latency.percentile", format!("{} is no percentile", latency.percentile));
            }
            if !is_window(latency.over) {
                fault("latency.over", "a window is 1s to 5m".into());
            }
        }
        faults
    }
}

fn is_window(over: Duration) -> bool {
    over >= Duration::from_secs(1) && over <= LONGEST_WINDOW
}

fn is_part(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}
