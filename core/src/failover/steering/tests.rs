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

/// Another run of control: its clock begins anew, and it has seen no request yet.
fn restarted(story: &mut Story) {
    let waits = serde_json::to_string(&story.steering.waits()).unwrap();
    story.steering = Steering::restored(&story.steering.shares(), serde_json::from_str(&waits).unwrap());
    (story.now, story.window) = (Duration::from_secs(7), Window::default());
}

/// So many beats of ten requests each, of which so many fail; the share at the end.
fn sent(story: &mut Story, beats: u32, errors: u64) -> Tier {
    let mut last = None;
    for _ in 0..beats {
        let mut tally = super::super::window::Tally::default();
        (0..10).for_each(|nth| tally.count(nth < errors, Duration::from_millis(5)));
        story.window.add(story.now + BEAT, &tally);
        last = Some(story.run(1, (4, false, 1.0)));
    }
    last.unwrap()
}

/// Leaves for errors, and returns after two minutes.
fn strict() -> FailoverPolicy {
    serde_json::from_str(
        r#"{"leave": {"errorRate": {"above": 0.2, "over": "10s"}}, "failback": {"after": "2m", "ramp": "20s"}}"#,
    )
    .unwrap()
}

/// Beats without a request until there is a share again.
fn beats_until_it_returns(story: &mut Story) -> u32 {
    (1..2000).find(|_| story.run(1, (4, false, 1.0)).share > 0.0).unwrap()
}

#[test]
fn a_restart_of_control_moves_nothing() {
    let mut story = Story::new();
    story.run(1, (4, true, 1.0));
    let before = story.run(12, (4, false, 1.0)).share;
    restarted(&mut story);
    let after = story.run(1, (4, false, 1.0)).share;
    assert!((after - before).abs() < 0.02, "{before} then {after}");
}

#[test]
fn a_restart_forgets_no_errors() {
    let mut story = Story { policy: strict(), ..Story::new() };
    let left = sent(&mut story, 2, 9);
    assert_eq!(left.share, 0.0);
    story.run(40, (4, false, 1.0));
    restarted(&mut story);
    let still = story.run(1, (4, false, 1.0));
    assert_eq!((still.share, &still.members[0].why), (0.0, &left.members[0].why));
    assert!(still.members[0].next.starts_with("it is tried again in 100s, "), "{still:?}");
    let beats = beats_until_it_returns(&mut story);
    assert!((195..=201).contains(&beats), "{beats} beats of the 200 that were left");
}

#[test]
fn a_restart_forgets_no_wait_before_a_return() {
    for trouble in [(4, true, 1.0), (0, false, 1.0), (4, false, 0.0)] {
        let mut story = Story { policy: strict(), ..Story::new() };
        story.run(4, trouble);
        let waits = story.run(40, (4, false, 1.0));
        assert_eq!((waits.share, waits.members[0].why.as_str()), (0.0, "healthy again"));
        restarted(&mut story);
        let after = story.run(1, (4, false, 1.0));
        assert_eq!((after.share, after.members[0].why.as_str()), (0.0, "healthy again"));
        let beats = beats_until_it_returns(&mut story);
        assert!((190..=202).contains(&beats), "{beats} beats for {trouble:?}");
    }
}

#[test]
fn a_restart_lets_nothing_rise_that_errors_hold() {
    let mut story = Story { policy: strict(), ..Story::new() };
    sent(&mut story, 10, 9);
    beats_until_it_returns(&mut story);
    let held = sent(&mut story, 12, 2);
    assert!(held.members[0].why.starts_with("its share stays"), "{held:?}");
    restarted(&mut story);
    assert_eq!(story.run(10, (4, false, 1.0)).share, held.share);
}

#[test]
fn what_errors_left_is_tried_after_the_wait_and_not_after_twice_of_it() {
    let mut story = Story { policy: strict(), ..Story::new() };
    let left = sent(&mut story, 2, 9);
    assert!(left.members[0].next.contains("tried again in 2m, "), "{left:?}");
    let beats = beats_until_it_returns(&mut story);
    assert!((235..=241).contains(&beats), "{beats} beats of two minutes");
}

#[test]
fn a_wait_says_how_long_it_lasts() {
    let mut story = Story { policy: strict(), ..Story::new() };
    story.run(4, (2, false, 1.0));
    let waits = story.run(36, (4, false, 1.0));
    assert_eq!(waits.members[0].why, "healthy again");
    assert_eq!(waits.members[0].next, "it returns in 102s if it holds, along a ramp of 20s");
    let returns = story.run(206, (4, false, 1.0));
    assert_eq!(returns.members[0].why, "returning along the ramp", "{returns:?}");
}

#[test]
fn what_has_no_weight_holds_up_no_tier() {
    let steered = |name: &str, weight, healthy| {
        let member = Member { cluster: name.parse().unwrap(), weight, healthy, total: 4, capacity: None, cap: None };
        let (why, next, since) = Default::default();
        Steered { member, share: f64::from(healthy) / 4.0, why, next, since }
    };
    let tier = Tier::of("t", vec![steered("a", 1, 0), steered("b", 0, 4)], 0.7);
    assert_eq!(tier.share, 0.0, "nothing goes to a tier whose only healthy cluster has no part of it");
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

#[test]
fn where_nothing_is_healthy_and_all_is_to_be_tried_what_is_not_ready_gets_the_requests() {
    let steered = |name: &str, healthy: u32, total: u32| {
        let member = Member { cluster: name.parse().unwrap(), weight: 1, healthy, total, capacity: None, cap: None };
        let (why, next) = Default::default();
        Steered { member, share: 0.0, why, next, since: Duration::ZERO }
    };
    let tiers =
        |healthy| vec![Tier::of("t", vec![steered("a", 0, 0), steered("b", 0, 2), steered("c", healthy, 2)], 0.7)];
    let most = |healthy, when| {
        let parts = parts(&tiers(healthy), when);
        parts.into_iter().find(|(_, part)| *part > 0.0).map(|(cluster, part)| (cluster.to_string(), part))
    };
    let all = Some(WhenNothingHealthy::TryAll);
    assert_eq!(most(0, all), Some(("b".to_owned(), 1.0)));
    assert_eq!(most(1, all), Some(("c".to_owned(), 1.0)), "what is healthy comes first, though it was left");
    assert_eq!(most(0, None), None);
    assert_eq!(most(1, Some(WhenNothingHealthy::Fail)), None);
}
