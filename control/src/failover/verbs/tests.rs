use std::{cell::RefCell, sync::Arc};

use isthmus_core::{
    failover::{drill::Shown, verb::Ended},
    name::ServiceName,
};

use super::*;
use crate::{failover::history::Event, heard::Member};

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn drain(over: u64, lasts: u64) -> Verb {
    let deed = Deed::Drain { cluster: name("eu"), over: Duration::from_secs(over) };
    let lasts = Duration::from_secs(lasts);
    let (elapsed, ended) = Default::default();
    Verb { name: deed.name(), deed, lasts, by: "ann".into(), reason: "kernel".into(), at_ms: 1, elapsed, ended }
}

fn drill(lasts: u64) -> Verb {
    let deed = Deed::Drill { cluster: name("eu") };
    Verb { name: deed.name(), deed, ..drain(0, lasts) }
}

fn back(by: &str, reason: &str) -> Ended {
    Ended { by: Some(by.into()), reason: reason.into() }
}

fn service() -> ServiceName {
    ServiceName::new("a", "b").unwrap()
}

/// One service and how it goes.
#[derive(Default)]
struct Road {
    before: Shown,
    now: RefCell<Shown>,
    nowhere: RefCell<bool>,
    needs: bool,
}

impl Traffic for Road {
    fn before(&self) -> Baselines {
        [(service(), Baseline { shown: self.before, placed: !*self.nowhere.borrow() })].into()
    }

    fn services(&self) -> Vec<ServiceName> {
        vec![service()]
    }

    fn shown(&self, _: &ServiceName, since: Duration) -> Vec<Shown> {
        assert!(since > Duration::from_secs(1), "nothing of the time before a drill is judged");
        vec![*self.now.borrow()]
    }

    fn is_placed(&self, _: &ServiceName) -> bool {
        !*self.nowhere.borrow()
    }

    fn needs(&self, _: &ServiceName, _: &ClusterName) -> bool {
        self.needs
    }
}

/// One cluster's verbs in virtual time, with a wall clock that may jump.
struct Story {
    verbs: Verbs,
    history: History,
    world: World,
    at: Moment,
    road: Road,
}

impl Story {
    fn new() -> Self {
        let verbs = Verbs::restored(name("east"), OnDisk::default());
        let at = Moment { now: Duration::from_secs(1), unix_ms: 1_000_000 };
        let (history, mut world, road) = <(History, World, Road)>::default();
        for other in ["us", "eu", "stranger"] {
            let (roots, key, addresses, operator) = Default::default();
            let trust_domain = name(other).trust_domain(&"mesh.test".parse().unwrap());
            world.members.insert(name(other), Member { trust_domain, roots, key, addresses, operator });
        }
        Self { verbs, history, world, at, road }
    }

    /// The same control, begun anew.
    fn restart(&mut self) {
        self.verbs = Verbs::restored(name("east"), self.verbs.on_disk());
        self.at.now = Duration::from_secs(1);
        self.look(true);
    }

    fn pass(&mut self, seconds: u64) {
        self.at.now += Duration::from_secs(seconds);
        self.at.unix_ms += seconds * 1000;
        self.look(true);
    }

    fn look(&mut self, is_written: bool) -> bool {
        let bound_by = [name("east"), name("us")];
        let written: Vec<_> = self.verbs.own().filter(|_| is_written).cloned().collect();
        let (at, world, traffic) = (self.at, &self.world, &self.road);
        let seen = Seen { at, world, bound_by: &bound_by, written: &written, traffic };
        self.verbs.look(&seen, &mut self.history)
    }

    fn hear(&mut self, from: &str, verb: Verb) {
        let said = self.world.contents.entry(name(from)).or_default();
        said.insert(Content::Verb(verb.clone()).key(), Arc::new(Content::Verb(verb)));
    }

    fn leaves(&self) -> f64 {
        self.verbs.leave(self.at.now, &service(), &name("eu")).0
    }

