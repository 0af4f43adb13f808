//! Why a service's requests go where they go, and why they moved, in words.

use std::{collections::BTreeMap, sync::Arc};

use isthmus_core::{
    compile::Ordered,
    failover::{
        policy::FailoverPolicy,
        steering::{Steered, Tier},
    },
    name::ClusterName,
};

/// What places bind: to tell a change of them from a change of health.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    policy: Arc<FailoverPolicy>,
    /// The policy's name; `None`: the default.
    name: Option<String>,
    order: Vec<Vec<ClusterName>>,
}

impl Bound {
    pub(super) fn of(ordered: &Ordered) -> Self {
        let names = |tier: &isthmus_core::failover::order::Tier| {
            tier.members.iter().map(|member| member.cluster.clone()).collect()
        };
        Self {
            policy: Arc::clone(&ordered.policy),
            name: ordered.policies.first().cloned(),
            order: ordered.order.tiers.iter().map(names).collect(),
        }
    }

    /// What is other than before, in the policy; `None`: nothing.
    fn policy_since(&self, before: &Self) -> Option<String> {
        let changed = self.name != before.name || self.policy != before.policy;
        changed.then(|| match &self.name {
            Some(name) if self.name == before.name => format!("policy {name} was changed"),
            Some(name) => format!("policy {name} binds now"),
            None => "no policy binds any more: the default does".into(),
        })
    }
}

/// Where a place is: its tier's number, its tier, itself.
type Found<'a> = (usize, &'a Tier, &'a Steered);

fn find<'a>(tiers: &'a [Tier], cluster: &ClusterName) -> Option<Found<'a>> {
    let mut all = tiers.iter().enumerate().flat_map(|(nth, tier)| tier.members.iter().map(move |one| (nth, tier, one)));
    all.find(|(_, _, one)| one.member.cluster == *cluster)
}

fn is_wrong(one: &Steered) -> bool {
    !one.next.is_empty()
}

/// Why a cluster gets most of a service's requests, and what would change it.
pub(super) fn of_use(
    tiers: &[Tier],
    parts: &BTreeMap<ClusterName, f64>,
    used: Option<&ClusterName>,
) -> (String, String) {
    let Some((nth, tier, used)) = used.and_then(|used| find(tiers, used)) else {
        let wrong = tiers.iter().flat_map(|tier| &tier.members).find(|one| is_wrong(one));
        return match wrong {
            Some(one) => (format!("{}: {}", one.member.cluster, one.why), one.next.clone()),
            None => ("nobody that may be used offers it".into(), String::new()),
        };
    };
    // What is wrong in an earlier tier is why a later one is used; in its own, only what would get more than it.
    let earlier = tiers.iter().take(nth).flat_map(|tier| &tier.members);
    let before = tier.members.iter().filter(|one| one.member.weight > used.member.weight);
    if let Some(wrong) = earlier.chain(before).find(|one| one.member.weight > 0 && is_wrong(one)) {
        return (format!("{}: {}", wrong.member.cluster, wrong.why), wrong.next.clone());
    }
    let shared =
        tier.members.iter().filter(|one| parts.get(&one.member.cluster).is_some_and(|part| *part > 0.0)).count();
    let by_weight = if shared > 1 { "by weight; " } else { "" };
    (format!("{by_weight}{}", used.why), used.next.clone())
}

/// A move of most requests from one cluster to another.
pub(super) struct Moved<'a> {
    pub(super) ordered: &'a Ordered,
    pub(super) tiers: &'a [Tier],
    /// What bound when it was decided last; `None`: nothing was decided before.
    pub(super) before: Option<&'a Bound>,
    pub(super) now: &'a Bound,
}

impl Moved<'_> {
    /// Why.
    pub(super) fn why(&self, left: &ClusterName, to: Option<&ClusterName>) -> String {
        if let Some(policy) = self.before.and_then(|before| self.now.policy_since(before)) {
            return policy;
        }
        if let Some(excluded) = self.ordered.order.excluded.get(left) {
            return excluded.clone();
        }
        let to = to.and_then(|to| find(self.tiers, to));
        let Some((at, _, one)) = find(self.tiers, left) else { return format!("{left} does not offer it any more") };
        if is_wrong(one) && to.is_none_or(|(nth, ..)| nth >= at) {
            return one.why.clone();
        }
        let Some((nth, _, to)) = to else { return one.why.clone() };
        if nth < at && self.before.is_some_and(|before| before.order != self.now.order) {
            return format!("the order changed: {} comes before {left} now", to.member.cluster);
        }
        if nth == at {
            return format!("by weight; {}", to.why);
        }
        to.why.clone()
    }
}
