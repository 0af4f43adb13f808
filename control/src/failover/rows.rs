//! Failover as people see it: where each service's requests go, why, since when, and what would change it.

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{
    compile::Ordered,
    failover::{
        steering::{Steered, Tier},
        verb::Deed,
    },
    name::{ClusterName, ServiceName},
    resource::{duration, kubernetes::CAPACITY},
};
use serde::{Deserialize, Serialize};

use super::{
    Failover,
    reason::of_use,
    steersman::{RATE_OVER, parts},
    verbs::InForce,
};
use crate::decider::Decider;

/// A service as one importing cluster sends to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailoverRow {
    /// namespace/name.
    pub service: String,
    /// The importing cluster.
    pub importer: String,
    /// Where most requests go; empty: nowhere.
    pub in_use: String,
    /// The tier that is in.
    pub tier: String,
    /// Why: what keeps requests from an earlier tier, or how the tier in use is.
    pub why: String,
    /// Since when most requests go there, seconds.
    pub since_seconds: u64,
    /// What would change it.
    pub next: String,
    /// Policies that are for it, the one that binds first; none: the default.
    pub policies: Vec<String>,
    /// All places, in order.
    pub places: Vec<PlaceRow>,
    /// Clusters that must not be used, and why.
    pub excluded: BTreeMap<ClusterName, String>,
    /// What its policy says and cannot hold.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Requests a second that were refused, of the last seconds: no place might take them.
    #[serde(default)]
    pub refused_per_second: f64,
}

/// A cluster in a tier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlaceRow {
    /// The tier's name.
    pub tier: String,
    /// The cluster.
    pub cluster: String,
    /// The part of all requests that goes there, 0 to 1.
    pub part: f64,
    /// Its share, 0 to 1.
    pub share: f64,
    /// Endpoints that may be used.
    pub healthy: u32,
    /// Endpoints in any state.
    pub total: u32,
    /// Why its share is what it is.
    pub why: String,
    /// What would change it; empty: nothing is wrong.
    pub next: String,
    /// Since when it is for this reason, seconds.
    pub since_seconds: u64,
    /// The most that own proxies may send there, requests a second.
    pub limit: Option<f64>,
    /// Tries a second that the limit kept back, of the last seconds; the next tier may have taken them.
    #[serde(default)]
    pub kept_back_per_second: f64,
    /// Requests a second of own clients, of the last seconds.
    pub requests_per_second: f64,
    /// Part of them that failed, 0 to 1.
    pub error_rate: f64,
    /// 90th percentile of the time to the answer's head, milliseconds; 0: nothing was sent.
    pub p90_ms: u64,
}

/// A verb.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerbRow {
    /// Its name.
    pub name: String,
    /// What it does.
    pub what: String,
    /// drain, evacuate, pin, drill.
    pub verb: String,
    /// The service it is about; none: all.
    pub service: Option<String>,
    /// The cluster it is about.
    pub cluster: String,
    /// The cluster that it was done in.
    pub writer: String,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// For how long it is in force, seconds.
    pub elapsed_seconds: u64,
    /// After how long it ends by itself.
    pub lasts: String,
    /// What it leaves of the share, 0 to 1.
    pub leaves: f64,
    /// Whether it binds the cluster that is asked.
    pub binds: bool,
    /// Whether it is not in the log yet.
    pub local: bool,
    /// Of a drill: why this cluster gave it up.
    pub given_up: Option<String>,
}

impl Failover {
    /// Every service, as it is sent to now.
    #[must_use]
    pub fn rows(&self, orders: &BTreeMap<ServiceName, Ordered>, decider: &Decider, now: Duration) -> Vec<FailoverRow> {
        orders.iter().map(|(service, ordered)| self.row(service, ordered, decider, now)).collect()
    }

