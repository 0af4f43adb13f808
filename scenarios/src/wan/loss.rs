//! Which packets are lost: each by itself, or in bursts as on real networks.
//!
//! Bursts are those of Gilbert and Elliott: a good state that loses nothing, a bad one that loses everything, and a
//! chance of each to become the other with every packet. The two chances follow from the share and from the mean burst.

use fastrand::Rng;

/// Remembers whether a burst is going on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    bad: bool,
}

impl Loss {
    /// Whether the next packet is lost, where `share` of them are, `burst` in a row on average (0: each by itself).
    /// A share too high for so short a burst makes the bursts as long as it needs.
    pub fn strikes(&mut self, random: &mut Rng, share: f64, burst: f64) -> bool {
        if share <= 0.0 || share >= 1.0 {
            self.bad = false;
            return share >= 1.0;
        }
        if burst == 0.0 {
            self.bad = false;
            return random.f64() < share;
        }
        // The mean of a geometric number is one over its chance; the share of bad states is begins / (begins + ends).
        let burst = burst.max(share / (1.0 - share));
        let ends = 1.0 / burst;
        let begins = ends * share / (1.0 - share);
        self.bad = if self.bad { random.f64() >= ends } else { random.f64() < begins };
        self.bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of packets lost, and the mean length of their runs.
    fn measure(share: f64, burst: f64) -> (f64, f64) {
        let (mut random, mut loss) = (Rng::with_seed(7), Loss::default());
        let (mut lost, mut runs, mut before) = (0_u32, 0_u32, false);
        let packets = 400_000;
        for _ in 0..packets {
            let strikes = loss.strikes(&mut random, share, burst);
            lost += u32::from(strikes);
            runs += u32::from(strikes && !before);
            before = strikes;
        }
        (f64::from(lost) / f64::from(packets), f64::from(lost) / f64::from(runs.max(1)))
    }

    fn near(value: f64, wanted: f64) -> bool {
        (value - wanted).abs() <= wanted * 0.08
    }

    #[test]
    fn the_share_and_the_mean_burst_are_those_asked_for() {
        for (share, burst) in [(0.01, 3.0), (0.05, 10.0), (0.3, 2.0), (0.5, 40.0), (0.02, 1.0)] {
            let (lost, run) = measure(share, burst);
            assert!(near(lost, share) && near(run, burst), "{share} in bursts of {burst}: {lost} in bursts of {run}");
        }
    }

    #[test]
    fn without_bursts_losses_do_not_know_of_each_other() {
        for share in [0.01, 0.2, 0.6] {
            let (lost, run) = measure(share, 0.0);
            assert!(near(lost, share) && near(run, 1.0 / (1.0 - share)), "{share}: {lost} in runs of {run}");
        }
    }

    #[test]
    fn a_share_too_high_for_the_burst_is_kept_and_the_ends_are_exact() {
        let (lost, run) = measure(0.9, 2.0);
        assert!(near(lost, 0.9) && run >= 8.0, "{lost} in bursts of {run}");
        assert_eq!(measure(0.0, 5.0).0, 0.0);
        assert_eq!(measure(1.0, 5.0).0, 1.0);
    }
}
