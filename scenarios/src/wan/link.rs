//! One direction of a link, as a pure and seeded machine: when does this packet arrive, or why does it not?
//!
//! Time is an argument, so every promise is tested in virtual time; equal seeds and equal packets give equal verdicts.
//! A packet meets, in this order: the cut, the middlebox for UDP, the largest size, the queue, the loss (a lost packet
//! has used its part of the rate), the delay.

use std::time::Duration;

use fastrand::Rng;

use super::{
    loss::Loss,
    pace::Pace,
    settings::{Settings, Udp},
};

/// What is throttled may come in bursts of so long at its rate.
const UDP_BURST_MS: u64 = 50;
/// A packet held back comes at least so much later.
const HELD_BACK: Duration = Duration::from_millis(1);

/// What of a packet decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its length with all headers of IP.
    pub bytes: u16,
    /// What it carries.
    pub protocol: Protocol,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the protocols' names")]
pub enum Protocol {
    Udp,
    Tcp,
    Icmp,
    Other,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives then.
    Arrives(Duration),
    /// It never does.
    Dropped(Reason),
}

/// Why a packet does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The link is cut.
    Cut,
    /// UDP is blocked, or more than its throttle.
    Udp,
    /// It is larger than the MTU.
    TooLarge,
    /// The queue is full.
    QueueFull,
    /// It was lost on the way.
    Lost,
    /// More are under way than the router keeps, all links together.
    Overrun,
    /// It goes to a port that a cluster does not show to others.
    Closed,
    /// It comes from a cluster and has the address of another.
    Foreign,
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub struct Link {
    settings: Settings,
    random: Rng,
    loss: Loss,
    line: Pace,
    throttle: Pace,
    last: Duration,
}

impl Link {
    /// A link that nothing was sent on.
    #[must_use]
    pub fn new(seed: u64, settings: Settings) -> Self {
        let (loss, line, throttle, last) = Default::default();
        Self { settings, random: Rng::with_seed(seed), loss, line, throttle, last }
    }

    /// What it is like.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// From `now` on it is like this. What is under way arrives as it was decided.
    pub fn set(&mut self, now: Duration, settings: Settings) {
        self.line.change(now, self.settings.rate, settings.rate);
        // A shorter delay holds at once: only on the old wire would the old packets be in the way.
        if settings.delay_us != self.settings.delay_us || settings.jitter_us != self.settings.jitter_us {
            self.last = Duration::ZERO;
        }
        self.settings = settings;
    }

    /// A packet comes at `now`. Calls come in the order of time.
    pub fn offer(&mut self, now: Duration, packet: Packet) -> Verdict {
        let settings = self.settings;
        if settings.cut {
            return Verdict::Dropped(Reason::Cut);
        }
        if packet.protocol == Protocol::Udp && !self.udp_passes(now, packet.bytes) {
            return Verdict::Dropped(Reason::Udp);
        }
        if packet.bytes > settings.largest() {
            return Verdict::Dropped(Reason::TooLarge);
        }
        let bytes = u64::from(packet.bytes);
        let Some(left) = self.line.take(now, bytes, settings.rate, settings.queue_bytes()) else {
            return Verdict::Dropped(Reason::QueueFull);
        };
        if self.loss.strikes(&mut self.random, settings.loss, settings.burst) {
            return Verdict::Dropped(Reason::Lost);
        }
        Verdict::Arrives(self.arrival(left))
    }

    fn udp_passes(&mut self, now: Duration, bytes: u16) -> bool {
        match self.settings.udp {
            Udp::Open => true,
            Udp::Blocked => false,
            Udp::Throttled(rate) => {
                let burst = rate / 8 * UDP_BURST_MS / 1000;
                self.throttle.take(now, u64::from(bytes), rate, burst).is_some()
            }
        }
    }

    /// When a packet that `left` comes out: in order, unless it is held back.
    fn arrival(&mut self, left: Duration) -> Duration {
        let (delay, jitter) = (self.settings.delay(), self.settings.jitter());
        let mut own = left.saturating_add(delay);
        if !jitter.is_zero() {
            // A jitter larger than the delay is cut at no delay at all.
            own = own.saturating_add(jitter.mul_f64(2.0 * self.random.f64())).saturating_sub(jitter).max(left);
        }
        if self.settings.reorder > 0.0 && self.random.f64() < self.settings.reorder {
            return own.saturating_add(HELD_BACK.max(delay / 4));
        }
        self.last = self.last.max(own);
        self.last
    }
}

#[cfg(test)]
mod tests;
