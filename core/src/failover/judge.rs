//! What a cluster concludes about another one: dead, blind, cut off, or fine (DESIGN.md decisions 25 and 26).
//!
//! ```text
//!             path up                    path lost for 2 s
//! lease held  Alive / MemberDown         CutOff: left, endpoints kept
//! lease lost  Blind: used, frozen        Dead: left
//! ```
//! A cluster that was left is Returning once path and lease have held for the stable time: its share climbs along a
//! ramp. Each further loss in a window doubles the stable time, so a flapping link moves traffic once a stable time.
//! When this machine itself stalled, every silence is measured again: a stall here proves nothing about anyone else.
//!
//! Time is an argument: a monotonic clock's reading since one fixed moment. Decide every [`BEAT`].

use std::time::Duration;

use crate::model::Standing;

/// How often decisions are made.
pub const BEAT: Duration = Duration::from_millis(500);
/// A cluster is left when its path is lost for so long.
pub const LEAVE_AFTER: Duration = Duration::from_secs(2);
/// A lease not heard for so long, by both ways, is lost; one comes each second.
pub const LEASE_LOST_AFTER: Duration = Duration::from_secs(4);
/// Path and lease must hold so long before a cluster that was left is returned to.
pub const STABLE: Duration = Duration::from_secs(3);
/// The longest that flapping makes the stable time.
pub const STABLE_MOST: Duration = Duration::from_secs(60);
/// A loss within so long of the last one is flapping.
pub const FLAP_WINDOW: Duration = Duration::from_secs(300);
/// The whole ramp; [`super::climb::curve`] is its shape.
pub const RAMP: Duration = Duration::from_secs(20);
/// Decisions further apart than this mean that we stalled.
const STALL: Duration = Duration::from_secs(1);

/// The best path to the cluster, of all own gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Answers come.
    Up,
    /// An answer is overdue, or no tunnel is there.
    Lost,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// How the cluster stands.
    pub standing: Standing,
    /// The part of its traffic it shall get, 0 to 1.
    pub share: f64,
    /// Why, for people.
    pub why: &'static str,
    /// Since when it stands so.
    pub since: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never seen yet.
    New,
    /// In use.
    Used,
    /// Left; not before path and lease hold for the stable time.
    Left,
    /// Coming back along the ramp.
    Returning { since: Duration },
}

/// Everything known of one remote cluster, and the decision on it.
#[derive(Clone, Debug)]
pub struct Judge {
    path: Option<Path>,
    path_since: Duration,
    lease: Option<(Duration, bool)>,
    /// Since when path and lease both hold.
    good_since: Option<Duration>,
    state: State,
    flaps: u32,
    left_at: Option<Duration>,
    decided_at: Option<Duration>,
    decision: Decision,
}

