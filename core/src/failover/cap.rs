//! A limit that protects a cluster: divided among who wants something there by how much they want, and held by a token
//! bucket in each proxy. The capped cluster divides it among importers, an importer its part among its proxies.

use std::{collections::BTreeMap, time::Duration};

/// Divides a limit by demand, max-min fair: who wants less than an equal part gets what it wants, the others share what
/// is left equally. Of what is left then, who wants something gets as much as its demand may be more than it was counted;
/// what nobody wants is shared equally, so that a demand that begins finds something. Parts sum to the limit.
#[must_use]
pub fn divide<K: Ord + Clone>(limit: f64, demands: &BTreeMap<K, f64>) -> BTreeMap<K, f64> {
    let mut rest = limit.max(0.0);
    let mut parts: BTreeMap<K, f64> = demands.keys().map(|key| (key.clone(), 0.0)).collect();
    let wanted = |demand: f64| demand.max(0.0);
    // Requests that come at random in the seconds of a demand's smoothing are so many more or fewer.
    let doubt = |demand: f64| demand.max(0.0).sqrt();
    for wants in [&wanted as &dyn Fn(f64) -> f64, &doubt] {
        let mut order: Vec<(&K, f64)> = demands.iter().map(|(key, demand)| (key, wants(*demand))).collect();
        order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        let mut open = order.len();
        for (key, want) in order {
            let part = want.min(rest / open.max(1) as f64);
            rest -= part;
            open -= 1;
            parts.entry(key.clone()).and_modify(|sum| *sum += part);
        }
    }
    let more = rest.max(0.0) / parts.len().max(1) as f64;
    parts.values_mut().for_each(|part| *part += more);
    parts
}

/// A number that is said to others: what differs by less than a fiftieth stays as it was said, or noise would move it all the
/// time.
#[must_use]
pub fn calm(shown: Option<f64>, exact: f64) -> f64 {
    match shown {
        Some(shown) if (shown - exact).abs() <= shown.abs() * 0.02 => shown,
        _ => exact,
    }
}

/// Parts that are said to others: those that were shown stay as long as each is still within a fiftieth. They sum to what is
/// divided, so all of them move or none does.
#[must_use]
pub fn calm_parts<K: Ord + Clone>(shown: &BTreeMap<K, f64>, exact: BTreeMap<K, f64>) -> BTreeMap<K, f64> {
    let sum = |of: &BTreeMap<K, f64>| of.values().sum::<f64>();
    let holds = shown.len() == exact.len()
        && (sum(shown) - sum(&exact)).abs() <= sum(&exact) * 1e-9
        && exact.iter().all(|(key, part)| shown.get(key).is_some_and(|was| calm(Some(*was), *part) == *was));
    if holds { shown.clone() } else { exact }
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

/// A token bucket: so many requests a second, and at once at most what half a second gives: a tenth of five seconds. A
/// shallower one would lose a tenth of a small limit to the gaps between requests that come at random.
///
/// It is never shallower than two. A token that is nearly whole when a request comes is whole long before the next one, and
/// what it gains over one must be kept for that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    rate: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// With what a fifth of a second gives.
    #[must_use]
    pub fn new(now: Duration, rate: f64) -> Self {
        Self { rate, tokens: if rate > 0.0 { (rate / 5.0).max(1.0) } else { 0.0 }, at: now }
    }

    /// The rate from now on; what was saved stays.
    pub fn set_rate(&mut self, now: Duration, rate: f64) {
        self.fill(now);
        self.rate = rate;
        self.tokens = self.tokens.min(depth(rate));
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
        self.tokens = (self.tokens + passed * self.rate).min(depth(self.rate));
    }
}

