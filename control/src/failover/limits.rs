//! Limits on what one cluster sends to another: the capped cluster divides its limit among its importers by the demand
//! they report with their leases, and says the parts with its own; an importer divides its part among its proxies.
//!
//! Who is not heard any more keeps what it had: as an importer its last part, and as a demand its last demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    compile::Ordered,
    failover::{
        cap::{Demand, calm, divide},
        steering::{Steered, Tier},
    },
    model,
    name::{ClusterName, ServiceName},
    statement::Lease,
};
use isthmus_wire::feed::ServiceEvidence;

use super::Seen;

type Place = (ServiceName, ClusterName);

/// All limits.
#[derive(Debug)]
pub struct Limits {
    own: ClusterName,
    /// What own proxies want, each.
    wanted: BTreeMap<Place, BTreeMap<String, (Demand, Duration)>>,
    /// What the others said with their last leases.
    heard: BTreeMap<ClusterName, Lease>,
    /// What was shown last, so that noise moves nothing.
    parts: BTreeMap<Place, BTreeMap<String, f64>>,
    said: Lease,
}

impl Limits {
    /// With what an earlier run heard.
    #[must_use]
    pub fn restored(own: ClusterName, heard: BTreeMap<ClusterName, Lease>) -> Self {
        let (wanted, parts, said) = Default::default();
        Self { own, wanted, heard, parts, said }
    }

    /// What to keep: the parts that others gave, and what they wanted.
    #[must_use]
    pub fn on_disk(&self) -> BTreeMap<ClusterName, Lease> {
        self.heard.clone()
    }

    /// A proxy reports what it wanted.
    pub fn wanted(&mut self, proxy: &str, evidence: &ServiceEvidence, now: Duration) {
        let (Ok(service), Ok(cluster)) = (evidence.service.parse(), evidence.cluster.parse()) else { return };
        let of = self.wanted.entry((service, cluster)).or_default();
        let (demand, at) = of.entry(proxy.to_owned()).or_insert((Demand::default(), now.saturating_sub(REPORT)));
        demand.reported(now, evidence.wanted, now.saturating_sub(*at).min(2 * REPORT));
        *at = now;
        of.retain(|_, (_, at)| now.saturating_sub(*at) < FORGOTTEN);
    }

    /// What another cluster said with its lease.
    pub fn heard(&mut self, cluster: &ClusterName, lease: Lease) {
        if lease.wants.is_empty() && lease.grants.is_empty() {
            self.heard.remove(cluster);
        } else {
            self.heard.insert(cluster.clone(), Lease { member: false, ..lease });
        }
    }

    /// Services that are no more.
    pub fn forget(&mut self, is_known: impl Fn(&ServiceName) -> bool) {
        self.wanted.retain(|(service, _), _| is_known(service));
        self.parts.retain(|(service, _), _| is_known(service));
    }

    /// Requests a second that own proxies want of a place.
    #[must_use]
    pub fn rate(&self, now: Duration, service: &ServiceName, cluster: &ClusterName) -> f64 {
        let of = self.wanted.get(&(service.clone(), cluster.clone()));
        of.into_iter().flat_map(BTreeMap::values).fold(0.0, |sum, (demand, _)| sum + demand.rate(now))
    }

    /// What goes with the own lease: wants of limited places elsewhere, and the parts of own limits.
    pub fn lease(
        &mut self,
        now: Duration,
        orders: &BTreeMap<ServiceName, Ordered>,
        others: &BTreeSet<ClusterName>,
    ) -> Lease {
        self.heard.retain(|cluster, _| others.contains(cluster));
        let mut lease = Lease::default();
        for (service, ordered) in orders {
            for member in ordered.order.tiers.iter().flat_map(|tier| &tier.members).filter(|one| one.cap.is_some()) {
                let shown = self.said.wants.get(&member.cluster).and_then(|of| of.get(service)).copied();
                let wants = calm(shown, self.rate(now, service, &member.cluster));
                lease.wants.entry(member.cluster.clone()).or_default().insert(service.clone(), wants);
            }
            if let Some(cap) = ordered.own_cap {
                lease.grants.insert(service.clone(), self.grants(service, cap, others));
            }
        }
        self.said.clone_from(&lease);
        lease
    }

    fn grants(&self, service: &ServiceName, cap: f64, others: &BTreeSet<ClusterName>) -> BTreeMap<ClusterName, f64> {
        let wants = |other: &ClusterName| {
            let of = self.heard.get(other).and_then(|lease| lease.wants.get(&self.own));
            of.and_then(|of| of.get(service)).copied().unwrap_or_default()
        };
        let demands = others.iter().map(|other| (other.clone(), wants(other))).collect();
        divide(cap, &demands)
    }

    /// The own cluster's part of a limit: what the capped cluster said, or an equal part before it said anything.
    #[must_use]
    pub fn part(&self, service: &ServiceName, member: &Steered, others: usize) -> Option<f64> {
        let cap = member.member.cap?;
        let said = self.heard.get(&member.member.cluster).and_then(|lease| lease.grants.get(service)?.get(&self.own));
        Some(said.copied().unwrap_or(cap / others.max(1) as f64))
    }

    /// A tier as proxies get it.
    pub fn tier(&mut self, service: &ServiceName, tier: &Tier, seen: &Seen<'_>) -> model::FailoverTier {
        let members = tier.members.iter().map(|one| model::FailoverMember {
            cluster: one.member.cluster.clone(),
            weight: f64::from(one.member.weight) * one.share,
            cap: self.cap(service, one, seen),
        });
        let share = (tier.share * 1000.0).round() / 1000.0;
        model::FailoverTier { name: tier.name.clone(), share, members: members.collect() }
    }

    fn cap(&mut self, service: &ServiceName, one: &Steered, seen: &Seen<'_>) -> Option<model::Cap> {
        let whole = self.part(service, one, seen.decider.len())?;
        let place = (service.clone(), one.member.cluster.clone());
        let of = self.wanted.get(&place);
        let rate = |proxy: &String| {
            let demand = of.and_then(|of| of.get(proxy)).map_or(0.0, |(demand, _)| demand.rate(seen.at.now));
            (proxy.clone(), demand)
        };
        let demands: BTreeMap<String, f64> = seen.proxies.iter().map(rate).collect();
        let shown = self.parts.entry(place).or_default();
        let parts: BTreeMap<String, f64> = divide(whole, &demands)
            .into_iter()
            .map(|(proxy, part)| (proxy.clone(), round(calm(shown.get(&proxy).copied(), part))))
            .collect();
        shown.clone_from(&parts);
        Some(model::Cap { other: round(whole / (parts.len() + 1) as f64), parts })
    }
}

/// Proxies report so often.
const REPORT: Duration = Duration::from_millis(500);
/// A proxy that reports nothing for so long wants nothing.
const FORGOTTEN: Duration = Duration::from_secs(30);

fn round(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
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
        assert!(
            (part("calm") - 10.0).abs() < 0.5 && (part("busy") - 90.0).abs() < 0.5 && part("idle") < 0.1,
            "{cap:?}"
        );
        assert!((cap.parts.values().sum::<f64>() - 100.0).abs() < 0.5 && cap.other <= 25.0);
    }
}