impl Judge {
    /// Of a cluster nothing is known of: nothing is held against it.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        let decision =
            Decision { standing: Standing::Unknown, share: 1.0, why: "no path has been seen yet", since: now };
        Self {
            path: None,
            path_since: now,
            lease: None,
            good_since: None,
            state: State::New,
            flaps: 0,
            left_at: None,
            decided_at: None,
            decision,
        }
    }

    /// Of a cluster that an earlier run of this control had left or not: a restart changes nothing.
    #[must_use]
    pub fn restored(now: Duration, standing: Standing, share: f64) -> Self {
        let mut judge = Self::new(now);
        let left = matches!(standing, Standing::Dead | Standing::CutOff) || standing == Standing::Returning;
        judge.state = if left { State::Left } else { State::New };
        judge.path_since = now;
        judge.decision.standing = standing;
        judge.decision.share = if left { 0.0 } else { share.clamp(0.0, 1.0) };
        judge.decision.why = "as decided before this control restarted";
        judge
    }

    /// What the own gateways say of the path.
    pub fn path(&mut self, now: Duration, path: Path) {
        if self.path != Some(path) {
            self.path = Some(path);
            self.path_since = now;
        }
    }

    /// A lease was heard, by whichever way; `member`: its control has its federation member.
    pub fn lease(&mut self, now: Duration, member: bool) {
        self.lease = Some((now, member));
    }

    /// When the last lease was heard.
    #[must_use]
    pub fn lease_heard(&self) -> Option<Duration> {
        self.lease.map(|(at, _)| at)
    }

    /// Decides; the same inputs give the same decision.
    pub fn decide(&mut self, now: Duration) -> Decision {
        self.forgive_own_stall(now);
        let lease = self.lease.filter(|(at, _)| now.saturating_sub(*at) < LEASE_LOST_AFTER);
        let up = self.path == Some(Path::Up);
        self.good_since = if up && lease.is_some() { self.good_since.or(Some(now)) } else { None };
        self.state = self.next_state(now, up);
        let (standing, why) = self.standing(lease.map(|(_, member)| member), up);
        let share = self.share(now);
        let since = if standing == self.decision.standing { self.decision.since } else { now };
        self.decision = Decision { standing, share, why, since };
        self.decision
    }

    /// The last decision.
    #[must_use]
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// How long path and lease must hold now before a return.
    #[must_use]
    pub fn stable_time(&self) -> Duration {
        STABLE.saturating_mul(1 << self.flaps.min(5)).min(STABLE_MOST)
    }

    fn forgive_own_stall(&mut self, now: Duration) {
        let before = self.decided_at.replace(now);
        let gap = before.map_or(Duration::ZERO, |before| now.saturating_sub(before));
        if gap > STALL {
            let lost = gap.saturating_sub(BEAT);
            self.path_since = (self.path_since + lost).min(now);
            self.lease = self.lease.map(|(at, member)| ((at + lost).min(now), member));
            self.good_since = self.good_since.map(|at| (at + lost).min(now));
        }
    }

    fn next_state(&mut self, now: Duration, up: bool) -> State {
        let lost = self.path == Some(Path::Lost) && now.saturating_sub(self.path_since) >= LEAVE_AFTER;
        let stable = self.good_since.is_some_and(|since| now.saturating_sub(since) >= self.stable_time());
        // Before a lease can be missed somebody has to have listened for as long.
        let listened = self.lease.is_some() || now.saturating_sub(self.path_since) >= LEASE_LOST_AFTER;
        match self.state {
            State::New if up && listened => State::Used,
            State::Used | State::Returning { .. } | State::New if lost => self.leave(now),
            State::Left if stable => State::Returning { since: now },
            State::Returning { since } if now.saturating_sub(since) >= RAMP => State::Used,
            state => state,
        }
    }

    fn leave(&mut self, now: Duration) -> State {
        let again = self.left_at.is_some_and(|at| now.saturating_sub(at) < FLAP_WINDOW);
        self.flaps = if again { self.flaps.saturating_add(1) } else { 0 };
        self.left_at = Some(now);
        State::Left
    }

    fn standing(&self, lease: Option<bool>, up: bool) -> (Standing, &'static str) {
        match (self.state, lease) {
            (State::New, _) if up && self.decision.standing == Standing::Unknown => {
                (Standing::Unknown, "the path is up, and its control is listened for")
            }
            (State::New, _) => (self.decision.standing, self.decision.why),
            (State::Left, Some(_)) if up => (Standing::CutOff, "the path is back; it must hold before traffic returns"),
            (State::Left, Some(_)) => (Standing::CutOff, "no path to it, but its control is heard by way of others"),
            (State::Left, None) if up => (Standing::Dead, "the path is back, but its control is not heard yet"),
            (State::Left, None) => (Standing::Dead, "no path to it, and its control is not heard"),
            (State::Returning { .. }, _) => {
                (Standing::Returning, "path and lease hold again; traffic returns along the ramp")
            }
            (State::Used, None) if up => {
                (Standing::Blind, "the path is up, but its control is not heard; its endpoints are used as last known")
            }
            (State::Used, Some(false)) => (Standing::MemberDown, "its control is heard, but has no federation member"),
            (State::Used, _) => (Standing::Alive, "path and lease hold"),
        }
    }

    fn share(&self, now: Duration) -> f64 {
        match self.state {
            State::New => self.decision.share,
            State::Used => 1.0,
            State::Left => 0.0,
            State::Returning { since } => ramp(now.saturating_sub(since)),
        }
    }
}

