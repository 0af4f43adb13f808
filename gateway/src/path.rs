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
    due: VecDeque<Due>,
    next: u64,
    trips: VecDeque<Duration>,
    wire: Wire,
}

/// A probe without an answer.
#[derive(Clone, Copy, Debug)]
struct Due {
    sequence: u64,
    sent: Instant,
    open: Open,
}

/// How long something is without an answer, but for the time in which this process stood still.
#[derive(Clone, Copy, Debug)]
struct Open {
    since: Instant,
    /// Whether it was given time once to read answers that had come meanwhile.
    spared: bool,
}

impl Open {
    fn new(since: Instant) -> Self {
        Self { since, spared: false }
    }

    /// This process did nothing between `from` and `now`.
    fn excuse(&mut self, from: Instant, now: Instant, limit: Duration) {
        self.since += now.saturating_duration_since(from.max(self.since));
        if !std::mem::replace(&mut self.spared, true) {
            self.since = self.since.max(now.checked_sub(limit / 2).unwrap_or(now));
        }
    }
}

/// What the transport sent and received. What it sends is acknowledged: that nothing comes is known sooner than by the
/// next probe, of every tunnel that is in use.
#[derive(Clone, Copy, Debug, Default)]
struct Wire {
    asked: u64,
    received: u64,
    unanswered: Option<Open>,
}

impl Pulse {
    /// Of a tunnel that came up at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { heard: now, due: VecDeque::new(), next: 0, trips: VecDeque::with_capacity(TRIPS), wire: Wire::default() }
    }

    /// A probe is sent at `now`; its sequence number.
    pub fn probe(&mut self, now: Instant) -> u64 {
        self.next += 1;
        if self.due.len() < MAX_DUE {
            self.due.push_back(Due { sequence: self.next, sent: now, open: Open::new(now) });
        }
        self.next
    }

    /// The answer to a probe: earlier ones are due no more either. Its round trip, when the probe is remembered.
    pub fn answered(&mut self, sequence: u64, now: Instant) -> Option<Duration> {
        self.heard(now);
        let sent = self.due.iter().find(|due| due.sequence == sequence).map(|due| due.sent);
        while self.due.front().is_some_and(|due| due.sequence <= sequence) {
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

    /// When anything was heard last.
    #[must_use]
    pub fn last_heard(&self) -> Instant {
        self.heard
    }

    /// How often the transport has sent in all what has to be acknowledged, and how many packets came, at `now`.
    pub fn carried(&mut self, asked: u64, received: u64, now: Instant) {
        if received != self.wire.received {
            self.wire.unanswered = None;
        } else if asked != self.wire.asked {
            self.wire.unanswered.get_or_insert(Open::new(now));
        }
        (self.wire.asked, self.wire.received) = (asked, received);
    }

    /// This process itself did nothing between `from` and `now`: that time is taken off what is due, and half of the limit is
    /// left once for answers that came meanwhile. What was overdue before it is so still: only an answer ends that.
    pub fn excuse(&mut self, from: Instant, now: Instant, rtt: Duration) {
        if self.is_suspect(from, rtt) {
            return;
        }
        let limit = limit(rtt);
        for due in &mut self.due {
            due.open.since = due.open.since.max(self.heard);
            due.open.excuse(from, now, limit);
        }
        if let Some(open) = &mut self.wire.unanswered {
            open.excuse(from, now, limit);
        }
    }

    /// Whether an answer is overdue.
    #[must_use]
    pub fn is_suspect(&self, now: Instant, rtt: Duration) -> bool {
        let overdue = |since: Instant| now.saturating_duration_since(since) >= limit(rtt);
        self.due.front().is_some_and(|due| overdue(self.heard.max(due.open.since)))
            || self.wire.unanswered.is_some_and(|open| overdue(open.since))
    }
}

/// Longer than this no answer takes.
fn limit(rtt: Duration) -> Duration {
    SUSPECT_AFTER.max(rtt * SUSPECT_TRIPS)
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

    /// This process did nothing between `from` and `now`: the path was not doubted for that long.
    pub fn excuse(&mut self, from: Instant, now: Instant) {
        if self.state == State::Suspect {
            self.since += now.saturating_duration_since(from.max(self.since));
        }
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
        pulse.excuse(start + 100 * MS, start + 2_000 * MS, MS);
        assert!(!pulse.is_suspect(start + 2_299 * MS, MS), "100 of 400 ms were over before it");
        assert!(pulse.is_suspect(start + 2_300 * MS, MS), "but it has to answer then");
        let mut late = Pulse::new(start);
        late.probe(start);
        late.excuse(start + 390 * MS, start + 2_000 * MS, MS);
        assert!(!late.is_suspect(start + 2_199 * MS, MS), "an answer that came meanwhile is to be read");
        assert!(late.is_suspect(start + 2_200 * MS, MS));
    }

    #[test]
    fn stalls_of_our_own_do_not_speak_for_who_was_silent_before() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let probe = pulse.probe(start);
        pulse.excuse(start + 400 * MS, start + 700 * MS, MS);
        assert!(pulse.is_suspect(start + 700 * MS, MS), "overdue before the stall, overdue after it");
        pulse.answered(probe, start + 701 * MS);
        assert!(!pulse.is_suspect(start + 701 * MS, MS));
        // Again and again: between the stalls there is time to answer.
        pulse.probe(start + 1_000 * MS);
        for stall in 0..4 {
            let from = start + (1_150 + stall * 450) * MS;
            pulse.excuse(from, from + 300 * MS, MS);
        }
        assert!(pulse.is_suspect(start + 2_800 * MS, MS), "though each of them was excused");
    }

    #[test]
    fn a_path_is_not_doubted_for_as_long_as_we_stood_still() {
        let start = Instant::now();
        let mut path = Path::new(start);
        path.judge([Seen::Up], start);
        path.judge([Seen::Suspect], start + 100 * MS);
        path.excuse(start + 200 * MS, start + 3_200 * MS);
        assert!(!path.judge([Seen::Suspect], start + 6_099 * MS));
        assert!(path.judge([Seen::Suspect], start + 6_100 * MS) && path.state() == State::Lost);
        path.excuse(start + 6_200 * MS, start + 9_000 * MS);
        assert_eq!(path.state(), State::Lost, "and nothing brings a lost one back but a tunnel");
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
