//! Errors and latency that leave a cluster: above a limit it is left, only below a lower one may its share rise again.
//!
//! What was left can show nothing, so it is tried again after a while, along the ramp; each further time within five
//! minutes waits twice as long.

use std::time::Duration;

use super::{
    policy::{Failback, Leave},
    window::{Tally, Window},
};

/// Fewer requests in a window prove nothing.
pub const LEAST_REQUESTS: u64 = 20;
/// A further time within so long waits twice as long.
const AGAIN: Duration = Duration::from_secs(300);
/// The longest wait.
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

/// One cluster's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Breaker {
    /// Left until then, and why.
    left: Option<(Duration, String)>,
    /// Only what came after this counts.
    from: Duration,
    last: Option<Duration>,
    times: u32,
}

enum Reading {
    Below,
    Between(String),
    Above(String),
}

impl Breaker {
    /// Judges what the window shows.
    pub fn judge(&mut self, now: Duration, window: &Window, leave: &Leave, failback: &Failback) -> Verdict {
        if let Some((until, why)) = self.left.take() {
            if now < until {
                self.left = Some((until, why.clone()));
                return Verdict::Leave(why);
            }
            // The second it is in has still something of before.
            self.from = now + Duration::from_secs(1);
        }
        let readings = [self.errors(now, window, leave), self.latency(now, window, leave)];
        let mut hold = None;
        for reading in readings {
            match reading {
                Reading::Above(why) => return self.trip(now, why, failback),
                Reading::Between(why) => hold = Some(why),
                Reading::Below => {}
            }
        }
        hold.map_or(Verdict::Fine, Verdict::Hold)
    }

    fn trip(&mut self, now: Duration, why: String, failback: &Failback) -> Verdict {
        let again = self.last.is_some_and(|last| now.saturating_sub(last) < AGAIN);
        self.times = if again { self.times.saturating_add(1) } else { 0 };
        let wait = failback.after.max(super::STABLE).saturating_mul(1 << self.times.min(10)).min(LONGEST_WAIT);
        self.last = Some(now + wait);
        self.left = Some((now + wait, why.clone()));
        Verdict::Leave(why)
    }

    fn errors(&self, now: Duration, window: &Window, leave: &Leave) -> Reading {
        let Some(rate) = &leave.error_rate else { return Reading::Below };
        let Some(tally) = self.enough(now, window, rate.over) else { return Reading::Below };
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

    fn latency(&self, now: Duration, window: &Window, leave: &Leave) -> Reading {
        let Some(limit) = &leave.latency else { return Reading::Below };
        let Some(tally) = self.enough(now, window, limit.over) else { return Reading::Below };
        let seen = tally.percentile(limit.percentile).unwrap_or_default();
        let below = limit.below.unwrap_or(limit.above / 2);
        let percentile = limit.percentile;
        if seen > limit.above {
            Reading::Above(format!("its p{percentile} is {seen:?}, above {:?}", limit.above))
        } else if seen > below {
            Reading::Between(format!("its p{percentile} is {seen:?}, not yet below {below:?}"))
        } else {
            Reading::Below
        }
    }

    fn enough(&self, now: Duration, window: &Window, over: Duration) -> Option<Tally> {
        let tally = window.sum(now, over, self.from);
        (tally.requests >= LEAST_REQUESTS).then_some(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::policy::{ErrorRate, Latency};

    fn leave() -> Leave {
        let over = Duration::from_secs(10);
        Leave {
            error_rate: Some(ErrorRate { above: 0.2, below: Some(0.1), over }),
            latency: Some(Latency { above: Duration::from_millis(500), below: None, percentile: 90.0, over }),
            ..Default::default()
        }
    }

    struct Story {
        breaker: Breaker,
        window: Window,
        second: u64,
    }

    impl Story {
        /// So many seconds of 100 requests, of which so many fail and all take so long; the last verdict.
        fn run(&mut self, seconds: u64, errors: u64, millis: u64) -> Verdict {
            let mut verdict = Verdict::Fine;
            for _ in 0..seconds {
                self.second += 1;
                let (now, mut tally) = (Duration::from_secs(self.second), Tally::default());
                (0..100).for_each(|nth| tally.count(nth < errors, Duration::from_millis(millis)));
                self.window.add(now, &tally);
                verdict = self.breaker.judge(now, &self.window, &leave(), &Failback::default());
            }
            verdict
        }
    }

    fn story() -> Story {
        Story { breaker: Breaker::default(), window: Window::default(), second: 0 }
    }

    #[test]
    fn noise_under_the_limit_leaves_nothing_and_above_the_lower_one_it_holds() {
        let mut story = story();
        for errors in [0, 15, 5, 19, 0] {
            assert!(!matches!(story.run(12, errors, 20), Verdict::Leave(_)), "{errors}");
        }
        assert!(matches!(story.run(10, 15, 20), Verdict::Hold(_)));
        assert_eq!(story.run(10, 5, 20), Verdict::Fine);
    }

    #[test]
    fn too_many_errors_leave_and_each_further_time_waits_twice_as_long() {
        let mut story = story();
        let mut waits = vec![];
        for _ in 0..4 {
            while !matches!(story.run(1, 90, 20), Verdict::Leave(_)) {}
            let left = story.second;
            while matches!(story.run(1, 0, 20), Verdict::Leave(_)) {}
            waits.push(story.second - left);
        }
        assert_eq!(waits, [3, 6, 12, 24]);
    }

    #[test]
    fn slow_answers_leave_as_errors_do() {
        let mut story = story();
        assert_eq!(story.run(10, 0, 200), Verdict::Fine);
        assert!(matches!(story.run(10, 0, 400), Verdict::Hold(_)));
        assert!(matches!(story.run(2, 0, 2000), Verdict::Leave(why) if why.contains("p90")));
    }

    #[test]
    fn few_requests_prove_nothing() {
        let (mut breaker, mut window, mut tally) = (Breaker::default(), Window::default(), Tally::default());
        (1..LEAST_REQUESTS).for_each(|_| tally.count(true, Duration::from_secs(9)));
        window.add(Duration::from_secs(1), &tally);
        let verdict = breaker.judge(Duration::from_secs(1), &window, &leave(), &Failback::default());
        assert_eq!(verdict, Verdict::Fine);
    }
}
