//! A limit among clusters and among the proxies of one.

use isthmus_core::failover::order::{Member, Order, Tier as Ordering};

use super::*;

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn service() -> ServiceName {
    ServiceName::new("shop", "cart").unwrap()
}

fn steered(cap: f64) -> Steered {
    let member = Member { cluster: name("eu"), weight: 1, healthy: 2, total: 2, capacity: None, cap: Some(cap) };
    let (why, next) = Default::default();
    Steered { member, share: 1.0, why, next, since: Duration::ZERO }
}

/// Orders of an importer, where eu is capped, or of eu itself.
fn orders(cap: f64, own: bool) -> BTreeMap<ServiceName, Ordered> {
    let tiers = vec![Ordering { name: String::new(), members: vec![steered(cap).member] }];
    let order = if own { Order::default() } else { Order { tiers, ..Order::default() } };
    [(service(), Ordered { order, own_cap: own.then_some(cap), ..Ordered::default() })].into()
}

fn others(of: &[&str]) -> BTreeSet<ClusterName> {
    of.iter().map(|one| name(one)).collect()
}

/// Ten seconds of reports of a steady demand.
fn demand(limits: &mut Limits, proxy: &str, rate: u64) -> Duration {
    let mut now = Duration::ZERO;
    for _ in 0..20 {
        now += REPORT;
        let (service, cluster) = (service().to_string(), "eu".into());
        let evidence = ServiceEvidence { service, cluster, wanted: rate / 2, ..ServiceEvidence::default() };
        limits.wanted(proxy, &evidence, now);
    }
    now
}

#[test]
fn the_capped_cluster_divides_by_demand_and_who_is_cut_off_keeps_its_last_part() {
    let new = |own| Limits::restored(name(own), BTreeMap::new());
    let (mut east, mut west, mut eu) = (new("east"), new("west"), new("eu"));
    assert_eq!(east.part(&service(), &steered(90.0), 3), Some(30.0), "equally before anybody said anything");
    let now = demand(&mut east, "a", 20);
    demand(&mut west, "b", 400);
    for round in 0..2 {
        eu.heard(&name("east"), east.lease(now, &orders(90.0, false), &others(&["west", "eu"])));
        eu.heard(&name("west"), west.lease(now, &orders(90.0, false), &others(&["east", "eu"])));
        let said = eu.lease(now, &orders(90.0, true), &others(&["east", "west"]));
        east.heard(&name("eu"), said.clone());
        west.heard(&name("eu"), said);
        let part = |limits: &Limits| limits.part(&service(), &steered(90.0), 2).unwrap();
        assert!((part(&east) - 20.0).abs() < 0.5 && (part(&west) - 70.0).abs() < 0.5, "round {round}");
    }
    // Nothing is heard of west any more: its last demand counts on, and it keeps what it had.
    let said = eu.lease(now + 60 * REPORT, &orders(90.0, true), &others(&["east", "west"]));
    assert!((said.grants[&service()][&name("west")] - 70.0).abs() < 0.5);
    let again = Limits::restored(name("west"), west.on_disk());
    assert!((again.part(&service(), &steered(90.0), 2).unwrap() - 70.0).abs() < 0.5, "over a restart too");
}

#[test]
fn a_limit_that_binds_the_importers_alone_is_divided_among_them_by_demand() {
    let new = |own| Limits::restored(name(own), BTreeMap::new());
    let (mut east, mut west, mut eu) = (new("east"), new("west"), new("eu"));
    let now = demand(&mut east, "a", 20);
    demand(&mut west, "b", 400);
    let unlimited = || [(service(), Ordered::default())].into();
    // Only west heeds a limit: it is all for west.
    let [mut said, none] = [west.lease(now, &orders(90.0, false), &others(&["eu"])), Lease::default()];
    eu.heard(&name("west"), said.clone());
    eu.heard(&name("east"), none);
    west.heard(&name("eu"), eu.lease(now, &unlimited(), &others(&["east", "west"])));
    assert_eq!(west.part(&service(), &steered(90.0), 2), Some(90.0));
    // East heeds another one: each has its part of its own.
    eu.heard(&name("east"), east.lease(now, &orders(50.0, false), &others(&["eu"])));
    let grants = eu.lease(now, &unlimited(), &others(&["east", "west"]));
    for limits in [&mut east, &mut west] {
        limits.heard(&name("eu"), grants.clone());
    }
    assert!((west.part(&service(), &steered(90.0), 2).unwrap() - 70.0).abs() < 0.5);
    assert!((east.part(&service(), &steered(50.0), 2).unwrap() - 20.0).abs() < 0.5);
    assert_eq!(west.part(&service(), &steered(30.0), 2), Some(30.0), "never more than its own policy lets it");
    // What one says that speaks an older language is divided as before: it is not granted anything here.
    said.heeds.clear();
    eu.heard(&name("west"), said);
    assert!(!eu.lease(now, &unlimited(), &others(&["east", "west"])).grants[&service()].contains_key(&name("west")));
}

#[test]
fn a_tiny_part_is_no_part_of_nothing_and_parts_sum_to_the_limit() {
    let mut east = Limits::restored(name("east"), BTreeMap::new());
    let decider = crate::decider::Decider::restored(name("east"), BTreeMap::new());
    let proxies: BTreeSet<String> = (0..30).map(|nth| format!("proxy-{nth}")).collect();
    let at = super::super::Moment { now: Duration::ZERO, unix_ms: 0 };
    let seen = Seen { at, orders: &BTreeMap::new(), decider: &decider, proxies: &proxies };
    for cap in [0.3, 1.0, 1.7, 1000.0] {
        let said = Lease { grants: [(service(), [(name("east"), cap)].into())].into(), ..Lease::default() };
        east.heard(&name("eu"), said);
        let cap_of = east.cap(&service(), &steered(cap), &seen).unwrap();
        assert!((cap_of.parts.values().sum::<f64>() - cap).abs() < cap * 1e-6, "{cap_of:?}");
        assert!(cap_of.other > 0.0 && cap_of.parts.values().all(|part| *part > 0.0), "{cap_of:?}");
    }
}

#[test]
fn an_importer_divides_its_part_among_its_proxies_by_demand() {
    let mut east = Limits::restored(name("east"), BTreeMap::new());
    demand(&mut east, "busy", 500);
    let now = demand(&mut east, "calm", 10);
    let decider = crate::decider::Decider::restored(name("east"), BTreeMap::new());
    let proxies = ["busy", "calm", "idle"].map(ToOwned::to_owned).into();
    let at = super::super::Moment { now, unix_ms: 0 };
    let seen = Seen { at, orders: &BTreeMap::new(), decider: &decider, proxies: &proxies };
    let cap = east.cap(&service(), &steered(100.0), &seen).unwrap();
    let part = |proxy: &str| cap.parts[proxy];
    assert!((part("calm") - 10.0).abs() < 0.5 && (part("busy") - 90.0).abs() < 0.5 && part("idle") < 0.1, "{cap:?}");
    assert!((cap.parts.values().sum::<f64>() - 100.0).abs() < 0.5 && cap.other <= 25.0);
}
