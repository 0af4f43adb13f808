use proptest::prelude::*;

use super::*;
use crate::failover::{BEAT, window::Tally};

fn name() -> ClusterName {
    "west".parse().unwrap()
}

fn order(healthy: u32, total: u32) -> Order {
    let member = Member { cluster: name(), weight: 1, healthy, total, capacity: None, cap: None };
    Order { tiers: vec![super::super::order::Tier { name: "t".into(), members: vec![member] }], ..Order::default() }
}

/// One cluster in virtual time.
struct Story {
    steering: Steering,
    policy: FailoverPolicy,
    window: Window,
    now: Duration,
}

/// What a beat shows: healthy of four, left by the judge, what verbs leave.
type Shown = (u32, bool, f64);

impl Story {
    fn new() -> Self {
        let mut story = Self {
            steering: Steering::default(),
            policy: FailoverPolicy::default(),
            window: Window::default(),
            now: Duration::ZERO,
        };
        story.run(2, (4, false, 1.0));
        story
    }

    fn run(&mut self, beats: u32, (healthy, left, verbs): Shown) -> Tier {
        let mut decided = vec![];
        for _ in 0..beats {
            self.now += BEAT;
            let sight = sight(&self.window, left, verbs);
            decided = self.steering.decide(self.now, &order(healthy, 4), &self.policy, |_| sight.clone());
        }
        decided.remove(0)
    }

    fn settled(&self, (healthy, left, verbs): Shown) -> Tier {
        let sight = sight(&self.window, left, verbs);
        self.steering.settled(self.now, &order(healthy, 4), &self.policy, |_| sight.clone()).remove(0)
    }
}

fn sight(window: &Window, left: bool, verbs: f64) -> Sight<'_> {
    let standing = (if left { Standing::Dead } else { Standing::Alive }, "no path to it");
    Sight { left, standing, verbs: (verbs, "drain of west over 10m"), window }
}

#[test]
fn what_was_never_used_is_used_wholly_as_soon_as_it_can_serve() {
    let mut story = Story { steering: Steering::default(), ..Story::new() };
    assert_eq!(story.run(3, (0, false, 1.0)).share, 0.0);
    assert!((story.run(1, (4, false, 1.0)).share - 1.0).abs() < 1e-9, "it was in no trouble");
}

#[test]
fn a_cluster_that_was_left_returns_along_the_ramp_at_once_when_the_judge_lets_it() {
    let mut story = Story::new();
    let left = story.run(1, (4, true, 1.0));
    assert_eq!((left.share, left.members[0].why.as_str()), (0.0, "no path to it"));
    let back = story.run(1, (4, false, 1.0));
    assert!(back.share > 0.0 && back.share <= 0.03, "{back:?}");
    assert!(story.run(9, (4, false, 1.0)).share <= 0.2);
    assert!((story.run(31, (4, false, 1.0)).share - 1.0).abs() < 1e-9);
}

#[test]
fn unready_endpoints_give_on_their_part_at_once_and_get_it_back_after_a_while() {
    let mut story = Story::new();
    let half = story.run(1, (2, false, 1.0));
    assert!((half.share - 0.5 / 0.7).abs() < 1e-3);
    assert_eq!(half.members[0].why, "2 of 4 endpoints healthy");
    let before = story.run(5, (4, false, 1.0));
    assert!((before.share - 0.5 / 0.7).abs() < 1e-3, "not before it held for 3 s: {before:?}");
    assert!(story.run(4, (4, false, 1.0)).share > 0.72);
    assert!((story.run(40, (4, false, 1.0)).share - 1.0).abs() < 1e-9);
}

#[test]
fn a_cluster_that_comes_back_empty_handed_gets_nothing_before_it_can_serve() {
    let mut story = Story::new();
    story.run(4, (4, true, 1.0));
    for _ in 0..20 {
        assert_eq!(story.run(1, (0, false, 1.0)).share, 0.0);
    }
    assert_eq!(story.run(6, (4, false, 1.0)).share, 0.0);
    let back = story.run(3, (4, false, 1.0)).share;
    assert!(back > 0.0 && back < 0.06, "{back}");
}

