use std::collections::BTreeSet;

use isthmus_core::{
    failover::policy::WhenNothingHealthy,
    model::{Cap, FailoverMember, FailoverTier, Group, Standing, TrafficPolicy},
};

use super::*;
use crate::snapshot::tests::common;

type Said = (String, u64, Resource);

fn said(resource: Resource) -> Said {
    (resource.key(), 1, resource)
}

fn named(name: &str) -> ServiceName {
    ServiceName::new("bookinfo", name).unwrap()
}

fn service(name: &str) -> Said {
    said(Resource::Service(Service {
        name: named(name),
        global: false,
        clusterset: true,
        address_index: None,
        set_address: None,
        addresses: vec![],
        ports: vec![],
        exported: None,
        routes: vec![],
        subsets: BTreeMap::new(),
        policy: TrafficPolicy::default(),
    }))
}

fn endpoints(name: &str, clusters: &[&str]) -> Said {
    let group = Group {
        zone: "a".into(),
        labels: BTreeMap::new(),
        identities: BTreeSet::new(),
        usable: 2,
        total: 2,
        weight: 2,
    };
    let remote = clusters.iter().map(|cluster| (cluster.parse().unwrap(), vec![group.clone()])).collect();
    said(Resource::Endpoints(Endpoints { service: named(name), local: vec![], remote }))
}

fn cluster(name: &str, standing: Standing, share: f64) -> Said {
    said(Resource::Cluster(RemoteCluster {
        name: name.parse().unwrap(),
        region: String::new(),
        trust_domain: format!("{name}.mesh").parse().unwrap(),
        gateways: isthmus_core::statement::Gateways::default(),
        share,
        standing,
        rtt_us: 0,
    }))
}

fn failover(name: &str, cluster: &str, share: f64, limit: Option<f64>) -> Said {
    let cap = limit.map(|other| Cap { parts: BTreeMap::new(), other });
    let members = vec![FailoverMember { cluster: cluster.parse().unwrap(), weight: 1.0, cap }];
    said(Resource::Failover(Failover {
        service: named(name),
        tiers: vec![FailoverTier { name: cluster.into(), share, members }],
        when_nothing_healthy: Some(WhenNothingHealthy::Fail),
    }))
}

/// `details` in west, `ratings` in north, both decided.
fn painted() -> (Painter, Snapshot) {
    let mut painter = Painter::new(common(), 1);
    let all = vec![
        cluster("west", Standing::Alive, 1.0),
        cluster("north", Standing::Alive, 1.0),
        service("details"),
        endpoints("details", &["west"]),
        failover("details", "west", 0.2, None),
        service("ratings"),
        endpoints("ratings", &["north"]),
        failover("ratings", "north", 1.0, Some(0.002)),
    ];
    let first = painter.apply(all, &[], true);
    (painter, first)
}

/// Whether the views of (`details`, `ratings`) are the same ones.
fn same(a: &Snapshot, b: &Snapshot) -> (bool, bool) {
    let same = |name| Arc::ptr_eq(&a.views[&named(name)], &b.views[&named(name)]);
    (same("details"), same("ratings"))
}

fn shares(view: &View) -> Vec<(String, f64)> {
    let rungs = view.ladders(None).unwrap().of(HostScope::ClusterSet);
    rungs.ladder.tiers().iter().map(|tier| (tier.place.to_string(), tier.share)).collect()
}

#[test]
fn a_decision_repaints_its_service_and_leaves_the_others_as_they_are() {
    let (mut painter, first) = painted();
    let next = painter.apply(vec![failover("details", "west", 0.4, None)], &[], false);
    assert_eq!(same(&first, &next), (false, true));
    assert_eq!(shares(&next.views[&named("details")]), [("cluster west".to_owned(), 0.4)]);
    let (by_host, _) = next.host("details.bookinfo.svc.clusterset.local").unwrap();
    assert!(Arc::ptr_eq(&by_host, &next.views[&named("details")]), "both ways lead to the new one");
    assert_eq!(first.edition, next.edition, "no listener and no name changed");
    let again = painter.apply(vec![failover("details", "west", 0.4, None)], &[], false);
    assert_eq!(same(&next, &again), (true, true), "what is said twice changes nothing");
}

