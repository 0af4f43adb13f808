//! What would go where if clusters were gone, without sending a packet: this cluster's requests as they are now, decided
//! as if those clusters had been left.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    compile::Ordered,
    failover::steering::{Steered, Tier},
    name::{ClusterName, ServiceName},
};
use serde::{Deserialize, Serialize};

use super::{Failover, steersman::parts};

/// A service of this cluster's clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Simulated {
    /// namespace/name.
    pub service: String,
    /// This cluster.
    pub importer: String,
    /// Requests a second that its clients send now.
    pub requests_per_second: f64,
    /// Part by cluster, now.
    pub now: BTreeMap<ClusterName, f64>,
    /// Part by cluster, then; empty: nowhere to go.
    pub then: BTreeMap<ClusterName, f64>,
    /// Requests a second that each cluster's endpoints can take, where that is said.
    pub capacity: BTreeMap<ClusterName, f64>,
    /// Limits on what goes there, all importers together, requests a second.
    pub limits: BTreeMap<ClusterName, f64>,
    /// Why others that offer it are not used.
    pub excluded: BTreeMap<ClusterName, String>,
}

/// Simulates every service.
#[must_use]
pub fn simulate(
    failover: &Failover,
    orders: &BTreeMap<ServiceName, Ordered>,
    down: &BTreeSet<ClusterName>,
    now: Duration,
) -> Vec<Simulated> {
    let one = |(service, ordered): (&ServiceName, &Ordered)| {
        let tiers = failover.steersman.tiers(service);
        let try_left = ordered.policy.when_nothing_healthy.is_none();
        let without = without(tiers, down, ordered.policy.leave.healthy_share);
        let members = || tiers.iter().flat_map(|tier| &tier.members).map(|one| &one.member);
        let rate = |cluster: &ClusterName| failover.limits.rate(now, service, cluster);
        let some = |parts: BTreeMap<ClusterName, f64>| parts.into_iter().filter(|(_, part)| *part > 0.0).collect();
        Simulated {
            service: service.to_string(),
            importer: failover.cluster().to_string(),
            requests_per_second: members().fold(0.0, |sum, one| sum + rate(&one.cluster)),
            now: some(parts(tiers, try_left)),
            then: some(parts(&without, try_left)),
            capacity: members().filter_map(|one| Some((one.cluster.clone(), one.capacity?))).collect(),
            limits: members().filter_map(|one| Some((one.cluster.clone(), one.cap?))).collect(),
            excluded: ordered.order.excluded.clone(),
        }
    };
    orders.iter().map(one).collect()
}

/// The tiers as if these clusters were gone.
fn without(tiers: &[Tier], down: &BTreeSet<ClusterName>, trigger: f64) -> Vec<Tier> {
    let gone = |one: &Steered| {
        let mut one = one.clone();
        if down.contains(&one.member.cluster) {
            (one.share, one.member.healthy) = (0.0, 0);
        }
        one
    };
    let tier = |tier: &Tier| {
        let members = tier.members.iter().map(gone).collect();
        Tier::of(&tier.name, members, trigger)
    };
    tiers.iter().map(tier).collect()
}
