//! A share that falls at once and rises calmly: not before trouble is over for a while, then along a ramp.
//!
//! It rises in the ramp's time, not in shares, so a fall in the middle of a ramp goes on from where it fell to.

use std::{collections::VecDeque, time::Duration};

use super::BEAT;

/// The first quarter of a ramp gives a fifth, the rest the rest.
const FIRST: (f64, f64) = (0.25, 0.2);
/// What a ramp begins with, so that there is something to see.
const LEAST: f64 = 0.02;
/// Shares are told in thousandths.
const ROUNDED: f64 = 0.001;

/// The share at this point of a ramp, 0 to 1.
#[must_use]
pub fn curve(progress: f64) -> f64 {
    let (first, fifth) = FIRST;
    let progress = progress.clamp(0.0, 1.0);
    if progress < first {
        LEAST + (fifth - LEAST) * progress / first
    } else {
        (fifth + (1.0 - fifth) * (progress - first) / (1.0 - first)).min(1.0)
    }
}

/// Where on a ramp a share is.
fn progress_of(share: f64) -> f64 {
    let (first, fifth) = FIRST;
    if share < fifth {
        ((share - LEAST) / (fifth - LEAST)).max(0.0) * first
    } else {
        (first + (share - fifth) / (1.0 - fifth) * (1.0 - first)).min(1.0)
    }
}

/// The least of the values of the last while.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Least {
    values: VecDeque<(Duration, f64)>,
    /// So far the moments are ahead of the clock: what an earlier run saw may be older than this one's clock.
    ahead: Duration,
}

impl Least {
    /// As an earlier run kept it.
    #[must_use]
    pub fn restored(now: Duration, kept: &[(u64, f64)]) -> Self {
        let ahead = Duration::from_secs(kept.iter().map(|(age, _)| *age).max().unwrap_or_default());
        let seen = |(age, value): &(u64, f64)| ((now + ahead).saturating_sub(Duration::from_secs(*age)), *value);
        Self { values: kept.iter().map(seen).collect(), ahead }
    }

    /// What to keep for the next run: each value below one with its age, whole seconds.
    #[must_use]
    pub fn kept(&self, now: Duration) -> Vec<(u64, f64)> {
        let now = now + self.ahead;
        let below = self.values.iter().filter(|(_, value)| *value < 1.0);
        below.map(|(at, value)| (now.saturating_sub(*at).as_secs(), *value)).collect()
    }

    /// Takes a value; gives the least of those not older than `within`.
    pub fn of(&mut self, now: Duration, value: f64, within: Duration) -> f64 {
        let now = now + self.ahead;
        while self.values.back().is_some_and(|(_, last)| *last >= value) {
            self.values.pop_back();
        }
        self.values.push_back((now, value));
        while self.values.front().is_some_and(|(at, _)| now.saturating_sub(*at) > within) {
            self.values.pop_front();
        }
        self.values.front().map_or(value, |(_, least)| *least)
    }

    /// How long it will stay at this share or below.
    #[must_use]
    pub fn stays(&self, now: Duration, share: f64, within: Duration) -> Duration {
        let last = self.values.iter().rev().find(|(_, value)| *value <= share + ROUNDED);
        last.map_or(Duration::ZERO, |(at, _)| within.saturating_sub((now + self.ahead).saturating_sub(*at)))
    }
}

/// The share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Climb {
    /// Where on the ramp; `None`: nothing is given.
    progress: Option<f64>,
    /// Whether anything was ever given: the first time there is nothing to be careful of.
    used: bool,
    at: Option<Duration>,
}

impl Climb {
    /// With what an earlier run gave.
    #[must_use]
    pub fn restored(share: f64) -> Self {
        Self { progress: (share > 0.0).then(|| progress_of(share)), used: true, at: None }
    }

    /// Whether nothing was ever given.
    #[must_use]
    pub fn is_new(&self) -> bool {
        !self.used
    }

