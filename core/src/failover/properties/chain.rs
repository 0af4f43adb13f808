//! The whole decision of one service in one importing cluster, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    failover::{
        BEAT,
        order::{self, Order, Party, properties},
        policy::FailoverPolicy,
        steering::{Sight, Steering, Tier, parts},
        window::{Tally, Window},
    },
    ladder::{Inputs, Ladder},
    model::{
        Endpoint, EndpointState, Endpoints, Failover, FailoverMember, FailoverTier, Group, RemoteCluster, Standing,
    },
    name::{ClusterName, Locality, ServiceName},
};

/// The own cluster, and others.
pub(super) const NAMES: [&str; 5] = ["own", "a", "b", "c", "d"];
pub(super) const REGIONS: [&str; 3] = ["east", "west", "@SameAsImporter@"];
/// Endpoints of each cluster.
pub(super) const TOTAL: u32 = 4;
/// Requests to each cluster in a beat.
pub(super) const REQUESTS: u64 = 40;

pub(super) fn name(index: usize) -> ClusterName {
    NAMES[index].parse().unwrap()
}

pub(super) fn region(index: usize) -> &'static str {
    REGIONS[index % 2]
}

/// What is shown of a cluster in a beat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) healthy: u32,
    /// Of [`REQUESTS`].
    pub(super) errors: u64,
    pub(super) millis: u64,
    pub(super) left: bool,
    pub(super) verbs: f64,
}

/// What came of a beat.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decided {
    pub(super) order: Order,
    pub(super) tiers: Vec<Tier>,
    pub(super) parts: BTreeMap<ClusterName, f64>,
    pub(super) ladder: Ladder,
}

/// One service in one importing cluster, in virtual time.
pub(super) struct Chain<'a> {
    pub(super) policy: &'a FailoverPolicy,
    pub(super) pins: &'a [ClusterName],
    pub(super) steering: Steering,
    pub(super) windows: Vec<Window>,
    pub(super) now: Duration,
}

impl<'a> Chain<'a> {
    pub(super) fn new((policy, pins): &'a (FailoverPolicy, Vec<ClusterName>)) -> Self {
        let (steering, now) = Default::default();
        Self { policy, pins, steering, windows: vec![Window::default(); NAMES.len()], now }
    }

    pub(super) fn beat(&mut self, shown: &[Shown]) -> Decided {
        self.now += BEAT;
        for (window, shown) in self.windows.iter_mut().zip(shown) {
            let mut tally = Tally::default();
            (0..REQUESTS).for_each(|nth| tally.count(nth < shown.errors, Duration::from_millis(shown.millis)));
            window.add(self.now, &tally);
        }
        let order = self.order(shown);
        let tiers = self.steering.decide(self.now, &order, self.policy, |cluster| {
            let index = NAMES.iter().position(|name| *name == cluster.as_str()).unwrap();
            let standing = if shown[index].left { Standing::Dead } else { Standing::Alive };
            Sight {
                left: shown[index].left,
                standing: (standing, ""),
                verbs: (shown[index].verbs, ""),
                window: &self.windows[index],
            }
        });
        let parts = parts(&tiers, self.policy.when_nothing_healthy);
        let ladder = self.ladder(&tiers, shown);
        Decided { order, tiers, parts, ladder }
    }

    pub(super) fn order(&self, shown: &[Shown]) -> Order {
        let party = |(index, shown): (usize, &Shown)| Party {
            name: name(index),
            properties: properties(&name(index), region(index), &BTreeMap::new()),
            rtt_us: 20_000 * index as u64,
            healthy: shown.healthy,
            total: TOTAL,
            capacity: None,
        };
        let parties: Vec<_> = shown.iter().enumerate().map(party).collect();
        let properties = &parties[0].properties;
        order::order(&order::Inputs {
            policy: self.policy,
            importer: &name(0),
            properties,
            parties: &parties,
            pins: self.pins,
        })
    }

    /// The rungs as a sidecar has them.
    pub(super) fn ladder(&self, tiers: &[Tier], shown: &[Shown]) -> Ladder {
        let service = ServiceName::new("shop", "cart").unwrap();
        let tier = |tier: &Tier| FailoverTier {
            name: String::new(),
            share: tier.share,
            members: tier
                .members
                .iter()
                .map(|one| FailoverMember {
                    cluster: one.member.cluster.clone(),
                    weight: f64::from(one.member.weight) * one.share,
                    cap: None,
                })
                .collect(),
        };
        let failover = Failover {
            service: service.clone(),
            tiers: tiers.iter().map(tier).collect(),
            when_nothing_healthy: self.policy.when_nothing_healthy,
        };
        let remote = (1..NAMES.len()).map(|index| (name(index), vec![group(shown[index].healthy)])).collect();
        let local = (0..TOTAL).map(|nth| endpoint(nth, nth < shown[0].healthy)).collect();
        Ladder::new(&Inputs {
            client: "curl",
            cluster: &name(0),
            own: &Locality { region: region(0).into(), zone: "a".into() },
            endpoints: &Endpoints { service, local, remote },
            failover: Some(&failover),
            clusters: &(1..NAMES.len()).map(|index| (name(index), cluster(index))).collect(),
            labels: &BTreeMap::new(),
            remote: true,
        })
    }
}

pub(super) fn group(usable: u32) -> Group {
    let (labels, identities) = Default::default();
    Group { zone: "z".into(), labels, identities, usable, total: TOTAL, weight: usable }
}

pub(super) fn endpoint(nth: u32, ready: bool) -> Endpoint {
    Endpoint {
        id: format!("own-{nth}").parse().unwrap(),
        address: "127.0.0.1:15006".parse().unwrap(),
        locality: Locality { region: region(0).into(), zone: if nth.is_multiple_of(2) { "a" } else { "b" }.into() },
        labels: BTreeMap::new(),
        identity: "spiffe://own.mesh/ns/a/sa/b".parse().unwrap(),
        weight: 1,
        state: if ready { EndpointState::Ready } else { EndpointState::Unready },
        targets: BTreeMap::new(),
    }
}

pub(super) fn cluster(index: usize) -> RemoteCluster {
    RemoteCluster {
        region: region(index).into(),
        name: name(index),
        trust_domain: format!("{}.mesh", name(index)).parse().unwrap(),
        gateways: crate::statement::Gateways::default(),
        share: 1.0,
        standing: Standing::Alive,
        rtt_us: 100,
    }
}
