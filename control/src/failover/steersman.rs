//! Each service's shares: what own requests showed of each cluster, and the steering that decides on it.

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{
    compile::Ordered,
    failover::{
        drill::Shown,
        shares::{self, Place},
        steering::{Sight, Steering, Tier},
        window::{BUCKETS, Tally, Window},
    },
    name::{ClusterName, ServiceName},
};
use isthmus_wire::feed::ServiceEvidence;

use super::{
    Seen,
    history::{Event, History},
    verbs::Verbs,
};

/// Rates for people are of so long.
pub const RATE_OVER: Duration = Duration::from_secs(5);

/// One service's.
#[derive(Debug, Default)]
struct Helm {
    steering: Steering,
    windows: BTreeMap<ClusterName, Window>,
    /// Requests that were refused, because no place might take them.
    refused: Window,
    tiers: Vec<Tier>,
    /// The cluster that gets most, and since when.
    in_use: Option<(ClusterName, Duration)>,
}

/// All services'.
#[derive(Debug)]
pub struct Steersman {
    own: ClusterName,
    helms: BTreeMap<ServiceName, Helm>,
}

impl Steersman {
    /// With the shares that an earlier run gave.
    #[must_use]
    pub fn restored(own: ClusterName, shares: BTreeMap<ServiceName, BTreeMap<ClusterName, f64>>) -> Self {
        let helm = |(service, shares): (ServiceName, BTreeMap<ClusterName, f64>)| {
            (service, Helm { steering: Steering::restored(&shares), ..Helm::default() })
        };
        Self { own, helms: shares.into_iter().map(helm).collect() }
    }

    /// What to keep for the next run.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<ServiceName, BTreeMap<ClusterName, f64>> {
        self.helms.iter().map(|(service, helm)| (service.clone(), helm.steering.shares())).collect()
    }

    /// What a proxy reports.
    pub fn evidence(&mut self, evidence: &ServiceEvidence, now: Duration) {
        let Ok(service) = evidence.service.parse::<ServiceName>() else { return };
        // Only of services that are known: a report is no way to fill the memory.
        let Some(helm) = self.helms.get_mut(&service) else { return };
        if evidence.refused > 0 {
            let (requests, errors) = (evidence.refused, evidence.refused);
            helm.refused.add(now, &Tally { requests, errors, ..Tally::default() });
        }
        let Ok(cluster) = evidence.cluster.parse() else { return };
        let ServiceEvidence { requests, errors, limited, .. } = *evidence;
        let mut tally = Tally { requests, errors, limited, latency: [0; BUCKETS] };
        for (count, reported) in tally.latency.iter_mut().zip(&evidence.latency) {
            *count = *reported;
        }
        let is_member = |tier: &Tier| tier.members.iter().any(|one| one.member.cluster == cluster);
        if helm.tiers.iter().any(is_member) {
            helm.windows.entry(cluster).or_default().add(now, &tally);
        }
    }

    /// What requests to a service showed in the last `over`, wherever they went, and of nothing before `from`.
    #[must_use]
    pub fn shown(&self, now: Duration, service: &ServiceName, over: Duration, from: Duration) -> Shown {
        let Some(helm) = self.helms.get(service) else { return Shown::default() };
        let all = helm.windows.values().chain([&helm.refused]).map(|window| window.sum(now, over, from));
        all.fold(Shown::default(), |sum, one| Shown {
            requests: sum.requests.saturating_add(one.requests),
            failed: sum.failed.saturating_add(one.errors),
        })
    }

    /// Requests that were refused lately.
    #[must_use]
    pub fn refused(&self, now: Duration, service: &ServiceName) -> u64 {
        self.helms.get(service).map_or(0, |helm| helm.refused.sum(now, RATE_OVER, Duration::ZERO).requests)
    }

    /// What requests to one place showed lately.
    #[must_use]
    pub fn recent(&self, now: Duration, service: &ServiceName, cluster: &ClusterName) -> Tally {
        let window = self.helms.get(service).and_then(|helm| helm.windows.get(cluster));
        window.map(|window| window.sum(now, RATE_OVER, Duration::ZERO)).unwrap_or_default()
    }

    /// What was decided of a service last.
    #[must_use]
    pub fn tiers(&self, service: &ServiceName) -> &[Tier] {
        self.helms.get(service).map_or(&[], |helm| &helm.tiers)
    }

    /// The cluster that gets most of a service's requests, and since when.
    #[must_use]
    pub fn in_use(&self, service: &ServiceName) -> Option<&(ClusterName, Duration)> {
        self.helms.get(service)?.in_use.as_ref()
    }

    /// Decides every service.
    pub fn steer(&mut self, seen: &Seen<'_>, verbs: &Verbs, history: &mut History) {
        self.helms.retain(|service, _| seen.orders.contains_key(service));
        for (service, ordered) in seen.orders {
            let helm = self.helms.entry(service.clone()).or_default();
            helm.decide(&self.own, service, ordered, seen, verbs);
            if let Some(event) = helm.moved(service, ordered, seen) {
                history.add(event);
            }
        }
    }
}