    fn told(&self) -> Vec<&str> {
        self.history.all().map(|event| event.what.as_str()).collect()
    }

    fn last(&self) -> &Event {
        self.history.all().last().unwrap()
    }

    /// What another cluster says under this name no more.
    fn unsay(&mut self, from: &str) {
        self.world.contents.remove(&name(from));
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
    assert!((story.leaves() - 1.0).abs() < 1e-9 && story.verbs.list(story.at.now).count() == 0);
    assert_eq!(story.told(), ["began for 5m", "its time was over"]);
    assert_eq!(story.last().by, "", "nobody took it back");
    assert!(story.verbs.own().any(|verb| verb.ended == Some(Ended::default())), "the others are told");
    story.pass(3601);
    assert_eq!(story.verbs.own().count(), 0, "for an hour");
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
    story.restart();
    assert!((story.leaves() - 0.5).abs() < 0.02, "after a restart: {}", story.leaves());
    assert_eq!(story.told(), ["began for 5m"], "a restart is no beginning");
}

#[test]
fn verbs_of_who_is_no_operator_bind_nobody_but_a_cluster_may_drain_itself() {
    let mut story = Story::new();
    story.hear("stranger", drain(0, 300));
    story.pass(1);
    assert!((story.leaves() - 1.0).abs() < 1e-9);
    let told = story.last();
    assert_eq!(told.what, "began for 5m, but not here");
    assert_eq!(told.why, "kernel (stranger is none of the operators of east)");
    story.hear("eu", drain(0, 300));
    story.pass(1);
    assert!(story.leaves().abs() < 1e-9, "its own drain");
}

#[test]
fn a_verb_is_local_until_it_is_in_the_log_and_so_is_its_end() {
    let mut story = Story::new();
    story.verbs.add(drain(0, 300));
    story.look(false);
    let local = |story: &Story| story.verbs.list(story.at.now).all(|one| one.local);
    story.at.now += Duration::from_secs(5);
    story.look(false);
    assert!(local(&story), "no quorum");
    story.look(true);
    assert!(!local(&story));
    story.look(false);
    assert!(!local(&story), "what was written stays so");
    story.verbs.take_back("drain-eu", back("bob", ""));
    story.look(false);
    assert!(!story.verbs.is_written("drain-eu"));
    story.look(true);
    assert!(story.verbs.is_written("drain-eu"));
}

#[test]
fn a_drill_is_given_up_when_requests_of_a_service_fail_and_stays_so() {
    let mut story = Story::new();
    story.road.before = Shown { requests: 100, failed: 1 };
    story.verbs.add(drill(300));
    story.look(true);
    *story.road.now.borrow_mut() = Shown { requests: 100, failed: 2 };
    story.pass(1);
    assert!(story.leaves().abs() < 1e-9, "as before");
    *story.road.now.borrow_mut() = Shown { requests: 100, failed: 30 };
    assert!(story.look(true), "what it leaves changes");
    assert!((story.leaves() - 1.0).abs() < 1e-9);
    story.pass(1);
    story.restart();
    assert_eq!(story.told(), ["began for 5m", "given up"]);
    assert_eq!(story.last().why, "a/b: 30.0 % of requests fail, 1.0 % before the drill (30 of 100)");
    assert!(story.verbs.take_back("drill-eu", back("bob", "it was stopped")));
    story.look(true);
    assert_eq!((story.last().what.as_str(), story.last().by.as_str()), ("taken back", "bob at east"));
}

#[test]
fn a_restart_forgets_nothing_of_how_it_was_before_a_drill() {
    let mut story = Story::new();
    story.road.before = Shown { requests: 100, failed: 30 };
    story.verbs.add(drill(300));
    story.look(true);
    story.road.before = Shown::default();
    *story.road.now.borrow_mut() = Shown { requests: 100, failed: 30 };
    story.restart();
    assert_eq!(story.told(), ["began for 5m"], "they failed before");
}

#[test]
fn a_drill_is_given_up_before_a_service_has_nowhere_to_go_and_when_one_has_none_any_more() {
    let mut story = Story::new();
    story.road.needs = true;
    story.verbs.add(drill(300));
    story.look(true);
    assert!((story.leaves() - 1.0).abs() < 1e-9, "no request was refused for it");
    assert_eq!(story.last().why, "a/b would have nowhere to go, because nothing but eu can serve it");
    let mut story = Story::new();
    story.verbs.add(drill(300));
    story.look(true);
    assert_eq!(story.told(), ["began for 5m"]);
    *story.road.nowhere.borrow_mut() = true;
    story.pass(1);
    assert_eq!(story.last().why, "a/b has nowhere to go");
    let mut story = Story::new();
    *story.road.nowhere.borrow_mut() = true;
    story.verbs.add(drill(300));
    story.pass(1);
    assert_eq!(story.told(), ["began for 5m"], "it had nowhere to go before either");
}

#[test]
fn who_took_a_verb_back_and_why_is_told_everywhere() {
    let mut story = Story::new();
    story.verbs.add(drain(0, 300));
    story.look(true);
    assert!(story.verbs.take_back("drain-eu", back("bob", "the kernel is new")));
    assert!(!story.verbs.take_back("drain-eu", back("cid", "")), "once");
    story.look(false);
    assert!((story.leaves() - 1.0).abs() < 1e-9 && !story.verbs.is_written("drain-eu"));
    let said: Vec<_> = story.verbs.own().cloned().collect();
    let mut other = Story::new();
    other.hear("us", drain(0, 300));
    other.look(true);
    other.verbs = Verbs::restored(name("east"), other.verbs.on_disk());
    other.hear("us", said[0].clone());
    other.look(true);
    other.look(true);
    for (story, at) in [(&story, "east"), (&other, "us")] {
        assert_eq!(story.told(), ["began for 5m", "taken back"]);
        let last = story.last();
        assert_eq!((last.why.as_str(), last.by.clone()), ("the kernel is new", format!("bob at {at}")));
    }
}

#[test]
fn a_verb_that_is_done_again_replaces_the_last() {
    let mut story = Story::new();
    story.hear("us", drain(0, 300));
    story.look(true);
    story.hear("us", Verb { at_ms: 2, ..drain(0, 600) });
    story.look(true);
    assert_eq!(story.told(), ["began for 5m", "replaced", "began for 10m"]);
    story.unsay("us");
    story.look(true);
    assert_eq!((story.last().what.as_str(), story.last().why.as_str()), ("ended", "us does not say it any more"));
}

#[test]
fn a_verb_whose_writer_died_is_over_by_the_own_count_and_told_once() {
    let mut story = Story::new();
    story.hear("us", drain(0, 300));
    story.look(true);
    story.pass(299);
    assert!(story.leaves().abs() < 1e-9);
    story.pass(1);
    assert_eq!(story.verbs.list(story.at.now).count(), 0, "it is shown no more");
    story.restart();
    story.hear("us", Verb { ended: Some(Ended::default()), ..drain(0, 300) });
    story.look(true);
    assert_eq!(story.told(), ["began for 5m", "its time was over"]);
}

#[test]
fn who_hears_late_of_a_verb_does_not_count_it_anew() {
    let mut writer = Story::new();
    writer.verbs.add(drain(0, 300));
    writer.look(true);
    writer.pass(100);
    let said: Vec<_> = writer.verbs.own().cloned().collect();
    assert_eq!(said[0].elapsed, Duration::from_secs(100));
    let mut late = Story::new();
    late.hear("us", said[0].clone());
    late.look(true);
    late.pass(199);
    assert!(late.leaves().abs() < 1e-9);
    late.pass(1);
    assert_eq!(late.told(), ["began for 5m", "its time was over"], "at the moment when its writer ends it");
}
