//! Waits between tries: twice as long each time, up to a limit, with jitter so that many clients do not beat in time.

use std::time::Duration;

/// The wait before the next try.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins at `min`, never waits longer than `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// How long to wait now: between half and all of the current step; the step doubles.
    #[allow(clippy::should_implement_trait, reason = "it never ends, so an iterator's Option would only be in the way")]
    pub fn next(&mut self) -> Duration {
        let step = self.next.min(self.max);
        self.next = step.saturating_mul(2).min(self.max);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// After a success: the next wait is `min` again.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_begin_anew_after_a_success() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(min, max);
        for step in [100u64, 200, 400, 800, 1000, 1000] {
            let (wait, step) = (backoff.next(), Duration::from_millis(step));
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= min);
    }
}
