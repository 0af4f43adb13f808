//! Limits on what one cluster sends to another: the capped cluster divides its limit among its importers by the demand
//! they report with their leases, and says the parts with its own; an importer divides its part among its proxies.
//!
//! An importer says which limit it heeds, so that it is divided also where no policy binds the capped cluster itself: among
//! those who heed one, each from its own limit.
//!
//! Who is not heard any more keeps what it had: as an importer its last part, and as a demand its last demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    compile::Ordered,
    failover::{
        cap::{Demand, calm, calm_parts, divide},
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
            for member in ordered.order.tiers.iter().flat_map(|tier| &tier.members) {
                let Some(cap) = member.cap else { continue };
                let shown = self.said.wants.get(&member.cluster).and_then(|of| of.get(service)).copied();
                let wants = calm(shown, self.rate(now, service, &member.cluster));
                lease.wants.entry(member.cluster.clone()).or_default().insert(service.clone(), wants);
                lease.heeds.entry(member.cluster.clone()).or_default().insert(service.clone(), cap);
            }
            let grants = match ordered.own_cap {
                Some(cap) => self.grants(service, cap, others),
                None => self.heeded(service),
            };
            if !grants.is_empty() {
                lease.grants.insert(service.clone(), grants);
            }
        }
        self.said.clone_from(&lease);
        lease
    }

    /// The parts of a limit of the own cluster's policy, which is for all others.
    fn grants(&self, service: &ServiceName, cap: f64, others: &BTreeSet<ClusterName>) -> BTreeMap<ClusterName, f64> {
        let demands = others.iter().map(|other| (other.clone(), self.wants_here(service, other))).collect();
        divide(cap, &demands)
    }

    /// The parts of limits that only others heed, to each as its own limit gives it.
    fn heeded(&self, service: &ServiceName) -> BTreeMap<ClusterName, f64> {
        let heeds = |lease: &Lease| lease.heeds.get(&self.own)?.get(service).copied();
        let caps: Vec<_> = self.heard.iter().filter_map(|(other, lease)| Some((other, heeds(lease)?))).collect();
        let demands = caps.iter().map(|(other, _)| ((*other).clone(), self.wants_here(service, other))).collect();
        let part = |(other, cap): (&ClusterName, f64)| Some((other.clone(), *divide(cap, &demands).get(other)?));
        caps.into_iter().filter_map(part).collect()
    }

    /// Requests a second that another cluster wants of the own one.
    fn wants_here(&self, service: &ServiceName, other: &ClusterName) -> f64 {
        let of = self.heard.get(other).and_then(|lease| lease.wants.get(&self.own));
        of.and_then(|of| of.get(service)).copied().unwrap_or_default()
    }

    /// The own cluster's part of a limit: what the capped cluster said, or an equal part before it said anything. Never more
    /// than the limit that the own policy sets.
    #[must_use]
    pub fn part(&self, service: &ServiceName, member: &Steered, others: usize) -> Option<f64> {
        let cap = member.member.cap?;
        let said = self.heard.get(&member.member.cluster).and_then(|lease| lease.grants.get(service)?.get(&self.own));
        Some(said.map_or(cap / others.max(1) as f64, |said| said.min(cap)))
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
        *shown = calm_parts(shown, divide(whole, &demands));
        Some(model::Cap { other: whole / (shown.len() + 1) as f64, parts: shown.clone() })
    }
}

/// Proxies report so often.
const REPORT: Duration = Duration::from_millis(500);
/// A proxy that reports nothing for so long wants nothing.
const FORGOTTEN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
