//! Errors and latency that leave a cluster: above a limit it is left, only below a lower one may its share rise again.
//!
//! What was left can show nothing, so it is tried again after a while, along the ramp; each further time within five
//! minutes waits twice as long. A verdict ends with the limit it is from.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    policy::{Failback, Leave},
    window::{FASTEST_TOLD, Tally, Window},
};
use crate::resource::duration::written;

/// Fewer requests in a window prove nothing.
pub const LEAST_REQUESTS: u64 = 20;
/// A further time within so long waits twice as long.
const AGAIN: Duration = Duration::from_secs(300);
/// The longest wait, where the policy names no longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What requests show of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing against it.
    Fine,
    /// Neither good nor bad enough: its share stays. Why.
    Hold(String),
    /// It is left. Why.
    Leave(String),
}

/// Which limit of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Limit {
    ErrorRate,
    Latency,
}

impl Limit {
    /// Its window; `None`: the policy does not set it.
    fn over(self, leave: &Leave) -> Option<Duration> {
        match self {
            Self::ErrorRate => leave.error_rate.as_ref().map(|rate| rate.over),
            Self::Latency => leave.latency.as_ref().map(|latency| latency.over),
        }
    }
}

/// What a limit has against a cluster.
#[derive(Clone, Debug, PartialEq)]
struct Against {
    limit: Limit,
    why: String,
    until: Duration,
}

/// One cluster's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Breaker {
    left: Option<Against>,
    /// What holds its share: as long as too few requests come to say otherwise, at most for a window.
    held: Option<Against>,
    /// Only what came after this counts.
    from: Duration,
    /// A further time before this waits twice as long.
    again_until: Duration,
    times: u32,
}

/// What is kept over a restart: how long everything still lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<KeptAgainst>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<KeptAgainst>,
    again_seconds: u64,
    times: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptAgainst {
    limit: Limit,
    why: String,
    seconds: u64,
}

enum Reading {
    Few,
    Below,
    Between(String),
    Above(String),
}

impl Breaker {
    /// As an earlier run kept it.
    #[must_use]
    pub fn restored(now: Duration, kept: Kept) -> Self {
        let end = |seconds| now.saturating_add(Duration::from_secs(seconds));
        let against = |kept: KeptAgainst| Against { limit: kept.limit, why: kept.why, until: end(kept.seconds) };
        Self {
            left: kept.left.map(against),
            held: kept.held.map(against),
            from: Duration::ZERO,
            again_until: end(kept.again_seconds),
            times: kept.times,
        }
    }

    /// What to keep for the next run. In whole seconds and tens of them, so that it is not written anew all the time.
    #[must_use]
    pub fn kept(&self, now: Duration) -> Kept {
        let seconds = |until: Duration| until.saturating_sub(now).as_millis().div_ceil(1000) as u64;
        let against =
            |one: &Against| KeptAgainst { limit: one.limit, why: one.why.clone(), seconds: seconds(one.until) };
        let again_seconds = seconds(self.again_until).next_multiple_of(10);
        let times = if again_seconds == 0 { 0 } else { self.times };
        Kept { left: self.left.as_ref().map(against), held: self.held.as_ref().map(against), again_seconds, times }
    }

    /// Judges what the window shows.
    pub fn judge(&mut self, now: Duration, window: &Window, leave: &Leave, failback: &Failback) -> Verdict {
        if let Some(left) = self.left.take() {
            if now < left.until && left.limit.over(leave).is_some() {
                let verdict = Verdict::Leave(left.why.clone());
                self.left = Some(left);
                return verdict;
            }
            // The second it is in has still something of before.
            self.from = now + Duration::from_secs(1);
            self.held = None;
        }
        let mut held = None;
        for limit in [Limit::ErrorRate, Limit::Latency] {
            let Some(over) = limit.over(leave) else { continue };
            match self.read(limit, now, window, leave) {
                Reading::Above(why) => return self.trip(now, limit, why, failback),
                Reading::Between(why) => held = Some(Against { limit, why, until: now + over }),
                Reading::Few => held = held.or(self.held.take_if(|held| held.limit == limit && now < held.until)),
                Reading::Below => {}
            }
        }
        self.held = held;
        self.held.as_ref().map_or(Verdict::Fine, |held| Verdict::Hold(held.why.clone()))
    }

    /// When a cluster that was left is tried again.
    #[must_use]
    pub fn tried_again_in(&self, now: Duration) -> Option<Duration> {
        self.left.as_ref().map(|left| left.until.saturating_sub(now))
    }

    /// That a limit cannot be held against it, because too few requests came.
    #[must_use]
    pub fn doubt(&self, now: Duration, window: &Window, leave: &Leave) -> Option<String> {
        let over = [Limit::ErrorRate, Limit::Latency].into_iter().find_map(|limit| limit.over(leave))?;
        let came = window.sum(now, over, self.from).requests;
        let few = came > 0 && came < LEAST_REQUESTS;
        few.then(|| format!("too few requests to judge: {came} of {LEAST_REQUESTS} in {}", written(over)))
    }

    fn trip(&mut self, now: Duration, limit: Limit, why: String, failback: &Failback) -> Verdict {
        self.times = if now < self.again_until { self.times.saturating_add(1) } else { 0 };
        let after = failback.after.max(super::STABLE);
        let until = now + after.saturating_mul(1 << self.times.min(10)).min(LONGEST_WAIT.max(after));
        self.again_until = until + AGAIN;
        self.held = None;
        self.left = Some(Against { limit, why: why.clone(), until });
        Verdict::Leave(why)
    }

    fn read(&self, limit: Limit, now: Duration, window: &Window, leave: &Leave) -> Reading {
        let tally = limit.over(leave).map(|over| window.sum(now, over, self.from)).unwrap_or_default();
        if tally.requests < LEAST_REQUESTS {
            return Reading::Few;
        }
        match limit {
            Limit::ErrorRate => errors(&tally, leave),
            Limit::Latency => latency(&tally, leave),
        }
    }
}

fn errors(tally: &Tally, leave: &Leave) -> Reading {
    let Some(rate) = &leave.error_rate else { return Reading::Below };
    let (seen, below) = (tally.error_rate(), rate.below.unwrap_or(rate.above / 2.0));
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    if seen > rate.above {
        Reading::Above(format!("{} of its requests fail, more than {}", percent(seen), percent(rate.above)))
    } else if seen > below {
        Reading::Between(format!("{} of its requests fail, not yet less than {}", percent(seen), percent(below)))
    } else {
        Reading::Below
    }
}

/// Times are counted in buckets, so a percentile is known to be between two bounds. It is above a limit when all between
/// them is, and no more above it when nothing between them is.
fn latency(tally: &Tally, leave: &Leave) -> Reading {
    let Some(limit) = &leave.latency else { return Reading::Below };
    let Some((more_than, at_most)) = tally.percentile_within(limit.percentile) else { return Reading::Below };
    let below = limit.below.unwrap_or(limit.above / 2).max(FASTEST_TOLD);
    let to = at_most.map_or("more".into(), |at_most| format!("{at_most:?}"));
    let seen = format!("its p{} is {more_than:?} to {to}", limit.percentile);
    if more_than >= limit.above {
        Reading::Above(format!("{seen}, above {:?}", limit.above))
    } else if at_most.is_none_or(|at_most| at_most > below) {
        Reading::Between(format!("{seen}, not yet below {below:?}"))
    } else {
        Reading::Below
    }
}

#[cfg(test)]
mod tests;
