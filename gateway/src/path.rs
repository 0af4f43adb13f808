//! How the path to another cluster stands, from what its tunnels showed (DESIGN.md decision 26). Time is an argument.
//!
//! A tunnel is *suspect* when an answer is due and nothing was heard for max(400 ms, 4 round trips). A path is up when
//! a tunnel of it is, suspect when it has tunnels but each is, and lost when it was suspect for 3 s or has no tunnel.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A tunnel is not suspected sooner than this.
const SUSPECT_AFTER: Duration = Duration::from_millis(400);
/// ... nor sooner than this many round trips.
const SUSPECT_TRIPS: u32 = 4;
/// A path that was suspect for so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// Probes that are remembered: more than are sent until the tunnel's idle timeout.
const MAX_DUE: usize = 64;

/// Round trips of probes whose median counts: one that was held up, as by the handshake before it, moves nothing.
const TRIPS: usize = 8;

/// How a path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Streams may be opened.
    Up,
    /// Its peers drain: no new streams, those that are open go on.
    Draining,
    /// Silent while an answer is due: no new streams.
    Suspect,
    /// Gone.
    Lost,
}

impl State {
    /// As people, metrics and control read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Suspect => "suspect",
            Self::Lost => "lost",
        }
    }
}

/// Probes and answers of one tunnel.
#[derive(Debug)]
pub struct Pulse {
    heard: Instant,
    due: VecDeque<(u64, Instant)>,
    next: u64,
    trips: VecDeque<Duration>,
    wire: Wire,
    excused: Instant,
}

/// What the transport sent and received. What it sends is acknowledged: that nothing comes is known sooner than by the
/// next probe, of every tunnel that is in use.
#[derive(Clone, Copy, Debug, Default)]
struct Wire {
    asked: u64,
    received: u64,
    unanswered: Option<Instant>,
}

impl Pulse {
    /// Of a tunnel that came up at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            heard: now,
            due: VecDeque::new(),
            next: 0,
            trips: VecDeque::with_capacity(TRIPS),
            wire: Wire::default(),
            excused: now,
        }
    }

    /// A probe is sent at `now`; its sequence number.
    pub fn probe(&mut self, now: Instant) -> u64 {
        self.next += 1;
        if self.due.len() < MAX_DUE {
            self.due.push_back((self.next, now));
        }
        self.next
    }

    /// The answer to a probe: earlier ones are due no more either. Its round trip, when the probe is remembered.
    pub fn answered(&mut self, sequence: u64, now: Instant) -> Option<Duration> {
        self.heard(now);
        let sent = self.due.iter().find(|(due, _)| *due == sequence).map(|(_, sent)| *sent);
        while self.due.front().is_some_and(|(due, _)| *due <= sequence) {
            self.due.pop_front();
        }
        let trip = sent.map(|sent| now.saturating_duration_since(sent))?;
        if self.trips.len() == TRIPS {
            self.trips.pop_front();
        }
        self.trips.push_back(trip);
        Some(trip)
    }

    /// The median round trip of the last probes; none before the first answer.
    #[must_use]
    pub fn trip(&self) -> Option<Duration> {
        let mut trips: Vec<_> = self.trips.iter().copied().collect();
        trips.sort_unstable();
        trips.get(trips.len().saturating_sub(1) / 2).copied()
    }

    /// Anything was heard.
    pub fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// Since when nothing was heard.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// How often the transport has sent in all what has to be acknowledged, and how many packets came, at `now`.
    pub fn carried(&mut self, asked: u64, received: u64, now: Instant) {
        if received != self.wire.received {
            self.wire.unanswered = None;
        } else if asked != self.wire.asked {
            self.wire.unanswered.get_or_insert(now);
        }
        (self.wire.asked, self.wire.received) = (asked, received);
    }

    /// This process itself did nothing for a while before `now`: what was due is due from now on.
    pub fn excuse(&mut self, now: Instant) {
        self.excused = now;
    }

    /// Whether an answer is overdue.
    #[must_use]
    pub fn is_suspect(&self, now: Instant, rtt: Duration) -> bool {
        let limit = SUSPECT_AFTER.max(rtt * SUSPECT_TRIPS);
        let probe = self.due.front().map(|(_, sent)| self.heard.max(*sent));
        let overdue = |since: Instant| now.saturating_duration_since(since.max(self.excused)) >= limit;
        probe.is_some_and(overdue) || self.wire.unanswered.is_some_and(overdue)
    }
}

/// One tunnel, as its path sees it; what is worse is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Answers in time.
    Up,
    /// Its peer said that it drains.
    Draining,
    /// An answer is overdue.
    Suspect,
}

/// The path to one cluster.
#[derive(Debug)]
pub struct Path {
    state: State,
    since: Instant,
    settled: bool,
}

