//! How requests go, as the steersman knows it: what a drill is judged by.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    compile::Ordered,
    failover::{
        drill::{BEFORE, Shown, WINDOWS},
        policy::WhenNothingHealthy,
        steering::Tier,
    },
    name::{ClusterName, ServiceName},
};

use super::{
    steersman::{Steersman, parts},
    verbs::{Baseline, Baselines, Traffic},
};

/// Now.
pub struct Now<'a> {
    /// What requests show, and where they go.
    pub steersman: &'a Steersman,
    /// The tiers of each service.
    pub orders: &'a BTreeMap<ServiceName, Ordered>,
    /// Since this control began.
    pub now: Duration,
}

impl Traffic for Now<'_> {
    fn before(&self) -> Baselines {
        let of = |service: &ServiceName| {
            let shown = self.steersman.shown(self.now, service, BEFORE, Duration::ZERO);
            (service.clone(), Baseline { shown, placed: self.steersman.in_use(service).is_some() })
        };
        self.orders.keys().map(of).collect()
    }

    fn services(&self) -> Vec<ServiceName> {
        self.orders.keys().cloned().collect()
    }

    fn shown(&self, service: &ServiceName, since: Duration) -> Vec<Shown> {
        WINDOWS.iter().map(|window| self.steersman.shown(self.now, service, *window, since)).collect()
    }

    fn is_placed(&self, service: &ServiceName) -> bool {
        // What was not decided yet since this control began is where it was.
        self.steersman.tiers(service).is_empty() || self.steersman.in_use(service).is_some()
    }

    fn needs(&self, service: &ServiceName, cluster: &ClusterName) -> bool {
        let stranded = || self.strands(service, &[cluster.clone()].into());
        self.steersman.in_use(service).is_some() && stranded() == Some(Stranded::Refused)
    }
}

impl Now<'_> {
    /// Where a service's requests would go when these clusters took nothing, if that is nowhere or to them all the same: whether
    /// they are refused then.
    #[must_use]
    pub fn strands(&self, service: &ServiceName, without: &BTreeSet<ClusterName>) -> Option<Stranded> {
        let policy = &self.orders.get(service)?.policy;
        let tiers: Vec<_> = self
            .steersman
            .tiers(service)
            .iter()
            .map(|tier| spared(tier, without, policy.leave.healthy_share))
            .collect();
        let goes_on = parts(&tiers, Some(WhenNothingHealthy::Fail)).values().any(|part| *part > 0.0);
        match policy.when_nothing_healthy {
            _ if goes_on => None,
            Some(WhenNothingHealthy::Fail) => Some(Stranded::Refused),
            Some(WhenNothingHealthy::TryAll) | None => Some(Stranded::Stays),
        }
    }
}

/// What becomes of requests that have nowhere else to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranded {
    /// They go where they went.
    Stays,
    /// They are refused: the policy says so.
    Refused,
}

/// A tier as if these clusters took nothing.
fn spared(tier: &Tier, without: &BTreeSet<ClusterName>, trigger: f64) -> Tier {
    let members = tier.members.iter().map(|one| {
        let mut one = one.clone();
        if without.contains(&one.member.cluster) {
            one.share = 0.0;
        }
        one
    });
    Tier::of(&tier.name, members.collect(), trigger)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use isthmus_core::failover::{
        order::{Member, Order, Tier as Ordering},
        policy::{FailoverPolicy, WhenNothingHealthy},
    };
    use isthmus_wire::feed::ServiceEvidence;

    use super::*;
    use crate::{
        decider::Decider,
        failover::{Moment, Seen, history::History, verbs::Verbs},
    };

    pub fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    pub fn cart() -> ServiceName {
        ServiceName::new("shop", "cart").unwrap()
    }

    /// shop/cart in eu and us, with so many healthy endpoints of two.
    pub fn orders(eu: u32, us: u32, when: Option<WhenNothingHealthy>) -> BTreeMap<ServiceName, Ordered> {
        let tier = |(cluster, healthy): (&str, u32)| {
            let (capacity, cap) = Default::default();
            let member = Member { cluster: name(cluster), weight: 1, healthy, total: 2, capacity, cap };
            Ordering { name: cluster.into(), members: vec![member] }
        };
        let order = Order { tiers: [("eu", eu), ("us", us)].map(tier).into(), ..Order::default() };
        let policy = Arc::new(FailoverPolicy { when_nothing_healthy: when, ..FailoverPolicy::default() });
        [(cart(), Ordered { order, policy, ..Ordered::default() })].into()
    }

    pub fn decider() -> Decider {
        Decider::restored(name("east"), BTreeMap::new())
    }

    pub fn steered(orders: &BTreeMap<ServiceName, Ordered>) -> Steersman {
        let mut steersman = Steersman::restored(name("east"), BTreeMap::new(), BTreeMap::new());
        let at = Moment { now: Duration::from_secs(1), unix_ms: 1 };
        let (decider, proxies) = (decider(), BTreeSet::new());
        let verbs = Verbs::restored(name("east"), Default::default());
        let seen = Seen { at, orders, decider: &decider, proxies: &proxies };
        steersman.steer(&seen, &verbs, &mut History::default());
        steersman
    }

    #[test]
    fn a_service_needs_a_cluster_when_its_policy_lets_nothing_else_take_its_requests() {
        let fail = Some(WhenNothingHealthy::Fail);
        for (orders, needs, strands) in [
            (orders(2, 2, fail), false, None),
            (orders(2, 0, fail), true, Some(Stranded::Refused)),
            (orders(2, 0, None), false, Some(Stranded::Stays)),
        ] {
            let steersman = steered(&orders);
            let now = Now { steersman: &steersman, orders: &orders, now: Duration::from_secs(1) };
            assert_eq!(now.needs(&cart(), &name("eu")), needs);
            assert_eq!(now.strands(&cart(), &[name("eu")].into()), strands);
            assert!(!now.needs(&cart(), &name("us")), "it goes to eu");
            assert!(now.is_placed(&cart()) && now.before()[&cart()].placed);
        }
        let nobody = orders(0, 0, fail);
        let steersman = steered(&nobody);
        let now = Now { steersman: &steersman, orders: &nobody, now: Duration::from_secs(1) };
        assert!(!now.is_placed(&cart()) && !now.needs(&cart(), &name("eu")), "it had nowhere to go before either");
    }

    #[test]
    fn a_request_that_was_refused_is_one_that_failed() {
        let orders = orders(2, 2, None);
        let mut steersman = steered(&orders);
        let evidence = |cluster: &str, requests, refused| {
            let (service, cluster) = (cart().to_string(), cluster.to_owned());
            ServiceEvidence { service, cluster, requests, refused, ..ServiceEvidence::default() }
        };
        steersman.evidence(&evidence("eu", 10, 0), Duration::from_secs(3));
        steersman.evidence(&evidence("", 0, 4), Duration::from_secs(3));
        let now = Now { steersman: &steersman, orders: &orders, now: Duration::from_secs(4) };
        assert_eq!(now.shown(&cart(), Duration::ZERO)[0], Shown { requests: 14, failed: 4 });
        assert_eq!(now.shown(&cart(), Duration::from_secs(4))[0], Shown::default(), "that was before");
        assert_eq!(steersman.refused(Duration::from_secs(4), &cart()), 4);
    }
}
