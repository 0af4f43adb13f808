//! Each service's shares: what own requests showed of each cluster, and the steering that decides on it.

use std::{collections::BTreeMap, time::Duration};

pub use isthmus_core::failover::steering::parts;
use isthmus_core::{
    compile::Ordered,
    failover::{
        drill::Shown,
        steering::{Sight, Steering, Tier, Wait},
        window::{BUCKETS, Tally, Window},
    },
    model::Standing,
    name::{ClusterName, ServiceName},
};
use isthmus_wire::feed::ServiceEvidence;

use super::{
    Seen,
    history::{Event, History},
    reason::{Bound, Moved},
    verbs::Verbs,
};

/// Something of each cluster, of each service.
pub type Of<T> = BTreeMap<ServiceName, BTreeMap<ClusterName, T>>;

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
    /// What it was decided by.
    bound: Option<Bound>,
}

/// What a cluster is taken to be like.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// It is left: dead or cut off.
    pub left: bool,
    /// What verbs leave of it, 0 to 1.
    pub leaves: f64,
}

/// All services'.
#[derive(Debug)]
pub struct Steersman {
    own: ClusterName,
    helms: BTreeMap<ServiceName, Helm>,
}

impl Steersman {
    /// With the shares that an earlier run gave, and what they wait for.
    #[must_use]
    pub fn restored(own: ClusterName, shares: Of<f64>, mut waits: Of<Wait>) -> Self {
        let helm = |(service, shares): (ServiceName, BTreeMap<ClusterName, f64>)| {
            let steering = Steering::restored(&shares, waits.remove(&service).unwrap_or_default());
            (service, Helm { steering, ..Helm::default() })
        };
        Self { own, helms: shares.into_iter().map(helm).collect() }
    }

    /// What to keep for the next run.
    #[must_use]
    pub fn shares(&self) -> Of<f64> {
        self.helms.iter().map(|(service, helm)| (service.clone(), helm.steering.shares())).collect()
    }

    /// What to keep beside the shares.
    #[must_use]
    pub fn waits(&self) -> Of<Wait> {
        let all = self.helms.iter().map(|(service, helm)| (service.clone(), helm.steering.waits()));
        all.filter(|(_, waits)| !waits.is_empty()).collect()
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

    /// A service's tiers where its shares come to rest, if clusters are like this and show what they show now.
    #[must_use]
    pub fn settled(
        &self,
        now: Duration,
        service: &ServiceName,
        ordered: &Ordered,
        outlook: impl Fn(&ClusterName) -> Outlook,
    ) -> Vec<Tier> {
        let (unknown, none) = (Helm::default(), Window::default());
        let helm = self.helms.get(service).unwrap_or(&unknown);
        helm.steering.settled(now, &ordered.order, &ordered.policy, |cluster| {
            let Outlook { left, leaves } = outlook(cluster);
            let window = helm.windows.get(cluster).unwrap_or(&none);
            Sight { left, standing: (Standing::Alive, ""), verbs: (leaves, ""), window }
        })
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
                standing: standing.map_or((Standing::Alive, ""), |(_, how, why)| (how, why)),
                verbs: (*leaves, why),
                window: windows.get(cluster).unwrap_or(&none),
            }
        });
        let member = |name: &ClusterName| left.contains_key(name);
        self.windows.retain(|cluster, _| member(cluster));
    }

    /// Whether most requests go elsewhere than before.
    fn moved(&mut self, service: &ServiceName, ordered: &Ordered, seen: &Seen<'_>) -> Option<Event> {
        let parts = parts(&self.tiers, ordered.policy.when_nothing_healthy);
        let most = parts.iter().filter(|(_, part)| **part > 0.0).max_by(|(_, a), (_, b)| a.total_cmp(b));
        let most = most.map(|(cluster, _)| cluster.clone());
        let bound = self.bound.replace(Bound::of(ordered));
        let before = self.in_use.as_ref().map(|(cluster, _)| cluster.clone());
        if most == before {
            return None;
        }
        self.in_use = most.clone().map(|cluster| (cluster, seen.at.now));
        let left = before?;
        let moved = Moved { ordered, tiers: &self.tiers, before: bound.as_ref(), now: self.bound.as_ref()? };
        Some(Event {
            at_ms: seen.at.unix_ms,
            kind: "service".into(),
            of: service.to_string(),
            what: format!("{left} → {}", most.as_ref().map_or_else(|| "nowhere".into(), ToString::to_string)),
            why: moved.why(&left, most.as_ref()),
            by: String::new(),
        })
    }
}
