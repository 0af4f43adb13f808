use std::sync::Arc;

use super::*;

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn drain(over: u64, lasts: u64) -> Verb {
    let deed = Deed::Drain { cluster: name("eu"), over: Duration::from_secs(over) };
    let lasts = Duration::from_secs(lasts);
    Verb { name: deed.name(), deed, lasts, by: "ann".into(), reason: "kernel".into(), at_ms: 1 }
}

/// One cluster's verbs in virtual time, with a wall clock that may jump.
struct Story {
    verbs: Verbs,
    history: History,
    world: World,
    at: Moment,
}

impl Story {
    fn new() -> Self {
        let verbs = Verbs::restored(name("east"), OnDisk::default());
        let at = Moment { now: Duration::from_secs(1), unix_ms: 1_000_000 };
        Self { verbs, history: History::default(), world: World::default(), at }
    }

    fn pass(&mut self, seconds: u64) {
        self.at.now += Duration::from_secs(seconds);
        self.at.unix_ms += seconds * 1000;
        self.look(true);
    }

    fn look(&mut self, written: bool) -> bool {
        let bound_by = [name("east"), name("us")];
        let (at, before) = (self.at, Tally::default());
        let seen = Seen { at, world: &self.world, bound_by: &bound_by, written, before };
        self.verbs.look(&seen, &mut self.history)
    }

    fn hear(&mut self, from: &str, verb: Verb) {
        let said = self.world.contents.entry(name(from)).or_default();
        said.insert(Content::Verb(verb.clone()).key(), Arc::new(Content::Verb(verb)));
    }

    fn leaves(&self) -> f64 {
        self.verbs.leave(self.at.now, &ServiceName::new("a", "b").unwrap(), &name("eu")).0
    }

    fn told(&self) -> Vec<&str> {
        self.history.all().map(|event| event.what.as_str()).collect()
    }
}

#[test]
fn a_drain_leaves_less_and_less_ends_by_itself_and_is_remembered() {
    let mut story = Story::new();
    story.verbs.add(drain(100, 300));
    assert!(story.look(false));
    story.pass(50);
    assert!((story.leaves() - 0.5).abs() < 0.02, "{}", story.leaves());
    story.pass(200);
    assert!(story.leaves().abs() < 1e-9);
    story.pass(50);
    story.pass(1);
    assert!((story.leaves() - 1.0).abs() < 1e-9 && story.verbs.own().count() == 0);
    assert_eq!(story.told(), ["began", "ended"]);
}

#[test]
fn no_wall_clock_moves_a_verb_and_a_restart_counts_on() {
    let mut story = Story::new();
    story.hear("us", drain(100, 300));
    story.look(true);
    story.at.unix_ms += 3_600_000;
    story.pass(50);
    assert!((story.leaves() - 0.5).abs() < 0.02, "an hour's jump of the own clock: {}", story.leaves());
    story.at.unix_ms -= 3_600_000;
    story.verbs = Verbs::restored(name("east"), story.verbs.on_disk());
    story.at.now = Duration::from_secs(1);
    story.look(true);
    assert!((story.leaves() - 0.5).abs() < 0.02, "after a restart: {}", story.leaves());
    assert_eq!(story.told(), ["began"], "a restart is no beginning");
}

#[test]
fn verbs_of_who_is_no_operator_bind_nobody_but_a_cluster_may_drain_itself() {
    let mut story = Story::new();
    story.hear("stranger", drain(0, 300));
    story.pass(1);
    assert!((story.leaves() - 1.0).abs() < 1e-9);
    story.hear("eu", drain(0, 300));
    story.pass(1);
    assert!(story.leaves().abs() < 1e-9, "its own drain");
}

#[test]
fn a_verb_is_local_until_it_is_in_the_log() {
    let mut story = Story::new();
    story.verbs.add(drain(0, 300));
    story.look(true);
    let local = |story: &Story| story.verbs.list(story.at.now).all(|one| one.local);
    assert!(local(&story), "nobody can have taken it yet");
    story.at.now += Duration::from_secs(5);
    story.look(false);
    assert!(local(&story), "no quorum");
    story.look(true);
    assert!(!local(&story));
}

#[test]
fn a_drill_is_given_up_when_requests_fail_and_stays_so() {
    let mut story = Story::new();
    let deed = Deed::Drill { cluster: name("eu") };
    story.verbs.add(Verb { name: deed.name(), deed, ..drain(0, 300) });
    story.look(true);
    assert!(story.leaves().abs() < 1e-9);
    let failing = Tally { requests: 100, errors: 10, ..Tally::default() };
    story.verbs.judge_drills(1, &failing, &mut story.history);
    assert!((story.leaves() - 1.0).abs() < 1e-9);
    story.verbs.judge_drills(2, &failing, &mut story.history);
    assert_eq!(story.told(), ["began", "given up"]);
    assert!(story.verbs.take_back("drill-eu"));
    story.look(true);
    assert_eq!(story.told().last(), Some(&"ended"));
}
