//! What would go where if clusters were gone or drained, without sending a packet: this cluster's requests as they are now,
//! decided as if it were so, once all shares have come to rest. What limits do to them, all importers together, is
//! [`isthmus_core::failover::flow`]'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    compile::Ordered,
    failover::{
        flow::Rung,
        policy::WhenNothingHealthy,
        steering::{Steered, Tier, serves},
    },
    name::{ClusterName, ServiceName},
};
use serde::{Deserialize, Serialize};

use super::{
    Failover, Seen,
    steersman::{Outlook, RATE_OVER, parts},
};

/// What would become of clusters.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// They would be gone.
    pub down: BTreeSet<ClusterName>,
    /// Nothing would go there; their own clients live.
    pub drained: BTreeSet<ClusterName>,
}

/// A service of this cluster's clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Simulated {
    /// namespace/name.
    pub service: String,
    /// This cluster.
    pub importer: String,
    /// Requests a second that its clients send now.
    pub requests_per_second: f64,
    /// Where they may go now, in order.
    pub now: Vec<Rung>,
    /// Where they might go then.
    pub then: Vec<Rung>,
    /// Requests a second that each cluster's endpoints can take, where that is said.
    pub capacity: BTreeMap<ClusterName, f64>,
    /// Why others that offer it are not used.
    pub excluded: BTreeMap<ClusterName, String>,
    /// Shares that move now; what would be then is told of shares at rest.
    pub moving: BTreeMap<ClusterName, Moving>,
}

/// A share on its way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moving {
    /// Now, 0 to 1.
    pub share: f64,
    /// Where it comes to rest.
    pub rests_at: f64,
}

/// Simulates every service.
#[must_use]
pub fn simulate(failover: &Failover, seen: &Seen<'_>, fate: &Fate) -> Vec<Simulated> {
    let one = |(service, ordered): (&ServiceName, &Ordered)| {
        let tiers = failover.steersman.tiers(service);
        let settled = |fate: &Fate| settled(failover, service, ordered, seen, fate);
        let when = ordered.policy.when_nothing_healthy;
        let now = rungs(tiers, when, &BTreeSet::new());
        Simulated {
            service: service.to_string(),
            importer: failover.cluster().to_string(),
            requests_per_second: rate(failover, service, &now, seen.at.now),
            now,
            then: rungs(&settled(fate), when, &fate.down),
            capacity: members(tiers)
                .filter_map(|one| Some((one.member.cluster.clone(), one.member.capacity?)))
                .collect(),
            excluded: ordered.order.excluded.clone(),
            moving: moving(tiers, &settled(&Fate::default())),
        }
    };
    seen.orders.iter().map(one).collect()
}

fn members(tiers: &[Tier]) -> impl Iterator<Item = &Steered> {
    tiers.iter().flat_map(|tier| &tier.members)
}

/// A service's tiers at rest, if this became of clusters and all else stayed.
fn settled(failover: &Failover, service: &ServiceName, ordered: &Ordered, seen: &Seen<'_>, fate: &Fate) -> Vec<Tier> {
    let now = seen.at.now;
    failover.steersman.settled(now, service, ordered, |cluster| {
        let is_left = seen.decider.sight(cluster).is_some_and(|(left, ..)| left) && cluster != failover.cluster();
        let leaves = if fate.drained.contains(cluster) { 0.0 } else { leaves(failover, now, service, cluster) };
        Outlook { left: is_left || fate.down.contains(cluster), leaves }
    })
}

/// What the verbs in force leave of a cluster once they are through.
fn leaves(failover: &Failover, now: Duration, service: &ServiceName, cluster: &ClusterName) -> f64 {
    let counts =
        failover.verbs.list(now).filter(|one| one.binds && one.given_up.is_none() && one.elapsed < one.verb.lasts);
    let about = counts.filter(|one| one.verb.deed.is_about(service) && one.verb.deed.cluster() == cluster);
    about.map(|one| one.verb.deed.leaves(Duration::MAX)).fold(1.0, f64::min)
}

/// Requests a second of own clients: those that went somewhere, and those that every place kept back.
fn rate(failover: &Failover, service: &ServiceName, rungs: &[Rung], now: Duration) -> f64 {
    let recent: Vec<_> = rungs.iter().map(|rung| failover.steersman.recent(now, service, &rung.cluster)).collect();
    let went: u64 = recent.iter().map(|tally| tally.requests).sum();
    let refused = recent.iter().map(|tally| tally.limited).min().unwrap_or_default();
    (went + refused) as f64 / RATE_OVER.as_secs_f64()
}

/// The places that sidecars would send to, by the rules of [`isthmus_core::ladder`]: those with a share; where none has
/// any, all that can serve, if what was left may be tried.
fn rungs(tiers: &[Tier], when: Option<WhenNothingHealthy>, gone: &BTreeSet<ClusterName>) -> Vec<Rung> {
    let mut tiers = tiers.to_vec();
    for one in tiers.iter_mut().flat_map(|tier| &mut tier.members).filter(|one| gone.contains(&one.member.cluster)) {
        (one.member.healthy, one.member.total) = (0, 0);
    }
    let (parts, serves) = (parts(&tiers, when), serves(&tiers, when));
    let try_left = when != Some(WhenNothingHealthy::Fail);
    let has_share = |tier: &Tier, one: &Steered| tier.share > 0.0 && one.share > 0.0 && one.member.weight > 0;
    let all = || tiers.iter().flat_map(|tier| tier.members.iter().map(move |one| (tier, one)));
    let usable = || all().filter(|(_, one)| serves(one));
    let shared = usable().any(|(tier, one)| has_share(tier, one));
    let open = usable().filter(|(tier, one)| if shared { has_share(tier, one) } else { try_left });
    let rung = |(_, one): (&Tier, &Steered)| Rung {
        cluster: one.member.cluster.clone(),
        part: parts.get(&one.member.cluster).copied().unwrap_or_default(),
        limit: one.member.cap,
    };
    open.map(rung).collect()
}

/// Shares that have not come to rest.
fn moving(tiers: &[Tier], settled: &[Tier]) -> BTreeMap<ClusterName, Moving> {
    let pairs = members(tiers).zip(members(settled)).filter(|(one, then)| one.member.cluster == then.member.cluster);
    let moving = pairs.filter(|(one, then)| (one.share - then.share).abs() >= 0.01);
    moving.map(|(one, then)| (one.member.cluster.clone(), Moving { share: one.share, rests_at: then.share })).collect()
}

#[cfg(test)]
mod tests;
