//! When a drill stops by itself: each cluster compares what requests to each service show during the drill with what they
//! showed before it, and gives up for itself when more of them fail.
//!
//! The rule. More fail now than before by more than `RISE`, and so many failures among so many requests would come by
//! chance in fewer than one of a hundred thousand looks, if requests failed as before. How they failed before is known as
//! well as the requests before tell: the chance is the beta-binomial's, with an even prior. Where fewer than `ASSUMED` came
//! and none failed, as many are taken to have succeeded: who was hardly called is taken to work. So four failures of four
//! stop a drill of a service that answered, noise of the rate of before does not, and it is no matter how many requests a
//! second there are: what came since the drill began is looked at so far back as each of [`WINDOWS`].

use std::{f64::consts::PI, time::Duration};

use serde::{Deserialize, Serialize};

/// What was before is looked at so far back.
pub const BEFORE: Duration = Duration::from_secs(30);
/// What is now, so far back each, and never to before the drill: short ones find a sudden rise, long ones a rise among few
/// requests.
pub const WINDOWS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_secs(80),
    Duration::from_secs(160),
    Duration::from_secs(300),
];
/// So much more of them may fail.
const RISE: f64 = 0.02;
/// So many at least are taken to have succeeded before, where none failed.
const ASSUMED: f64 = 50.0;
/// What comes by chance less often than this is none.
const CHANCE: f64 = 1e-5;
/// Of more requests the rate is taken, as of so many: that proves less, and enough.
const MOST: f64 = 10_000.0;

/// What requests to a service showed. A request that was refused, for want of a place or by a limit, is one that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// All of them.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
}

impl Shown {
    /// The part that failed, 0 to 1; 0 of none.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failed.min(self.requests) as f64 / self.requests as f64 }
    }

    /// All of them and those that failed, of `MOST` where there are more.
    fn at_most(&self) -> (f64, f64) {
        let scale = (MOST / self.requests.max(1) as f64).min(1.0);
        let (requests, failed) = (self.requests as f64, self.failed.min(self.requests) as f64);
        ((requests * scale).floor(), (failed * scale).floor())
    }
}

/// Whether more fail now than before, and not by chance.
#[must_use]
pub fn rose(before: &Shown, now: &Shown) -> bool {
    now.error_rate() > before.error_rate() + RISE && is_no_chance(before, now)
}

/// Why a drill must stop, by what each of the windows shows; `None`: it may go on.
#[must_use]
pub fn stops(before: &Shown, windows: impl IntoIterator<Item = Shown>) -> Option<String> {
    let now = windows.into_iter().find(|now| rose(before, now))?;
    let percent = |shown: &Shown| format!("{:.1} %", shown.error_rate() * 100.0);
    let (of, was) = (percent(&now), percent(before));
    Some(format!("{of} of requests fail, {was} before the drill ({} of {})", now.failed, now.requests))
}

