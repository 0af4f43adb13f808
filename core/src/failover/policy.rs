//! FailoverPolicy (`isthmus.dev/v1alpha1`): what operators write of tiers, triggers, caps, return and constraints; and
//! which of several binds a service (DESIGN.md decisions 10 and 27).
//!
//! A policy is for the services of its own namespace; one of the namespace `isthmus-system` is for any. Of two that
//! bind a service the more specific wins, then the importer's own, then the older.

mod binding;
mod cap;
mod leave;
mod targets;
mod tier;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::{
    binding::{Candidate, Written, binding},
    cap::Cap,
    leave::{ErrorRate, LONGEST_WINDOW, Latency, Leave},
    targets::{SYSTEM_NAMESPACE, Targets},
    tier::TierSpec,
};
use crate::{name::ClusterName, resource::duration};

/// The most tiers (KEP-5939: `MaxItems=16`).
const MOST_TIERS: usize = 16;

/// `spec` of a FailoverPolicy. All of it may be left out: what is not written is as [`Default`] has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct FailoverPolicy {
    /// For which services; nothing written: all that the policy's namespace may be for.
    pub services: Targets,
    /// In order. Clusters that none selects come behind, nearest first (KEP-5939: all constituent clusters). None
    /// written: the own cluster, then the others by measured round trip.
    pub tiers: Vec<TierSpec>,
    /// When a tier is left.
    pub leave: Leave,
    /// Limits that protect who carries another's load; the first that selects a cluster counts.
    pub caps: Vec<Cap>,
    /// How a tier is returned to.
    pub failback: Failback,
    /// What beats availability.
    pub constraints: Constraints,
    /// What to do when no tier has anything healthy. Not written: what is ready in a cluster that was left is tried,
    /// because not to see a cluster does not mean that it is dead; what is not ready is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_nothing_healthy: Option<WhenNothingHealthy>,
}

/// How a tier is returned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Failback {
    /// After so long without trouble; at least [`super::STABLE`], which a path has to hold anyway.
    #[serde(with = "duration::text")]
    pub after: Duration,
    /// Along a ramp of this length.
    #[serde(with = "duration::text")]
    pub ramp: Duration,
}

impl Default for Failback {
    fn default() -> Self {
        Self { after: super::STABLE, ramp: super::RAMP }
    }
}

/// What beats availability: rather no answer than one from elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Constraints {
    /// Residency: only clusters of these regions; `@SameAsImporter@` is the importing cluster's. None: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// Clusters that are never used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<ClusterName>,
}

/// What to do when no tier has anything healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WhenNothingHealthy {
    /// Answer at once that there is nothing.
    Fail,
    /// Try every endpoint that the constraints allow, healthy or not.
    TryAll,
}

impl FailoverPolicy {
    /// What is wrong with it in a namespace, as (field, reason): what is right and what would be.
    #[must_use]
    pub fn faults(&self, namespace: &str) -> Vec<(String, String)> {
        let mut faults = self.services.faults(namespace);
        if self.tiers.len() > MOST_TIERS {
            faults.push(("spec.tiers".into(), format!("{} tiers; at most {MOST_TIERS} are taken", self.tiers.len())));
        }
        for (index, tier) in self.tiers.iter().enumerate() {
            faults.extend(tier.fault().map(|(field, reason)| (format!("spec.tiers[{index}]{field}"), reason)));
        }
        faults.extend(self.leave.faults());
        for (index, cap) in self.caps.iter().enumerate() {
            faults.extend(cap.fault().map(|reason| (format!("spec.caps[{index}]"), reason)));
        }
        faults
    }

    /// What limits what others send to a cluster: the first that selects it.
    #[must_use]
    pub fn cap_of(&self, cluster: &ClusterName) -> Option<&Cap> {
        self.caps.iter().find(|cap| cap.clusters.is_empty() || cap.clusters.contains(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let tier = TierSpec { clusters: vec!["a".into()], nearest: true, ..Default::default() };
        let leave = Leave {
            healthy_share: 0.0,
            error_rate: Some(ErrorRate { above: 0.2, below: Some(0.3), over: Duration::from_secs(900) }),
            ..Default::default()
        };
        let services = Targets { names: vec!["b/c".into()], namespaces: vec!["x".into()], ..Default::default() };
        let spec =
            FailoverPolicy { services, tiers: vec![tier], leave, caps: vec![Cap::default()], ..Default::default() };
        let fields: Vec<_> = spec.faults("shop").into_iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            [
                "spec.services",
                "spec.services.namespaces",
                "spec.services.names[0]",
                "spec.tiers[0]",
                "spec.leave.healthyShare",
                "spec.leave.errorRate.below",
                "spec.leave.errorRate.over",
                "spec.caps[0]"
            ]
        );
        assert_eq!(FailoverPolicy::default().faults("shop"), []);
    }

    #[test]
    fn what_is_said_reads_as_it_was_written() {
        let spec = FailoverPolicy {
            tiers: vec![TierSpec { nearest: true, ..Default::default() }],
            leave: Leave {
                latency: Some(Latency {
                    above: Duration::from_millis(1500),
                    below: None,
                    percentile: 99.0,
                    over: leave::window(),
                }),
                ..Default::default()
            },
            when_nothing_healthy: Some(WhenNothingHealthy::Fail),
            ..Default::default()
        };
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<FailoverPolicy>(&json).unwrap(), spec, "{json}");
    }
}