#[test]
fn a_cluster_that_stands_otherwise_repaints_who_has_endpoints_there() {
    let (mut painter, first) = painted();
    let ramp = painter.apply(vec![cluster("north", Standing::Alive, 0.3)], &[], false);
    assert_eq!(same(&first, &ramp), (true, true), "shares are said by service");
    let blind = painter.apply(vec![cluster("north", Standing::Blind, 0.3)], &[], false);
    assert_eq!(same(&ramp, &blind), (true, false));
    let gone = painter.apply(vec![], &["cluster/north".into()], false);
    assert_eq!(shares(&gone.views[&named("ratings")]), []);
}

#[test]
fn without_a_decision_nobody_goes_abroad_and_a_service_that_is_gone_has_no_name() {
    let (mut painter, _) = painted();
    let next = painter.apply(vec![], &["failover/bookinfo/details".into(), "service/bookinfo/ratings".into()], false);
    assert_eq!(shares(&next.views[&named("details")]), []);
    assert!(next.host("ratings.bookinfo.svc.clusterset.local").is_none());
    assert!(next.host("ratings.bookinfo.svc.cluster.local").is_none());
    assert!(!next.views.contains_key(&named("ratings")));
}

#[test]
fn a_limit_that_is_used_up_stays_so_in_the_next_picture() {
    let (mut painter, first) = painted();
    let enter = |snapshot: &Snapshot| {
        let rungs = snapshot.views[&named("ratings")].ladders(None).unwrap().of(HostScope::ClusterSet);
        rungs.at(0).unwrap().1.enter(0, None).map(drop)
    };
    assert_eq!(enter(&first), Ok(()));
    let next = painter.apply(vec![failover("ratings", "north", 0.9, Some(0.001))], &[], false);
    assert_eq!((same(&first, &next), enter(&next)), ((true, false), Err(0.001)));
    let counted: Vec<_> = next.views[&named("ratings")].passages.iter().filter_map(|one| one.take_counted()).collect();
    assert_eq!(counted.iter().map(|one| (one.wanted, one.limited)).collect::<Vec<_>>(), [(2, 1)]);
    let free = painter.apply(vec![failover("ratings", "north", 0.9, None)], &[], false);
    assert_eq!(enter(&free), Ok(()));
}

/// An endpoint of the own cluster in a zone.
fn local(name: &str, zone: &str) -> Endpoint {
    Endpoint {
        id: format!("{name}-{zone}").parse().unwrap(),
        address: "10.0.0.1:15006".parse().unwrap(),
        locality: Locality { region: "r".into(), zone: zone.into() },
        labels: BTreeMap::new(),
        identity: "spiffe://own.mesh.test/ns/bookinfo/sa/details".parse().unwrap(),
        weight: 1,
        state: isthmus_core::model::EndpointState::Ready,
        targets: BTreeMap::new(),
    }
}

#[test]
fn a_sidecar_is_where_control_says_that_its_node_is_and_else_where_its_configuration_says() {
    let mut painter = Painter::new(common(), 1);
    let endpoints = Endpoints {
        service: named("details"),
        local: vec![local("details", "a"), local("details", "b")],
        remote: BTreeMap::new(),
    };
    let places = |snapshot: &Snapshot| -> Vec<String> {
        shares(&snapshot.views[&named("details")]).into_iter().map(|(place, _)| place).collect()
    };
    let first = painter.apply(vec![service("details"), said(Resource::Endpoints(endpoints))], &[], true);
    assert_eq!(places(&first).len(), 1, "it is in no zone: {:?}", places(&first));
    let locality = Locality { region: "r".into(), zone: "a".into() };
    let node = isthmus_core::model::Node { name: "n1".into(), locality };
    let told = painter.apply(vec![said(Resource::Node(node))], &[], false);
    assert_eq!(places(&told)[0], "own zone");
    assert_eq!(places(&told).len(), 2, "{:?}", places(&told));
    let gone = painter.apply(vec![], &["node/n1".to_owned()], false);
    assert_eq!(places(&gone), places(&first));
}
