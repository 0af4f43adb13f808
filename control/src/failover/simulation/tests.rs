use isthmus_core::{
    failover::{
        BEAT,
        order::{Member, Order, Tier as Ordering},
        verb::{Deed, Verb},
    },
    model::Standing,
};
use isthmus_wire::feed::ServiceEvidence;
use proptest::prelude::*;

use super::*;
use crate::{
    decider::{Decider, Verdict},
    failover::{Heard, Moment, OnDisk},
    heard::World,
};

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn service() -> ServiceName {
    ServiceName::new("shop", "cart").unwrap()
}

/// A cluster of an order: its name, its weight, its healthy endpoints of four, its limit.
type Offer = (&'static str, u32, u32, Option<f64>);

fn orders(tiers: &[Vec<Offer>]) -> BTreeMap<ServiceName, Ordered> {
    let member = |(cluster, weight, healthy, cap): &Offer| Member {
        cluster: name(cluster),
        weight: *weight,
        healthy: *healthy,
        total: 4,
        capacity: None,
        cap: *cap,
    };
    let tier = |offers: &Vec<Offer>| Ordering { name: "t".into(), members: offers.iter().map(member).collect() };
    let order = Order { tiers: tiers.iter().map(tier).collect(), ..Order::default() };
    [(service(), Ordered { order, ..Ordered::default() })].into()
}

/// The control of us-east, in virtual time.
struct Story {
    failover: Failover,
    decider: Decider,
    orders: BTreeMap<ServiceName, Ordered>,
    now: Duration,
}

impl Story {
    fn new(tiers: &[Vec<Offer>]) -> Self {
        let own = name("us-east");
        let mut story = Self {
            failover: Failover::restored(own.clone(), OnDisk::default()),
            decider: Decider::restored(own, BTreeMap::new()),
            orders: orders(tiers),
            now: Duration::ZERO,
        };
        story.beats(2);
        story
    }

    fn beats(&mut self, beats: u32) {
        for _ in 0..beats {
            self.now += BEAT;
            let at = Moment { now: self.now, unix_ms: 0 };
            let (world, bound_by) = (World::default(), [name("us-east")]);
            self.failover.look_at_verbs(&Heard { at, world: &world, bound_by: &bound_by, written: &[] }, &self.orders);
            let proxies = BTreeSet::new();
            self.failover.steer(&Seen { at, orders: &self.orders, decider: &self.decider, proxies: &proxies });
        }
    }

    fn simulate(&self, down: &[&str], drained: &[&str]) -> Simulated {
        let names = |of: &[&str]| of.iter().map(|one| name(one)).collect();
        let (at, proxies) = (Moment { now: self.now, unix_ms: 0 }, BTreeSet::new());
        let seen = Seen { at, orders: &self.orders, decider: &self.decider, proxies: &proxies };
        simulate(&self.failover, &seen, &Fate { down: names(down), drained: names(drained) }).remove(0)
    }

    fn drain(&mut self, cluster: &str, over: Duration) {
        let deed = Deed::Drain { cluster: name(cluster), over };
        let (by, reason, elapsed, ended) = Default::default();
        let lasts = Duration::from_secs(9999);
        let verb = Verb { name: deed.name(), deed, lasts, by, reason, at_ms: 0, elapsed, ended };
        self.failover.verbs.add(verb);
    }

    fn kill(&mut self, cluster: &str) {
        let verdict = Verdict { standing: Standing::Dead, share: 0.0, ..Verdict::default() };
        self.decider = Decider::restored(name("us-east"), [(name(cluster), verdict)].into());
    }

    /// Two beats of requests of own clients.
    fn report(&mut self, cluster: &str, requests: u64, limited: u64) {
        let (service, cluster) = (service().to_string(), cluster.to_owned());
        let evidence = ServiceEvidence {
            service,
            cluster,
            requests,
            limited,
            wanted: requests + limited,
            ..ServiceEvidence::default()
        };
        self.failover.evidence("proxy", &evidence, self.now);
    }
}

fn tiers() -> Vec<Vec<Offer>> {
    vec![vec![("eu-west", 1, 4, None)], vec![("us-west", 1, 4, Some(1.0))], vec![("us-east", 1, 4, None)]]
}

fn parts(rungs: &[Rung]) -> Vec<(&str, f64)> {
    rungs.iter().map(|rung| (rung.cluster.as_str(), (rung.part * 1e6).round() / 1e6)).collect()
}

#[test]
fn every_place_that_may_take_what_others_cannot_is_told_in_order() {
    let simulated = Story::new(&tiers()).simulate(&["eu-west"], &[]);
    assert_eq!(parts(&simulated.now), [("eu-west", 1.0), ("us-west", 0.0), ("us-east", 0.0)]);
    assert_eq!(parts(&simulated.then), [("us-west", 1.0), ("us-east", 0.0)]);
    assert_eq!(simulated.then[0].limit, Some(1.0));
    assert!(simulated.moving.is_empty(), "{simulated:?}");
}

#[test]
fn a_dead_last_place_is_nowhere_and_a_drained_one_is_not_left_for_nothing() {
    let story = Story::new(&[vec![("eu-west", 1, 4, None)]]);
    assert!(story.simulate(&["eu-west"], &[]).then.is_empty());
    assert_eq!(parts(&story.simulate(&[], &["eu-west"]).then), [("eu-west", 1.0)]);
}

#[test]
fn what_moves_is_told_and_taken_as_it_comes_to_rest() {
    let mut story = Story::new(&tiers());
    story.kill("eu-west");
    story.beats(4);
    story.decider = Decider::restored(name("us-east"), BTreeMap::new());
    story.beats(4);
    let simulated = story.simulate(&["us-west"], &[]);
    assert!(simulated.now[0].part < 0.3, "it is in the middle of its ramp: {simulated:?}");
    assert_eq!(parts(&simulated.then), [("eu-west", 1.0), ("us-east", 0.0)]);
    assert_eq!(simulated.moving[&name("eu-west")].rests_at, 1.0);
    story.drain("us-west", Duration::from_secs(600));
    story.beats(60);
    let simulated = story.simulate(&["eu-west"], &[]);
    assert_eq!(parts(&simulated.then), [("us-east", 1.0)], "a drain is through when it rests");
    assert_eq!(simulated.moving[&name("us-west")].rests_at, 0.0);
}

#[test]
fn a_request_that_a_limit_moves_on_is_one_request() {
    let mut story = Story::new(&tiers()[1..]);
    story.report("us-west", 5, 30);
    story.report("us-east", 30, 0);
    assert_eq!(story.simulate(&["eu-west"], &[]).requests_per_second, 7.0);
    // Where no other place is, what was kept back was refused.
    let mut story = Story::new(&tiers()[1..2]);
    story.report("us-west", 5, 30);
    assert_eq!(story.simulate(&["eu-west"], &[]).requests_per_second, 7.0);
}

fn offers() -> impl Strategy<Value = Vec<Vec<Offer>>> {
    let of = |name: &'static str| (Just(name), 0u32..3, 0u32..=4, Just(None));
    let places = (of("us-east"), of("us-west"), of("eu-west"), of("ap-south"));
    (places, 1usize..4, any::<bool>()).prop_map(|((a, b, c, d), cut, turn)| {
        let mut offers = vec![a, b, c, d];
        if turn {
            offers.reverse();
        }
        let rest = offers.split_off(cut);
        vec![offers, rest]
    })
}

proptest! {
    #[test]
    fn what_is_simulated_is_what_a_drain_or_a_death_does(tiers in offers(), before in 1u32..30) {
        for real in [Story::drained, Story::killed] {
            let mut story = Story::new(&tiers);
            // Something is on its way already.
            story.drain("ap-south", Duration::from_secs(10));
            story.beats(before);
            let (simulated, done) = real(&mut story);
            prop_assert_eq!(parts(&simulated.then), parts(&done.now), "{:?}", tiers);
        }
    }
}

impl Story {
    fn drained(&mut self) -> (Simulated, Simulated) {
        let simulated = self.simulate(&[], &["eu-west"]);
        self.drain("eu-west", Duration::ZERO);
        self.beats(100);
        (simulated, self.simulate(&[], &[]))
    }

    fn killed(&mut self) -> (Simulated, Simulated) {
        let simulated = self.simulate(&["eu-west"], &[]);
        self.kill("eu-west");
        self.beats(100);
        let mut done = self.simulate(&[], &[]);
        // Where no place has a share the dead one may be tried first: who finds it dead goes on to the next.
        let (dead, mut rest): (Vec<_>, Vec<_>) = done.now.into_iter().partition(|rung| rung.cluster == name("eu-west"));
        if let Some(first) = rest.first_mut() {
            first.part += dead.iter().map(|rung| rung.part).sum::<f64>();
        }
        done.now = rest;
        (simulated, done)
    }
}