/// Whether so many failures or more of so many requests come less often than [`CHANCE`].
fn is_no_chance(before: &Shown, now: &Shown) -> bool {
    let (requests_before, failed_before) = before.at_most();
    let least = if before.failed == 0 { ASSUMED } else { 0.0 };
    let (bad, good) = (failed_before + 1.0, (requests_before - failed_before).max(least) + 1.0);
    let (requests, mut failed) = now.at_most();
    let ways = ln_gamma(requests + 1.0) - ln_gamma(failed + 1.0) - ln_gamma(requests - failed + 1.0);
    let mut term = (ways + ln_beta(failed + bad, requests - failed + good) - ln_beta(bad, good)).exp();
    let mut chance = term;
    while failed < requests && chance < CHANCE && term > chance * 1e-9 {
        term *= (requests - failed) / (failed + 1.0) * (bad + failed) / (good + requests - failed - 1.0);
        chance += term;
        failed += 1.0;
    }
    chance < CHANCE
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// By Stirling's series, which is good to ten digits from ten on (Abramowitz and Stegun, 6.1.41).
fn ln_gamma(of: f64) -> f64 {
    let (mut x, mut below) = (of, 0.0);
    while x < 10.0 {
        below += x.ln();
        x += 1.0;
    }
    let rest = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + (2.0 * PI).ln() / 2.0 + rest - below
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(requests: u64, failed: u64) -> Shown {
        Shown { requests, failed }
    }

    /// Requests that each fail with the same chance.
    fn noise(seed: &mut u64, requests: u64, chance: f64) -> Shown {
        let mut fails = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((*seed >> 11) as f64 / (1u64 << 53) as f64) < chance
        };
        shown(requests, (0..requests).filter(|_| fails()).count() as u64)
    }

    #[test]
    fn a_drill_stops_when_requests_fail_more_than_before() {
        assert!(!rose(&shown(100, 5), &shown(100, 7)));
        assert!(!rose(&shown(100, 5), &shown(100, 9)), "that may be chance");
        assert!(rose(&shown(10_000, 500), &shown(10_000, 800)));
        assert!(rose(&shown(1000, 0), &shown(100, 10)));
        assert!(!rose(&shown(10, 10), &shown(1000, 1000)), "they failed before");
        assert!(rose(&shown(u64::MAX, 0), &shown(u64::MAX, u64::MAX / 10)), "no number is too large");
        let said = stops(&shown(40, 0), [shown(1, 1), shown(4, 4)]).unwrap();
        assert_eq!(said, "100.0 % of requests fail, 0.0 % before the drill (4 of 4)");
    }

    #[test]
    fn few_requests_tell_when_all_of_them_fail() {
        for before in [0, 1, 9, 40, 10_000] {
            assert!(rose(&shown(before, 0), &shown(4, 4)), "{before} before");
            assert!(!rose(&shown(before.min(40), 0), &shown(2, 2)), "{before} before");
        }
    }

    #[test]
    fn the_gamma_function_is_that_of_the_tables() {
        for (of, factorial) in [(1.0, 1.0f64), (2.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0), (0.5, PI.sqrt())] {
            assert!((ln_gamma(of) - factorial.ln()).abs() < 1e-9, "{of}");
        }
    }

    proptest! {
        #[test]
        fn a_drill_never_stops_below_the_rise(requests in 1u64..5000, failed in 0u64..5000, now in 1u64..5000) {
            let before = shown(requests, failed.min(requests));
            let most = ((before.error_rate() + RISE) * now as f64).floor() as u64;
            prop_assert!(!rose(&before, &shown(now, most.min(now))));
        }

        #[test]
        fn more_failures_never_let_it_go_on(requests in 0u64..500, failed in 0u64..500, now in 1u64..500, of in 0u64..499) {
            let before = shown(requests, failed.min(requests));
            let goes_on = |of: u64| !rose(&before, &shown(now, of.min(now)));
            prop_assert!(goes_on(of) || !goes_on(of + 1));
        }
    }

    /// Whether a drill of a minute stops though requests fail as before.
    fn stops_for_nothing(seed: &mut u64, rate: u64, chance: f64) -> bool {
        let before = noise(seed, rate * BEFORE.as_secs(), chance);
        let seconds: Vec<_> = (0..60).map(|_| noise(seed, rate, chance)).collect();
        (1..=seconds.len()).any(|at| {
            let back = |window: &Duration| {
                let last = seconds.iter().take(at).rev().take(window.as_secs() as usize);
                last.fold(Shown::default(), |sum, one| shown(sum.requests + one.requests, sum.failed + one.failed))
            };
            stops(&before, WINDOWS.iter().map(back)).is_some()
        })
    }

    #[test]
    fn noise_of_the_rate_of_before_stops_hardly_one_of_two_hundred_drills() {
        let mut seed = 7;
        for rate in [1, 2, 10, 60] {
            let drills = (0..200).filter(|at| stops_for_nothing(&mut seed, rate, f64::from(*at) * 0.0015));
            let stopped = drills.count();
            assert!(stopped <= 1, "{stopped} of 200 at {rate} requests a second");
        }
    }
}
