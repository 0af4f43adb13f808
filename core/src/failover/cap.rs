//! A limit that protects a cluster: divided among who wants something there by how much they want, and held by a token
//! bucket in each proxy. The capped cluster divides it among importers, an importer its part among its proxies.

use std::{collections::BTreeMap, time::Duration};

/// Divides a limit by demand, max-min fair: who wants less than an equal part gets what it wants, the others share what
/// is left equally. What nobody wants is shared equally too, so that a demand that begins finds something. Parts sum to
/// the limit.
#[must_use]
pub fn divide<K: Ord + Clone>(limit: f64, demands: &BTreeMap<K, f64>) -> BTreeMap<K, f64> {
    let mut parts: BTreeMap<K, f64> = BTreeMap::new();
    let mut order: Vec<(&K, f64)> = demands.iter().map(|(key, demand)| (key, demand.max(0.0))).collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut rest = limit.max(0.0);
    let mut open = order.len();
    for (key, demand) in order {
        let part = demand.min(rest / open.max(1) as f64);
        rest -= part;
        open -= 1;
        parts.insert(key.clone(), part);
    }
    let more = rest.max(0.0) / parts.len().max(1) as f64;
    parts.values_mut().for_each(|part| *part += more);
    parts
}

/// A part that is said to others: two significant digits less noise would move it all the time.
#[must_use]
pub fn calm(shown: Option<f64>, exact: f64) -> f64 {
    match shown {
        Some(shown) if (shown - exact).abs() <= shown.abs() * 0.02 => shown,
        _ => exact,
    }
}

/// A demand, smoothed over about two seconds of reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    rate: f64,
    at: Option<Duration>,
}

impl Demand {
    /// So many were wanted since the last report.
    pub fn reported(&mut self, now: Duration, wanted: u64, since: Duration) {
        let seconds = since.as_secs_f64().max(0.05);
        let weight = 1.0 - (-seconds / 2.0).exp();
        let seen = wanted as f64 / seconds;
        self.rate = if self.at.is_none() { seen } else { self.rate + (seen - self.rate) * weight };
        self.at = Some(now);
    }

    /// Requests a second; what is not reported any more is wanted no more.
    #[must_use]
    pub fn rate(&self, now: Duration) -> f64 {
        let fresh = self.at.is_some_and(|at| now.saturating_sub(at) < Duration::from_secs(5));
        if fresh { self.rate } else { 0.0 }
    }
}

/// A token bucket: so many requests a second, and at once at most what a fifth of a second gives. A shallower one would
/// lose a tenth of a small limit to the gaps between requests that come at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    rate: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// Full.
    #[must_use]
    pub fn new(now: Duration, rate: f64) -> Self {
        Self { rate, tokens: burst(rate), at: now }
    }

    /// The rate from now on; what was saved stays.
    pub fn set_rate(&mut self, now: Duration, rate: f64) {
        self.fill(now);
        self.rate = rate;
        self.tokens = self.tokens.min(burst(rate));
    }

    /// Takes one; `false`: there is none.
    pub fn take(&mut self, now: Duration) -> bool {
        self.fill(now);
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.rate).min(burst(self.rate));
    }
}

fn burst(rate: f64) -> f64 {
    if rate > 0.0 { (rate / 5.0).max(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demands(of: &[(&'static str, f64)]) -> BTreeMap<&'static str, f64> {
        of.iter().copied().collect()
    }

    #[test]
    fn who_wants_little_gets_it_and_the_rest_is_shared_equally() {
        assert_eq!(
            divide(100.0, &demands(&[("a", 10.0), ("b", 500.0), ("c", 60.0)])),
            demands(&[("a", 10.0), ("b", 45.0), ("c", 45.0)])
        );
        assert_eq!(
            divide(90.0, &demands(&[("a", 0.0), ("b", 0.0), ("c", 0.0)])),
            demands(&[("a", 30.0), ("b", 30.0), ("c", 30.0)])
        );
        assert_eq!(divide(100.0, &demands(&[("a", 10.0), ("b", 30.0)])), demands(&[("a", 40.0), ("b", 60.0)]));
        assert!(divide(100.0, &demands(&[])).is_empty());
    }

    #[test]
    fn a_bucket_gives_its_rate_within_a_tenth_over_five_seconds() {
        for rate in [3.0, 40.0, 1000.0] {
            let mut bucket = Bucket::new(Duration::ZERO, rate);
            let taken = (0..20_000u32).filter(|tick| bucket.take(Duration::from_micros(250) * *tick)).count() as f64;
            assert!((taken - 5.0 * rate).abs() <= 0.5 * rate, "{taken} at {rate}");
        }
        assert!(!Bucket::new(Duration::ZERO, 0.0).take(Duration::from_secs(9)), "nothing is nothing");
    }

    #[test]
    fn a_demand_is_known_within_seconds_and_forgotten_when_nobody_reports_it() {
        let (mut demand, half) = (Demand::default(), Duration::from_millis(500));
        (1..=20).for_each(|beat| demand.reported(half * beat, 50, half));
        assert!((demand.rate(half * 20) - 100.0).abs() < 1.0);
        (21..=40).for_each(|beat| demand.reported(half * beat, 100, half));
        assert!((demand.rate(half * 40) - 200.0).abs() < 2.0);
        assert!(demand.rate(half * 40 + Duration::from_secs(5)).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn a_small_limit_is_used_up_by_requests_that_come_at_random(seed in any::<u64>()) {
            // A hundred requests a second, of which a little over half are to go here, and thirty may.
            let (mut dice, mut bucket) = (seed | 1, Bucket::new(Duration::ZERO, 30.0));
            let mut comes = || {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice % 1000 < 524
            };
            let taken = (0..500u32).filter(|tick| comes() && bucket.take(Duration::from_millis(10) * *tick)).count();
            prop_assert!((135..=165).contains(&taken), "{taken} of 150");
        }

        #[test]
        fn parts_sum_to_the_limit_and_nobody_who_wants_more_gets_less(
            limit in 0.0f64..1e6, wants in proptest::collection::btree_map(0u8..20, 0.0f64..1e6, 1..8),
        ) {
            let parts = divide(limit, &wants);
            prop_assert!((parts.values().sum::<f64>() - limit).abs() < 1e-3);
            for (a, want) in &wants {
                for (b, other) in &wants {
                    prop_assert!(want > other || parts[a] <= parts[b] + 1e-6);
                }
            }
        }
    }
}