fn depth(rate: f64) -> f64 {
    if rate > 0.0 { (rate / 2.0).max(2.0) } else { 0.0 }
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
        assert_eq!(divide(100.0, &demands(&[("a", 9.0), ("b", 36.0)])), demands(&[("a", 35.0), ("b", 65.0)]));
        assert_eq!(divide(40.0, &demands(&[("a", 36.0), ("idle", 0.0)])), demands(&[("a", 40.0), ("idle", 0.0)]));
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

    /// Requests that come evenly to one of six proxies, and those that pass, in ten seconds of which five are over.
    fn of_one_proxy(limit: f64, rate: f64) -> (f64, f64) {
        let (mut demand, mut bucket) = (Demand::default(), Bucket::new(Duration::ZERO, limit / 7.0));
        let (half, mut next, mut counts) = (Duration::from_millis(500), 0.0, (0.0, 0.0));
        for beat in 0..30u32 {
            let mut wanted = 0;
            while next < f64::from(beat + 1) / 2.0 {
                let passes = bucket.take(Duration::from_secs_f64(next));
                if beat >= 10 {
                    counts = (counts.0 + 1.0, counts.1 + f64::from(u8::from(passes)));
                }
                (wanted, next) = (wanted + 1, next + 1.0 / rate);
            }
            demand.reported(half * (beat + 1), wanted, half);
            let mut demands = demands(&[("1", 0.0), ("2", 0.0), ("3", 0.0), ("4", 0.0), ("5", 0.0)]);
            demands.insert("busy", demand.rate(half * (beat + 1)));
            bucket.set_rate(half * (beat + 1), divide(limit, &demands)["busy"]);
        }
        counts
    }

    #[test]
    fn one_busy_proxy_of_many_gets_a_small_limit_within_a_tenth() {
        for (limit, rate) in [(2.9, 3.0), (4.0, 5.0), (5.0, 12.0), (10.0, 10.0), (1.0, 1.1), (20.0, 18.0)] {
            let (came, passed) = of_one_proxy(limit, rate);
            let due = came.min(10.0 * limit);
            assert!((passed - due).abs() <= (0.1 * due).max(1.0), "{passed} of {came} at {limit}");
        }
    }

    /// How many of the requests that come between two moments pass, and how many came.
    fn passed(rate: f64, gaps: &mut dyn FnMut() -> f64, from: f64, to: f64) -> (f64, f64) {
        let (mut bucket, mut now) = (Bucket::new(Duration::ZERO, rate), gaps());
        let (mut taken, mut came) = (0.0, 0.0);
        while now < to {
            let passes = bucket.take(Duration::from_secs_f64(now));
            if now >= from {
                came += 1.0;
                taken += f64::from(u8::from(passes));
            }
            now += gaps();
        }
        (taken, came)
    }

    /// Gaps between requests that come at random, so many a second.
    fn at_random(seed: u64, demand: f64) -> impl FnMut() -> f64 {
        let mut dice = seed | 1;
        move || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let part = (dice >> 11) as f64 / (1u64 << 53) as f64;
            -(1.0 - part).ln() / demand
        }
    }

    proptest! {
        #[test]
        fn requests_that_come_evenly_get_a_limit_within_a_tenth_or_one_over_five_seconds(
            digits in -0.3f64..2.7, factor in 0.9f64..3.0, begin in 0u8..4,
        ) {
            let (rate, from) = (10f64.powf(digits), f64::from(begin) * 2.5);
            let (taken, came) = passed(rate, &mut || 1.0 / (rate * factor), from, from + 5.0);
            let due = came.min(5.0 * rate);
            // Of few, one that falls just outside the five seconds is more than a tenth.
            let (least, most) = ((due.floor() - 1.0).min(0.9 * due), (due.ceil() + 1.0).max(1.1 * due));
            prop_assert!(least <= taken && taken <= most, "{taken} of {came} at {rate}");
        }

        #[test]
        fn requests_that_come_at_random_get_a_limit_within_a_tenth_over_five_seconds(
            seed in any::<u64>(), rate in 40.0f64..500.0, factor in 0.9f64..3.0, begin in 0u8..4,
        ) {
            let from = f64::from(begin) * 2.5;
            let (taken, came) = passed(rate, &mut at_random(seed, rate * factor), from, from + 5.0);
            let due = came.min(5.0 * rate);
            prop_assert!((taken - due).abs() <= 0.1 * due + 1.0, "{taken} of {came} at {rate}");
        }

        #[test]
        fn a_tiny_limit_is_used_up_in_the_long_run_by_requests_that_come_at_random(
            seed in any::<u64>(), digits in -0.3f64..1.6, factor in 2.0f64..3.0,
        ) {
            // So many that chance is no excuse: five seconds hold too few of them.
            let rate = 10f64.powf(digits);
            let (taken, _) = passed(rate, &mut at_random(seed, rate * factor), 0.0, 1000.0 / rate);
            prop_assert!((taken - 1000.0).abs() <= 100.0, "{taken} of 1000 at {rate}");
        }

        #[test]
        fn parts_that_stay_and_parts_that_move_sum_to_the_limit(
            limit in 0.01f64..1e4, wants in proptest::collection::vec(proptest::collection::vec(0.0f64..50.0, 4), 1..12),
        ) {
            let mut shown = BTreeMap::new();
            for wants in wants {
                let wants: BTreeMap<_, _> = wants.into_iter().enumerate().collect();
                shown = calm_parts(&shown, divide(limit, &wants));
                prop_assert!((shown.values().sum::<f64>() - limit).abs() <= limit * 1e-6, "{shown:?} of {limit}");
            }
        }

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
