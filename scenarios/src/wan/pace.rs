//! A rate and the queue in front of it: when does the last bit of this packet leave, and is there room for it?
//!
//! The queue is never stored. What waits is told by the time at which the line is free again.

use std::time::Duration;

/// A line of some rate; remembers until when it is busy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    free_at: Duration,
}

/// How long so many bytes take at so many bits a second.
fn airtime(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Pace {
    /// Takes a packet at `now`: when it has left, at `rate` bits a second. `None`: with it more than `queue` bytes
    /// would wait. An idle line takes any packet, and a rate of 0 is no limit.
    pub fn take(&mut self, now: Duration, bytes: u64, rate: u64, queue: u64) -> Option<Duration> {
        if rate == 0 {
            self.free_at = now;
            return Some(now);
        }
        let waiting = self.waiting(now, rate);
        if waiting > 0 && waiting.saturating_add(bytes) > queue {
            return None;
        }
        self.free_at = self.free_at.max(now).saturating_add(airtime(bytes, rate));
        Some(self.free_at)
    }

    /// Bytes that wait at `now`.
    #[must_use]
    pub fn waiting(&self, now: Duration, rate: u64) -> u64 {
        let busy = self.free_at.saturating_sub(now).as_nanos();
        u64::try_from(busy.saturating_mul(u128::from(rate)) / 8_000_000_000).unwrap_or(u64::MAX)
    }

    /// The rate changes at `now`: what waits is the same number of bytes, which now take longer or shorter.
    pub fn change(&mut self, now: Duration, from: u64, to: u64) {
        let waiting = self.waiting(now, from);
        self.free_at = if to == 0 { now } else { now.saturating_add(airtime(waiting, to)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: u64 = 1_000_000;

    #[test]
    fn bytes_leave_at_the_rate_and_no_faster() {
        let mut line = Pace::default();
        let mut left = Duration::ZERO;
        for _ in 0..1000 {
            left = line.take(Duration::ZERO, 1250, 10 * MBIT, u64::MAX).unwrap();
        }
        // 1.25 MB at 10 Mbit/s.
        assert_eq!(left, Duration::from_secs(1));
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_and_drops_what_comes_last() {
        let mut line = Pace::default();
        let taken = (0..100).filter(|_| line.take(Duration::ZERO, 1000, MBIT, 10_000).is_some()).count();
        assert_eq!(taken, 10);
        assert_eq!(line.waiting(Duration::ZERO, MBIT), 10_000);
        // 8 ms later one of them has left.
        let later = Duration::from_millis(8);
        assert!(line.take(later, 1000, MBIT, 10_000).is_some() && line.take(later, 1000, MBIT, 10_000).is_none());
    }

    #[test]
    fn an_idle_line_takes_a_packet_larger_than_its_queue_and_a_new_rate_keeps_what_waits() {
        let mut line = Pace::default();
        assert!(line.take(Duration::ZERO, 9000, MBIT, 100).is_some());
        line.change(Duration::ZERO, MBIT, 2 * MBIT);
        assert_eq!(line.waiting(Duration::ZERO, 2 * MBIT), 9000);
        line.change(Duration::ZERO, 2 * MBIT, 0);
        assert_eq!(line.take(Duration::ZERO, 1, 0, 0), Some(Duration::ZERO));
    }
}
