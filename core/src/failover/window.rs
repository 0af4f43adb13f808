//! What requests to one cluster showed in the last seconds: how many, how many failed, how fast.

use std::{collections::VecDeque, time::Duration};

use super::policy::LONGEST_WINDOW;

/// Upper bounds of latency buckets, milliseconds; what is slower is in a last bucket of its own.
pub const BOUNDS_MS: [u64; 24] =
    [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 7000, 10_000];
/// Times up to this are not told apart.
pub const FASTEST_TOLD: Duration = Duration::from_millis(1);
/// Times beyond this are not told apart.
pub const SLOWEST_TOLD: Duration = Duration::from_secs(10);
/// Buckets, with the one for what is slower than all bounds.
pub const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed: no answer, 5xx, or a status of gRPC that means 5xx ([`is_grpc_failure`]).
    pub errors: u64,
    /// Tries that a limit kept back; they are no requests, and may have gone on to the next tier.
    pub limited: u64,
    /// By time to the answer's head.
    pub latency: [u64; BUCKETS],
}

/// The bucket of a time to the answer's head.
#[must_use]
pub fn bucket(took: Duration) -> usize {
    let millis = u64::try_from(took.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    BOUNDS_MS.partition_point(|bound| *bound < millis)
}

/// Whether a status of gRPC says that the server failed: those that mean 5xx in HTTP (`google/rpc/code.proto`), as Envoy's
/// outlier detection has it. UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
#[must_use]
pub fn is_grpc_failure(status: &str) -> bool {
    matches!(status, "2" | "4" | "12" | "13" | "14" | "15")
}

impl Tally {
    /// Counts one request.
    pub fn count(&mut self, failed: bool, took: Duration) {
        self.requests = self.requests.saturating_add(1);
        self.errors = self.errors.saturating_add(u64::from(failed));
        if let Some(count) = self.latency.get_mut(bucket(took)) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.limited = self.limited.saturating_add(other.limited);
        for (sum, more) in self.latency.iter_mut().zip(other.latency) {
            *sum = sum.saturating_add(more);
        }
    }

    /// The part that failed, 0 to 1; 0 of none.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors.min(self.requests) as f64 / self.requests as f64 }
    }

    /// The upper bound of the bucket that this percentile is in; `None`: nothing was counted. Of what is slower than all
    /// bounds twice the last.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> Option<Duration> {
        let (_, upper) = self.percentile_within(percentile)?;
        Some(upper.unwrap_or(2 * SLOWEST_TOLD))
    }

    /// What this percentile is above, and what it is at most: the bounds of its bucket. No upper one of what is slower than
    /// all; `None`: nothing was counted.
    #[must_use]
    pub fn percentile_within(&self, percentile: f64) -> Option<(Duration, Option<Duration>)> {
        let all: u64 = self.latency.iter().fold(0, |sum, count| sum.saturating_add(*count));
        let wanted = (all as f64 * percentile / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0u64;
        let place = self.latency.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= wanted
        })?;
        let bound = |place: usize| BOUNDS_MS.get(place).copied().map(Duration::from_millis);
        Some((place.checked_sub(1).and_then(bound).unwrap_or_default(), bound(place)))
    }
}

/// Tallies by second, as far back as the longest window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    seconds: VecDeque<(u64, Tally)>,
}

impl Window {
    /// Takes what was counted up to `now`.
    pub fn add(&mut self, now: Duration, tally: &Tally) {
        let second = now.as_secs();
        match self.seconds.back_mut() {
            Some((at, sum)) if *at >= second => sum.add(tally),
            _ => self.seconds.push_back((second, *tally)),
        }
        let oldest = second.saturating_sub(LONGEST_WINDOW.as_secs());
        while self.seconds.front().is_some_and(|(at, _)| *at < oldest) {
            self.seconds.pop_front();
        }
    }

    /// The sum of the last `over` up to `now`, of what came at or after `from`.
    #[must_use]
    pub fn sum(&self, now: Duration, over: Duration, from: Duration) -> Tally {
        // Seconds that began after the window did.
        let first = (now.as_secs() + 1).saturating_sub(over.as_secs()).max(from.as_secs());
        let mut sum = Tally::default();
        for (_, tally) in self.seconds.iter().rev().take_while(|(at, _)| *at >= first) {
            sum.add(tally);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn percentiles_are_the_bounds_of_their_buckets() {
        let mut tally = Tally::default();
        assert_eq!(tally.percentile(50.0), None);
        (0..90).for_each(|_| tally.count(false, Duration::from_micros(4_200)));
        (0..10).for_each(|_| tally.count(true, Duration::from_secs(60)));
        assert_eq!(tally.percentile(90.0), Some(Duration::from_millis(5)));
        assert_eq!(tally.percentile(90.1), Some(Duration::from_secs(20)));
        let millis = Duration::from_millis;
        assert_eq!(tally.percentile_within(90.0), Some((millis(3), Some(millis(5)))));
        assert_eq!(tally.percentile_within(90.1), Some((SLOWEST_TOLD, None)));
        assert_eq!([BOUNDS_MS[0], BOUNDS_MS[23]].map(millis), [FASTEST_TOLD, SLOWEST_TOLD]);
        assert!((tally.error_rate() - 0.1).abs() < 1e-9);
        assert_eq!([0, 1_000, 1_001, 10_000_000].map(|us| bucket(Duration::from_micros(us))), [0, 0, 1, 23]);
    }

    #[test]
    fn a_sum_is_of_the_last_seconds_and_of_nothing_before_a_moment() {
        let (mut window, mut one) = (Window::default(), Tally::default());
        one.count(false, Duration::ZERO);
        (1..=400).for_each(|second| window.add(at(second), &one));
        assert_eq!(window.sum(at(400), at(10), Duration::ZERO).requests, 10);
        assert_eq!(window.sum(at(400), at(10), at(397)).requests, 4);
        assert_eq!(window.sum(at(420), at(10), Duration::ZERO).requests, 0);
        assert!(window.seconds.len() <= 301, "what no window reaches is forgotten");
    }
}