    fn row(&self, service: &ServiceName, ordered: &Ordered, decider: &Decider, now: Duration) -> FailoverRow {
        let tiers = self.explained(service, decider, now);
        let parts = parts(&tiers, ordered.policy.when_nothing_healthy);
        let place = |tier: &str, one: &Steered| self.place(service, tier, one, &parts, decider.len(), now);
        let places: Vec<_> =
            tiers.iter().flat_map(|tier| tier.members.iter().map(|one| place(&tier.name, one))).collect();
        let in_use = self.steersman.in_use(service);
        let used = places.iter().find(|one| in_use.is_some_and(|(cluster, _)| cluster.as_str() == one.cluster));
        let (why, next) = of_use(&tiers, &parts, in_use.map(|(cluster, _)| cluster));
        FailoverRow {
            service: service.to_string(),
            importer: self.cluster().to_string(),
            in_use: used.map(|used| used.cluster.clone()).unwrap_or_default(),
            tier: used.map(|used| used.tier.clone()).unwrap_or_default(),
            why,
            since_seconds: in_use.map_or(0, |(_, since)| now.saturating_sub(*since).as_secs()),
            next,
            policies: ordered.policies.clone(),
            places,
            excluded: ordered.order.excluded.clone(),
            notes: tiers
                .iter()
                .flat_map(|tier| &tier.members)
                .filter_map(|one| note(ordered, one, self.cluster()))
                .collect(),
            refused_per_second: self.steersman.refused(now, service) as f64 / RATE_OVER.as_secs_f64(),
        }
    }

    /// What was decided of a service last, with why there is no path where that is the reason.
    fn explained(&self, service: &ServiceName, decider: &Decider, now: Duration) -> Vec<Tier> {
        let mut tiers = self.steersman.tiers(service).to_vec();
        for one in tiers.iter_mut().flat_map(|tier| &mut tier.members) {
            one.why = decider.explained(&one.member.cluster, &one.why, now);
        }
        tiers
    }

    fn place(
        &self,
        service: &ServiceName,
        tier: &str,
        one: &Steered,
        parts: &BTreeMap<ClusterName, f64>,
        others: usize,
        now: Duration,
    ) -> PlaceRow {
        let cluster = &one.member.cluster;
        let recent = self.steersman.recent(now, service, cluster);
        let millis = recent.percentile(90.0).map_or(0, |p90| p90.as_millis());
        PlaceRow {
            tier: tier.to_owned(),
            cluster: cluster.to_string(),
            part: parts.get(cluster).copied().unwrap_or_default(),
            share: one.share,
            healthy: one.member.healthy,
            total: one.member.total,
            why: one.why.clone(),
            next: one.next.clone(),
            since_seconds: now.saturating_sub(one.since).as_secs(),
            limit: self.limits.part(service, one, others),
            kept_back_per_second: recent.limited as f64 / RATE_OVER.as_secs_f64(),
            requests_per_second: recent.requests as f64 / RATE_OVER.as_secs_f64(),
            error_rate: recent.error_rate(),
            p90_ms: u64::try_from(millis).unwrap_or(u64::MAX),
        }
    }

    /// Every verb that is known.
    #[must_use]
    pub fn verb_rows(&self, now: Duration) -> Vec<VerbRow> {
        self.verbs.list(now).map(|one| verb_row(&one)).collect()
    }
}

/// That a part of a capacity which nobody says is no limit.
fn note(ordered: &Ordered, one: &Steered, own: &ClusterName) -> Option<String> {
    let cluster = &one.member.cluster;
    let unknown = cluster != own && one.member.capacity.is_none();
    let cap = ordered.policy.cap_of(cluster).filter(|_| unknown)?;
    cap.share_of_capacity.map(|share| {
        format!(
            "{:.0} % of the capacity of {cluster} is no limit: the Service there says nothing in {CAPACITY}",
            share * 100.0
        )
    })
}

fn verb_row(one: &InForce<'_>) -> VerbRow {
    let verb = one.verb;
    let word = match verb.deed {
        Deed::Drain { .. } => "drain",
        Deed::Evacuate { .. } => "evacuate",
        Deed::Pin { .. } => "pin",
        Deed::Drill { .. } => "drill",
    };
    VerbRow {
        name: verb.name.clone(),
        what: verb.deed.to_string(),
        verb: word.into(),
        service: verb.deed.service().map(ToString::to_string),
        cluster: verb.deed.cluster().to_string(),
        writer: one.writer.to_string(),
        by: verb.by.clone(),
        reason: verb.reason.clone(),
        at_ms: verb.at_ms,
        elapsed_seconds: one.elapsed.as_secs(),
        lasts: duration::written(verb.lasts),
        leaves: if one.binds && one.given_up.is_none() { verb.deed.leaves(one.elapsed) } else { 1.0 },
        binds: one.binds,
        local: one.local,
        given_up: one.given_up.map(ToOwned::to_owned),
    }
}