    /// Goes on to `now`: at once down to `most`, up along a ramp of this length, and not at all unless it `may_rise`.
    pub fn advance(&mut self, now: Duration, most: f64, ramp: Duration, may_rise: bool) -> f64 {
        let before = self.at.replace(now).unwrap_or(now);
        // When this machine stalled, nobody was watching meanwhile.
        let passed = now.saturating_sub(before).min(2 * BEAT).as_secs_f64();
        let step = if ramp.is_zero() { 1.0 } else { passed / ramp.as_secs_f64() };
        let top = progress_of(most);
        self.progress = match self.progress {
            _ if most <= 0.0 => None,
            None if !self.used => Some(top),
            None => may_rise.then_some(if ramp.is_zero() { top } else { 0.0 }),
            Some(progress) if may_rise => Some((progress + step).min(top)),
            Some(progress) => Some(progress.min(top)),
        };
        self.used |= self.progress.is_some();
        self.progress.map_or(0.0, |progress| curve(progress).min(most))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failover::RAMP;

    fn play(climb: &mut Climb, from: &mut u32, beats: u32, most: f64) -> f64 {
        let mut share = 0.0;
        for _ in 0..beats {
            *from += 1;
            share = climb.advance(BEAT * *from, most, RAMP, true);
        }
        share
    }

    #[test]
    fn first_all_at_once_then_down_at_once_and_up_along_the_ramp() {
        let (mut climb, mut beat) = (Climb::default(), 0);
        assert!((play(&mut climb, &mut beat, 1, 1.0) - 1.0).abs() < 1e-9);
        assert!((play(&mut climb, &mut beat, 1, 0.4) - 0.4).abs() < 1e-9);
        assert!(play(&mut climb, &mut beat, 1, 0.0).abs() < 1e-9);
        let fifth = play(&mut climb, &mut beat, 10, 1.0);
        assert!(fifth <= 0.2 && fifth > 0.15, "{fifth}");
        assert!(play(&mut climb, &mut beat, 29, 1.0) < 1.0);
        assert!((play(&mut climb, &mut beat, 2, 1.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_least_of_a_while_holds_for_that_while() {
        let mut least = Least::default();
        let second = Duration::from_secs(1);
        let seen: Vec<_> = [1.0, 0.5, 0.8, 1.0, 1.0, 1.0]
            .into_iter()
            .zip(0u32..)
            .map(|(value, at)| least.of(second * at, value, 2 * second))
            .collect();
        assert_eq!(seen, [1.0, 0.5, 0.5, 0.5, 0.8, 1.0]);
    }

    #[test]
    fn what_was_least_is_kept_with_its_age_and_holds_on_under_another_clock() {
        let (mut least, second, within) = (Least::default(), Duration::from_secs(1), Duration::from_secs(120));
        least.of(500 * second, 0.0, within);
        least.of(510 * second, 1.0, within);
        assert_eq!(least.stays(510 * second, 0.0, within), 110 * second);
        let mut again = Least::restored(2 * second, &least.kept(510 * second));
        assert_eq!(again.stays(2 * second, 0.0, within), 110 * second);
        assert_eq!(again.of(112 * second, 1.0, within), 0.0);
        assert_eq!(again.of(113 * second, 1.0, within), 1.0);
    }

    proptest! {
        #[test]
        fn worse_never_draws_more(
            history in proptest::collection::vec((0.0f64..=1.0, 0.0f64..=1.0, any::<bool>()), 1..80),
        ) {
            let (mut good, mut bad) = (Climb::restored(1.0), Climb::restored(1.0));
            for (beat, (a, b, may_rise)) in history.into_iter().enumerate() {
                let now = BEAT * u32::try_from(beat).unwrap();
                let better = good.advance(now, a.max(b), RAMP, true);
                let worse = bad.advance(now, a.min(b), RAMP, may_rise);
                prop_assert!(worse <= better + 1e-9, "{worse} above {better}");
            }
        }

        #[test]
        fn the_curve_never_falls_and_goes_both_ways(a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
            prop_assert!(curve(a.min(b)) <= curve(a.max(b)));
            prop_assert!((curve(progress_of(curve(a))) - curve(a)).abs() < 1e-9);
        }
    }
}