impl Path {
    /// Of a cluster that became known at `now`: suspect until its first tunnel is up.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { state: State::Suspect, since: now, settled: false }
    }

    /// Judges by its tunnels; whether the state changed.
    pub fn judge(&mut self, tunnels: impl IntoIterator<Item = Seen>, now: Instant) -> bool {
        let seen: Vec<_> = tunnels.into_iter().collect();
        let waited = now.saturating_duration_since(self.since) >= LOST_AFTER;
        let state = if seen.contains(&Seen::Up) {
            State::Up
        } else if seen.contains(&Seen::Draining) {
            State::Draining
        } else if seen.is_empty() && !self.settled {
            if waited { State::Lost } else { State::Suspect }
        } else if seen.is_empty() || self.state == State::Lost || (self.state == State::Suspect && waited) {
            State::Lost
        } else {
            State::Suspect
        };
        self.settled |= state != State::Suspect;
        if state == self.state {
            return false;
        }
        (self.state, self.since) = (state, now);
        true
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it was ever judged by more than its age: before, it says nothing of the cluster.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_tunnel_is_suspect_only_when_an_answer_is_due_and_overdue() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert!(!pulse.is_suspect(start + 10_000 * MS, MS), "nothing is due");
        let probe = pulse.probe(start + 250 * MS);
        assert!(!pulse.is_suspect(start + 649 * MS, MS));
        assert!(pulse.is_suspect(start + 650 * MS, MS));
        assert!(!pulse.is_suspect(start + 650 * MS, 200 * MS), "four round trips are longer");
        assert_eq!(pulse.answered(probe, start + 800 * MS), Some(550 * MS));
        assert!(!pulse.is_suspect(start + 5_000 * MS, MS));
        let (first, second) = (pulse.probe(start + 900 * MS), pulse.probe(start + 901 * MS));
        pulse.answered(second, start + 902 * MS);
        assert_eq!(pulse.answered(first, start + 903 * MS), None, "a later answer settles the earlier probe");
    }

    #[test]
    fn a_tunnel_in_use_is_suspect_when_what_it_sends_is_not_acknowledged() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.carried(10, 10, start);
        pulse.carried(12, 10, start + 50 * MS);
        pulse.carried(20, 10, start + 400 * MS);
        assert!(!pulse.is_suspect(start + 449 * MS, MS));
        assert!(pulse.is_suspect(start + 450 * MS, MS), "since the first that nobody answered");
        pulse.carried(20, 11, start + 560 * MS);
        assert!(!pulse.is_suspect(start + 5_000 * MS, MS), "anything that comes answers");
        pulse.carried(20, 11, start + 9_000 * MS);
        assert!(!pulse.is_suspect(start + 9_999 * MS, MS), "nothing was sent, nothing is due");
    }

    #[test]
    fn a_stall_of_our_own_is_no_silence_of_others() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.probe(start);
        pulse.carried(1, 0, start);
        pulse.excuse(start + 2_000 * MS);
        assert!(!pulse.is_suspect(start + 2_399 * MS, MS));
        assert!(pulse.is_suspect(start + 2_400 * MS, MS), "but it has to answer then");
    }

    #[test]
    fn the_round_trip_is_the_median_of_the_last_probes() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert_eq!(pulse.trip(), None);
        for (round, trip) in [900, 10, 12, 11, 800].into_iter().enumerate() {
            let at = start + Duration::from_secs(round as u64);
            let probe = pulse.probe(at);
            pulse.answered(probe, at + trip * MS);
        }
        assert_eq!(pulse.trip(), Some(12 * MS));
    }

    #[test]
    fn a_path_is_as_good_as_its_best_tunnel_and_lost_after_three_seconds_of_doubt() {
        let start = Instant::now();
        let mut path = Path::new(start);
        assert!(!path.judge([], start + MS) && !path.is_settled());
        assert!(path.judge([Seen::Suspect, Seen::Up], start + 2 * MS) && path.state() == State::Up);
        assert!(path.judge([Seen::Suspect], start + 1_000 * MS) && path.state() == State::Suspect);
        assert!(!path.judge([Seen::Suspect], start + 3_999 * MS));
        assert!(path.judge([Seen::Suspect], start + 4_000 * MS) && path.state() == State::Lost);
        assert!(!path.judge([Seen::Suspect], start + 4_001 * MS), "a suspect tunnel does not bring it back");
        assert!(path.judge([Seen::Draining], start + 4_002 * MS) && path.state() == State::Draining);
        assert!(path.judge([Seen::Up], start + 4_003 * MS));
        assert!(path.judge([], start + 4_004 * MS) && path.state() == State::Lost, "without a tunnel, at once");
        let mut never = Path::new(start);
        assert!(never.judge([], start + 3_000 * MS) && never.state() == State::Lost && never.is_settled());
    }
}