/// The share so long after the return began: up to a fifth in the first 5 s, then evenly to all of it.
#[must_use]
pub fn ramp(after: Duration) -> f64 {
    super::climb::curve(after.as_secs_f64() / RAMP.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A peer in virtual time: what it shows each beat, and what is decided.
    #[derive(Clone)]
    struct Story {
        judge: Judge,
        now: Duration,
    }

    impl Story {
        fn new() -> Self {
            let mut story = Self { judge: Judge::new(Duration::ZERO), now: Duration::ZERO };
            story.run(4, Path::Up, Some(true));
            story
        }

        fn run(&mut self, beats: u32, path: Path, lease: Option<bool>) -> Decision {
            for _ in 0..beats {
                self.now += BEAT;
                self.judge.path(self.now, path);
                if let Some(member) = lease {
                    self.judge.lease(self.now, member);
                }
                self.judge.decide(self.now);
            }
            self.judge.decision()
        }
    }

    #[test]
    fn who_begins_to_listen_calls_nobody_blind_before_a_lease_could_have_come() {
        let new = Judge::new(Duration::ZERO);
        let other = Judge::restored(Duration::ZERO, Standing::Alive, 1.0);
        for (judge, standing) in [(new, Standing::Unknown), (other, Standing::Alive)] {
            let mut story = Story { judge, now: Duration::ZERO };
            let begun = story.run(2, Path::Up, None);
            assert_eq!((begun.standing, begun.share), (standing, 1.0));
            assert_eq!(story.clone().run(1, Path::Up, Some(true)).standing, Standing::Alive);
            assert_eq!(story.run(6, Path::Up, None).standing, standing);
            assert_eq!(story.run(1, Path::Up, None).standing, Standing::Blind);
        }
    }

    #[test]
    fn a_dead_cluster_is_left_after_two_seconds_and_returned_to_along_the_ramp() {
        let mut story = Story::new();
        assert_eq!(story.judge.decision().standing, Standing::Alive);
        assert!((story.run(4, Path::Lost, None).share - 1.0).abs() < f64::EPSILON);
        let left = story.run(1, Path::Lost, None);
        assert_eq!((left.share, left.standing), (0.0, Standing::CutOff));
        assert_eq!(story.run(6, Path::Lost, None).standing, Standing::Dead);
        assert_eq!(story.run(6, Path::Up, Some(true)).share, 0.0);
        assert_eq!(story.run(1, Path::Up, Some(true)).standing, Standing::Returning);
        assert!(story.run(9, Path::Up, Some(true)).share <= 0.2);
        let whole = story.run(31, Path::Up, Some(true));
        assert_eq!((whole.share, whole.standing), (1.0, Standing::Alive));
    }

    #[test]
    fn a_cluster_whose_control_dies_is_blind_and_keeps_its_traffic_for_ever() {
        let mut story = Story::new();
        let blind = story.run(7200, Path::Up, None);
        assert_eq!((blind.share, blind.standing), (1.0, Standing::Blind));
        assert_eq!(story.run(1, Path::Up, Some(false)).standing, Standing::MemberDown);
        assert_eq!(story.run(1, Path::Up, Some(true)).standing, Standing::Alive);
    }

    #[test]
    fn a_stall_of_our_own_proves_nothing() {
        let mut story = Story::new();
        story.run(1, Path::Lost, Some(true));
        story.now += Duration::from_secs(20);
        let decision = story.judge.decide(story.now);
        assert_eq!((decision.share, decision.standing), (1.0, Standing::Alive));
        assert_eq!(story.run(5, Path::Lost, None).share, 0.0);
    }

    #[test]
    fn a_link_that_flaps_is_returned_to_later_each_time() {
        let mut story = Story::new();
        story.run(6, Path::Lost, Some(true));
        assert_eq!(story.judge.stable_time(), STABLE);
        story.run(8, Path::Up, Some(true));
        story.run(6, Path::Lost, Some(true));
        assert_eq!(story.judge.stable_time(), STABLE * 2);
        assert_eq!(story.run(8, Path::Up, Some(true)).share, 0.0);
    }

    proptest! {
        #[test]
        fn shares_are_parts_and_noise_shorter_than_the_limits_moves_nothing(
            noise in proptest::collection::vec((1u32..4, 1u32..8, 0u32..8), 1..40),
        ) {
            let mut story = Story::new();
            for (lost, up, silent) in noise {
                prop_assert!((story.run(lost, Path::Lost, Some(true)).share - 1.0).abs() < f64::EPSILON);
                story.run(up, Path::Up, Some(true));
                prop_assert!((story.run(silent, Path::Up, None).share - 1.0).abs() < f64::EPSILON);
            }
        }

        #[test]
        fn the_ramp_never_falls_and_is_a_part(a in 0u64..40_000, b in 0u64..40_000) {
            let (a, b) = (a.min(b), a.max(b));
            let (low, high) = (ramp(Duration::from_millis(a)), ramp(Duration::from_millis(b)));
            prop_assert!(low <= high && (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert!(b >= 5000 || high <= 0.2);
        }

        #[test]
        fn any_history_gives_a_share_and_at_most_one_return_in_a_stable_time(
            history in proptest::collection::vec((any::<bool>(), proptest::option::of(any::<bool>()), 1u32..12), 1..80),
        ) {
            let mut story = Story::new();
            let mut last_return: Option<Duration> = None;
            for (up, lease, beats) in history {
                for _ in 0..beats {
                    let before = story.judge.decision().standing;
                    let decision = story.run(1, if up { Path::Up } else { Path::Lost }, lease);
                    prop_assert!((0.0..=1.0).contains(&decision.share));
                    if decision.standing == Standing::Returning && before != Standing::Returning {
                        prop_assert!(last_return.is_none_or(|at| story.now - at >= STABLE));
                        last_return = Some(story.now);
                    }
                }
            }
        }
    }
}
