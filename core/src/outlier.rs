//! Passive ejection: an endpoint that fails several times in a row gets a rest (Envoy outlier detection, consecutive
//! errors). Time is an argument: any monotonic clock's reading since one fixed moment.

use std::time::Duration;

use crate::model::Outlier;

/// What is remembered of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    failures: u32,
    ejections: u32,
    until: Option<Duration>,
}

/// What one request showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Showed {
    /// It answered, and not with a 5xx.
    Success,
    /// A 5xx, or no answer.
    Failure,
}

impl Record {
    /// Whether it rests at `now`.
    #[must_use]
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It rests for so long from `now` on, whatever it showed.
    pub fn eject(&mut self, now: Duration, rest: Duration) {
        self.failures = 0;
        self.until = Some(now + rest);
    }

    /// Takes what a request showed. `may_eject` is the word of [`may_eject`] for its set. Returns whether this ejects it.
    pub fn observe(&mut self, showed: Showed, now: Duration, policy: &Outlier, may_eject: bool) -> bool {
        if showed == Showed::Success {
            self.failures = 0;
            if self.until.is_some_and(|until| now >= until + policy.base_ejection) {
                *self = Self::default();
            }
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let due = policy.consecutive_errors > 0 && self.failures >= policy.consecutive_errors;
        if !due || !may_eject || self.is_ejected(now) {
            return false;
        }
        self.failures = 0;
        self.ejections = self.ejections.saturating_add(1);
        self.until = Some(now + policy.base_ejection.saturating_mul(self.ejections));
        true
    }
}

/// Whether one more of `total` endpoints may be ejected when `ejected` are: at least one may where there are others,
/// never all.
#[must_use]
pub fn may_eject(total: usize, ejected: usize, policy: &Outlier) -> bool {
    let limit = (total as u64 * u64::from(policy.max_ejection_percent.min(100)) / 100).max(1);
    total > 1 && (ejected as u64) < limit && ejected + 1 < total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_eject_for_longer_each_time_and_a_success_begins_anew() {
        let (policy, mut record) = (Outlier::default(), Record::default());
        let second = Duration::from_secs(1);
        for _ in 0..4 {
            assert!(!record.observe(Showed::Failure, second, &policy, true));
        }
        record.observe(Showed::Success, second, &policy, true);
        let fail_five = |record: &mut Record, now| (0..5).any(|_| record.observe(Showed::Failure, now, &policy, true));
        assert!(fail_five(&mut record, second));
        assert!(record.is_ejected(30 * second) && !record.is_ejected(31 * second));
        assert!(fail_five(&mut record, 31 * second));
        assert!(record.is_ejected(90 * second) && !record.is_ejected(91 * second));
    }

    #[test]
    fn of_two_one_may_be_ejected_and_the_last_never() {
        let policy = Outlier::default();
        assert!(may_eject(2, 0, &policy) && !may_eject(2, 1, &policy) && !may_eject(1, 0, &policy));
        assert!(may_eject(4, 1, &policy) && !may_eject(4, 2, &policy));
    }
}
