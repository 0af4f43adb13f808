//! When a drill stops by itself: each cluster compares what its requests show during the drill with what they showed
//! before it, and gives up for itself when they fail more.

use std::time::Duration;

use super::window::Tally;

/// What was before is looked at so far back.
pub const BEFORE: Duration = Duration::from_secs(30);
/// What is now, so far.
pub const NOW: Duration = Duration::from_secs(5);
/// Fewer requests prove nothing.
const LEAST: u64 = 20;
/// So much more of them may fail.
const RISE: f64 = 0.02;

/// Why a drill must stop; `None`: it may go on.
#[must_use]
pub fn stops(before: &Tally, now: &Tally) -> Option<String> {
    if now.requests < LEAST || now.error_rate() <= before.error_rate() + RISE {
        return None;
    }
    let percent = |tally: &Tally| format!("{:.1} %", tally.error_rate() * 100.0);
    Some(format!("{} of requests fail, {} before the drill", percent(now), percent(before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_stops_when_requests_fail_more_than_before() {
        let tally = |requests, errors| Tally { requests, errors, ..Tally::default() };
        assert_eq!(stops(&tally(100, 5), &tally(100, 7)), None);
        assert!(stops(&tally(100, 5), &tally(100, 8)).is_some());
        assert!(stops(&tally(0, 0), &tally(20, 1)).is_some());
        assert_eq!(stops(&tally(0, 0), &tally(19, 19)), None, "too few to tell");
    }
}