impl Helm {
    fn decide(&mut self, own: &ClusterName, service: &ServiceName, ordered: &Ordered, seen: &Seen<'_>, verbs: &Verbs) {
        let now = seen.at.now;
        let (windows, none) = (&self.windows, Window::default());
        let members = ordered.order.tiers.iter().flat_map(|tier| &tier.members);
        let left: BTreeMap<_, _> =
            members.map(|one| (one.cluster.clone(), verbs.leave(now, service, &one.cluster))).collect();
        let whole = (1.0, String::new());
        self.tiers = self.steering.decide(now, &ordered.order, &ordered.policy, |cluster| {
            let (leaves, why) = left.get(cluster).unwrap_or(&whole);
            let standing = seen.decider.sight(cluster).filter(|_| cluster != own);
            Sight {
                left: standing.is_some_and(|(left, ..)| left),
                standing: standing.map_or((isthmus_core::model::Standing::Alive, ""), |(_, how, why)| (how, why)),
                verbs: (*leaves, why),
                window: windows.get(cluster).unwrap_or(&none),
            }
        });
        let member = |name: &ClusterName| left.contains_key(name);
        self.windows.retain(|cluster, _| member(cluster));
    }

    /// Whether most requests go elsewhere than before.
    fn moved(&mut self, service: &ServiceName, ordered: &Ordered, seen: &Seen<'_>) -> Option<Event> {
        let parts = parts(&self.tiers, ordered.policy.when_nothing_healthy.is_none());
        let most = parts.iter().filter(|(_, part)| **part > 0.0).max_by(|(_, a), (_, b)| a.total_cmp(b));
        let most = most.map(|(cluster, _)| cluster.clone());
        let before = self.in_use.as_ref().map(|(cluster, _)| cluster.clone());
        if most == before {
            return None;
        }
        self.in_use = most.clone().map(|cluster| (cluster, seen.at.now));
        let name = |cluster: Option<&ClusterName>| cluster.map_or_else(|| "nowhere".into(), ToString::to_string);
        let reason = before
            .as_ref()
            .and_then(|left| why(&self.tiers, left))
            .or(most.as_ref().and_then(|to| why(&self.tiers, to)));
        let before_name = before.as_ref()?;
        Some(Event {
            at_ms: seen.at.unix_ms,
            kind: "service".into(),
            of: service.to_string(),
            what: format!("{before_name} → {}", name(most.as_ref())),
            why: reason.unwrap_or_default(),
            by: String::new(),
        })
    }
}

fn why(tiers: &[Tier], cluster: &ClusterName) -> Option<String> {
    tiers.iter().flat_map(|tier| &tier.members).find(|one| one.member.cluster == *cluster).map(|one| one.why.clone())
}

/// The part of all requests of each cluster.
#[must_use]
pub fn parts(tiers: &[Tier], try_left: bool) -> BTreeMap<ClusterName, f64> {
    let places = |tier: &Tier| {
        let place = |one: &isthmus_core::failover::steering::Steered| Place {
            weight: f64::from(one.member.weight) * one.share,
            usable: one.member.healthy > 0,
        };
        (tier.share, tier.members.iter().map(place).collect::<Vec<_>>())
    };
    let parts = shares::parts(&tiers.iter().map(places).collect::<Vec<_>>(), try_left);
    let members = tiers.iter().flat_map(|tier| &tier.members).map(|one| one.member.cluster.clone());
    members.zip(parts.into_iter().flatten()).collect()
}
