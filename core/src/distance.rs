//! How far another cluster is: the least round trip of the last while, as BBR estimates a path's propagation time
//! (Cardwell et al. 2016, "RTprop"). What queues and busy processors add says nothing of distance, and a ladder that
//! followed it would move traffic for a moment's load.

use std::time::Duration;

/// A longer way shows after one to two of these; a shorter one at once.
const WINDOW: Duration = Duration::from_secs(15);
/// What is shown moves only when it is off by this part of it, so that it is right within a tenth,
const OFF_PART: u64 = 12;
/// and by this many microseconds: clusters on one machine are a fraction of a millisecond apart, which changes with load.
const OFF_LEAST_US: u64 = 500;

/// The distance to one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distance {
    /// When the present window began, and its least round trip, microseconds.
    present: Option<(Duration, u64)>,
    /// Least of the window before.
    before: Option<u64>,
    shown: u64,
}

impl Distance {
    /// With what an earlier run showed, microseconds; 0: nothing. It stands until something is measured.
    #[must_use]
    pub fn restored(shown_us: u64) -> Self {
        Self { shown: shown_us, ..Self::default() }
    }

    /// A round trip was measured at `now`, microseconds; 0 says nothing.
    pub fn measured(&mut self, now: Duration, rtt_us: u64) {
        if rtt_us == 0 {
            return;
        }
        self.present = match self.present {
            Some((began, least)) if now.saturating_sub(began) < WINDOW => Some((began, least.min(rtt_us))),
            Some((began, least)) => {
                // A window in which nothing was measured makes what came before it old.
                self.before = (now.saturating_sub(began) < 2 * WINDOW).then_some(least);
                Some((now, rtt_us))
            }
            None => Some((now, rtt_us)),
        };
        let least = [self.present.map(|(_, least)| least), self.before].into_iter().flatten().min();
        self.shown = calm(self.shown, least.unwrap_or_default());
    }

    /// As it is shown and decided on: microseconds to two digits; 0: nobody measured it.
    #[must_use]
    pub fn us(&self) -> u64 {
        self.shown
    }
}

fn calm(shown: u64, least: u64) -> u64 {
    let off = least.abs_diff(shown);
    if shown > 0 && (off < shown / OFF_PART || off < OFF_LEAST_US) {
        return shown;
    }
    let step = 10u64.pow(least.max(1).ilog10().saturating_sub(1));
    (least + step / 2) / step * step
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn load_moves_nothing_a_shorter_way_shows_at_once_a_longer_one_after_a_while() {
        let mut distance = Distance::default();
        let mut play = |seconds: std::ops::Range<u32>, rtt_us: u64| {
            seconds.for_each(|second| distance.measured(second * SECOND, rtt_us));
            distance.us()
        };
        assert_eq!(play(0..1, 230_000), 230_000, "the first is all there is");
        assert_eq!(play(1..2, 1_500), 1_500);
        assert_eq!(play(2..12, 40_000), 1_500, "queues are not distance");
        assert_eq!(play(12..13, 1_400), 1_500, "a tenth of a millisecond is nothing");
        assert_eq!(play(13..50, 80_400), 80_000);
    }

    #[test]
    fn what_an_earlier_run_showed_stands_until_something_is_measured() {
        let mut distance = Distance::restored(12_000);
        distance.measured(SECOND, 0);
        assert_eq!(distance.us(), 12_000);
        distance.measured(SECOND, 12_900);
        assert_eq!(distance.us(), 12_000);
        distance.measured(SECOND, 9_000 - 1);
        assert_eq!(distance.us(), 9_000);
    }

    #[test]
    fn what_is_shown_is_right_within_a_tenth() {
        for (first, real) in [(160_000, 140_000), (88_000, 80_000), (31_000, 30_000), (147_000, 140_000)] {
            let mut distance = Distance::default();
            distance.measured(Duration::ZERO, first);
            distance.measured(SECOND, real);
            assert!(distance.us().abs_diff(real) * 10 <= real, "{} of {real}", distance.us());
        }
    }
}