#[test]
fn a_drain_that_meets_a_death_holds_and_moves_nothing_back() {
    let mut story = Story::new();
    let mut last = 1.0;
    for beat in 0..60u32 {
        let leaves = (1.0 - f64::from(beat) / 40.0).max(0.0);
        // It dies in the middle of it and comes back before the end.
        let share = story.run(1, (4, (15..30).contains(&beat), leaves)).share;
        assert!(share <= last || share <= leaves, "beat {beat}: {share} after {last}");
        last = share;
    }
    assert_eq!(last, 0.0);
    let undrained = story.run(8, (4, false, 1.0));
    assert!(undrained.share > 0.0 && undrained.share < 0.1, "back along the ramp: {undrained:?}");
}

#[test]
fn a_restart_of_control_moves_nothing() {
    let mut story = Story::new();
    story.run(1, (4, true, 1.0));
    let before = story.run(12, (4, false, 1.0)).share;
    story.steering = Steering::restored(&story.steering.shares());
    let after = story.run(1, (4, false, 1.0)).share;
    assert!((after - before).abs() < 0.02, "{before} then {after}");
}

#[test]
fn a_floor_leaves_a_cluster_that_has_fewer() {
    let mut story = Story::new();
    story.policy.leave.healthy_at_least = 3;
    assert_eq!(story.run(1, (2, false, 1.0)).share, 0.0);
    assert!((story.run(100, (3, false, 1.0)).share - 1.0).abs() < 1e-9);
}

#[test]
fn what_requests_have_left_is_not_taken_for_returned() {
    let mut story = Story::new();
    story.policy.leave.error_rate =
        serde_json::from_str::<FailoverPolicy>(r#"{"leave": {"errorRate": {"above": 0.5, "over": "5s"}}}"#)
            .unwrap()
            .leave
            .error_rate;
    story.window.add(story.now, &Tally { requests: 100, errors: 100, ..Tally::default() });
    assert_eq!(story.settled((4, false, 1.0)).share, 0.0, "nobody has judged it yet");
    assert_eq!(story.run(1, (4, false, 1.0)).share, 0.0);
    story.window = Window::default();
    assert_eq!(story.settled((4, false, 1.0)).share, 0.0);
}

fn shown() -> impl Strategy<Value = (u32, bool, f64)> {
    (0u32..=4, proptest::bool::weighted(0.2), prop_oneof![Just(1.0), 0.0f64..=1.0])
}

proptest! {
    #[test]
    fn worse_health_never_draws_more_traffic(history in proptest::collection::vec((shown(), shown()), 1..80)) {
        let (mut good, mut bad) = (Story::new(), Story::new());
        for (a, b) in history {
            let better = good.run(1, (a.0.max(b.0), a.1 && b.1, a.2.max(b.2)));
            let worse = bad.run(1, (a.0.min(b.0), a.1 || b.1, a.2.min(b.2)));
            prop_assert!(worse.share <= better.share + 2e-3, "{worse:?} above {better:?}");
        }
    }

    #[test]
    fn what_is_settled_is_what_decisions_come_to(
        history in proptest::collection::vec(shown(), 0..40), last in shown(),
    ) {
        let mut story = Story::new();
        history.into_iter().for_each(|shown| drop(story.run(1, shown)));
        let settled = story.settled(last);
        let decided = story.run(100, last);
        prop_assert_eq!((settled.share, settled.members[0].share), (decided.share, decided.members[0].share));
    }

    #[test]
    fn equal_inputs_give_equal_outputs(history in proptest::collection::vec(shown(), 1..40)) {
        let (mut one, mut other) = (Story::new(), Story::new());
        for shown in history {
            prop_assert_eq!(one.run(1, shown), other.run(1, shown));
        }
    }

    #[test]
    fn noise_above_the_trigger_moves_nothing(history in proptest::collection::vec(3u32..=4, 1..60)) {
        let mut story = Story::new();
        for healthy in history {
            prop_assert!((story.run(1, (healthy, false, 1.0)).share - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn what_flaps_faster_than_it_may_return_moves_once(flaps in 1u32..20) {
        let mut story = Story::new();
        story.run(1, (1, false, 1.0));
        let low = story.run(1, (1, false, 1.0)).share;
        for _ in 0..flaps {
            prop_assert!((story.run(4, (4, false, 1.0)).share - low).abs() < 1e-9);
            prop_assert!((story.run(2, (1, false, 1.0)).share - low).abs() < 1e-9);
        }
    }
}
