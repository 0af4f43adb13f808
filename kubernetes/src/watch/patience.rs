//! Waits before the API server is asked again: longer each time, and at most ten seconds, since what changed meanwhile is not in
//! force until then.
//!
//! kube begins anew with each event, and that a list begins is one: an API server that is away would be asked by every watch
//! twice a second. Here only time without a failure begins anew.

use std::time::Duration;

use isthmus_runtime::backoff::Backoff;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
/// A failure so long after the last one is a new trouble.
const OVER: Duration = Duration::from_secs(30);

/// Of one watch.
pub(super) struct Patience {
    backoff: Backoff,
    last: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST, LONGEST), last: None }
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) >= OVER) {
            self.backoff.reset();
        }
        self.last = Some(now);
        Some(self.backoff.next())
    }
}

impl kube::runtime::utils::Backoff for Patience {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use kube::runtime::utils::Backoff as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_ten_seconds_and_only_time_without_a_failure_begins_anew() {
        let mut patience = Patience::default();
        assert!(patience.next().unwrap() <= FIRST);
        for _ in 0..6 {
            patience.reset();
            let wait = patience.next().unwrap();
            assert!(wait <= LONGEST);
            tokio::time::advance(wait).await;
        }
        assert!(patience.next().unwrap() >= LONGEST / 2);
        tokio::time::advance(OVER).await;
        assert!(patience.next().unwrap() <= FIRST);
    }
}
