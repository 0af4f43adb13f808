//! BBR with a bounded window (DESIGN.md decision 19).
//!
//! quinn's BBR lets its window grow while thin traffic never fills it: 2.2 MB after 50 s of 1,000 small requests a
//! second. A later burst would then go out at once and drown the path. Here the window is never larger than twice the
//! best recent delivery rate times the smallest recent round trip, and never bound below [`FLOOR_PACKETS`].

use std::{
    any::Any,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// The window is not bound below so many packets: a first burst of a quiet tunnel goes out at once.
pub const FLOOR_PACKETS: u64 = 32;
/// The best rate is kept for each span of a round trip, and at least so long.
const SPAN: Duration = Duration::from_millis(10);
/// Spans that count as recent.
const RATES: usize = 10;
/// Moments of sending that are remembered: each is that of many packets.
const MOMENTS: usize = 4096;
/// The smallest round trip is looked for in so long, twice.
const TRIP_SPAN: Duration = Duration::from_secs(10);

/// Makes [`Bounded`] controllers.
#[derive(Debug, Default)]
pub struct BoundedBbr;

impl ControllerFactory for BoundedBbr {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let bbr = Arc::new(BbrConfig::default()).build(now, current_mtu);
        Box::new(Bounded { inner: bbr, bound: Bound::new(now, current_mtu) })
    }
}

/// A controller whose window is bound.
pub struct Bounded {
    inner: Box<dyn Controller>,
    bound: Bound,
}

/// The bound, from acknowledgements alone.
#[derive(Clone, Debug)]
struct Bound {
    mtu: u64,
    began: Instant,
    /// Bytes acknowledged since the beginning.
    delivered: u64,
    /// Moments at which packets were sent, oldest first, with what was delivered by then.
    sent: VecDeque<(Instant, u64)>,
    /// Best rate of each recent span, bytes a second, newest last.
    rates: VecDeque<f64>,
    trip: Option<Duration>,
    last_trip: Option<Duration>,
    trip_began: Instant,
}

impl Bound {
    fn new(now: Instant, mtu: u16) -> Self {
        let (sent, rates) = (VecDeque::new(), VecDeque::from([0.0]));
        let mtu = u64::from(mtu);
        Self { mtu, began: now, delivered: 0, sent, rates, trip: None, last_trip: None, trip_began: now }
    }

    fn sent(&mut self, now: Instant) {
        if self.sent.back().is_none_or(|(at, _)| *at < now) {
            if self.sent.len() == MOMENTS {
                self.sent.pop_front();
            }
            self.sent.push_back((now, self.delivered));
        }
    }

    /// What was delivered between the sending of a packet and its acknowledgement, per second (delivery rate, BBR).
    fn rate(&mut self, now: Instant, sent: Instant) -> f64 {
        // Acknowledgements of older packets do come later, but they say less: their span has passed.
        while self.sent.front().is_some_and(|(at, _)| *at < sent) && self.sent.len() > 1 {
            self.sent.pop_front();
        }
        let Some((at, before)) = self.sent.front() else { return 0.0 };
        let span = now.saturating_duration_since(*at);
        if span.is_zero() { 0.0 } else { self.delivered.saturating_sub(*before) as f64 / span.as_secs_f64() }
    }

    fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64) {
        let trip = now.saturating_duration_since(sent);
        if now.saturating_duration_since(self.trip_began) >= TRIP_SPAN {
            (self.last_trip, self.trip, self.trip_began) = (self.trip, None, now);
        }
        self.trip = Some(self.trip.map_or(trip, |least| least.min(trip)));
        self.delivered = self.delivered.saturating_add(bytes);
        if now.saturating_duration_since(self.began) >= SPAN.max(self.least_trip()) {
            if self.rates.len() == RATES {
                self.rates.pop_front();
            }
            self.rates.push_back(0.0);
            self.began = now;
        }
        let rate = self.rate(now, sent);
        if let Some(best) = self.rates.back_mut() {
            *best = best.max(rate);
        }
    }

    fn least_trip(&self) -> Duration {
        self.trip.into_iter().chain(self.last_trip).min().unwrap_or_default()
    }

    fn floor(&self) -> u64 {
        FLOOR_PACKETS * self.mtu
    }

    fn window(&self) -> u64 {
        let best = self.rates.iter().copied().fold(0.0, f64::max);
        // Below the span a rate is measured over, a round trip says nothing: bytes of a whole span may be in flight.
        let trip = self.least_trip().max(SPAN).as_secs_f64();
        ((2.0 * best * trip) as u64).max(self.floor())
    }
}

impl Controller for Bounded {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.bound.sent(now);
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.bound.acknowledged(now, sent, bytes);
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.bound.mtu = u64::from(new_mtu);
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window().min(self.bound.window())
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.inner.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), bound: self.bound.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Acknowledges `bytes` each `every` for `seconds`, each after a round trip of `trip`.
    fn play(bound: &mut Bound, from: Instant, bytes: u64, every: Duration, trip: Duration, seconds: u64) -> Instant {
        let mut now = from;
        // What was sent before the first acknowledgement of this play comes back first.
        let mut flying = VecDeque::new();
        while now < from + Duration::from_secs(seconds) {
            now += every;
            bound.sent(now);
            flying.push_back(now);
            while flying.front().is_some_and(|sent| now >= *sent + trip) {
                let sent = flying.pop_front().unwrap();
                bound.acknowledged(now, sent, bytes);
            }
        }
        now
    }

    #[test]
    fn thin_traffic_leaves_the_window_at_its_floor_and_thick_traffic_gets_twice_what_it_delivers() {
        let start = Instant::now();
        let mut bound = Bound::new(start, 1200);
        assert_eq!(bound.window(), 32 * 1200);
        let now = play(&mut bound, start + MS, 100, MS, 50 * MS, 50);
        assert_eq!(bound.window(), 32 * 1200, "1,000 a second of 100 bytes");
        let now = play(&mut bound, now, 20_000, MS, 50 * MS, 5);
        let product = 20_000_000.0 * 0.05;
        assert!((1.9..2.3).contains(&(bound.window() as f64 / product)), "{}", bound.window());
        play(&mut bound, now, 100, MS, 50 * MS, 5);
        assert_eq!(bound.window(), 32 * 1200, "old rates are forgotten");
    }

    #[test]
    fn a_path_that_became_longer_is_believed_within_two_spans() {
        let start = Instant::now();
        let mut bound = Bound::new(start, 1200);
        let now = play(&mut bound, start, 20_000, MS, 10 * MS, 5);
        play(&mut bound, now, 20_000, MS, 100 * MS, 25);
        let product = 20_000_000.0 * 0.1;
        assert!((1.9..2.3).contains(&(bound.window() as f64 / product)), "{}", bound.window());
    }
}
