//! FailoverPolicy (`isthmus.dev/v1alpha1`): what operators write of tiers, triggers, caps, return and constraints; and
//! which of several binds a service (DESIGN.md decisions 10 and 27).
//!
//! A policy is for the services of its own namespace; one of the namespace `isthmus-system` is for any. Of two that
//! bind a service the more specific wins, then the importer's own, then the older.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    selector::{LabelSelector, PropertySelector},
    window::SLOWEST_TOLD,
};
use crate::{
    name::{ClusterName, ServiceName},
    resource::duration,
};

/// Policies of this namespace may be for services of any.
pub const SYSTEM_NAMESPACE: &str = "isthmus-system";
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

/// Services by name, by label, or by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Targets {
    /// Of the policy's namespace, or `namespace/name` in a policy of `isthmus-system`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// By the labels of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Of these namespaces; only in a policy of `isthmus-system`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

/// A tier: exactly one of the selectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TierSpec {
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// By cluster properties (KEP-5939).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property_selector: Option<PropertySelector>,
    /// By name; `@SameAsImporter@` is the importing cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// By region; `@SameAsImporter@` is the importing cluster's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// All that no tier above selects, each a tier of its own, by measured round trip.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nearest: bool,
    /// Parts inside the tier, by cluster; 1 where none is written. With 0 it gets none and props up nothing: it is tried
    /// when nothing that has a part, of any tier, is left.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<ClusterName, u32>,
}

/// When a tier is left, in part or wholly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Leave {
    /// The trigger part, above 0 to 1: a tier's share is min(1, healthy part ÷ this), the rest goes on to the next.
    pub healthy_share: f64,
    /// With fewer healthy endpoints than this a cluster gets nothing.
    pub healthy_at_least: u32,
    /// Leaves a cluster whose requests fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<ErrorRate>,
    /// Leaves a cluster that answers slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

impl Default for Leave {
    /// Envoy's overprovisioning factor of 1.4, turned round; nothing else leaves unless the policy says so.
    fn default() -> Self {
        Self { healthy_share: 0.7, healthy_at_least: 0, error_rate: None, latency: None }
    }
}

/// Failed requests of all, over a window: those without an answer, with a 5xx, or with a status of gRPC that means as much.
/// Fewer than [`super::breaker::LEAST_REQUESTS`] in it prove nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ErrorRate {
    /// Above this part, 0 to 1, the cluster is left.
    pub above: f64,
    /// Only below this part does its share rise again; half of `above` when not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// The window.
    #[serde(default = "window", with = "duration::text")]
    pub over: Duration,
}

/// A percentile of the time to the answer's head, over a window. Times are counted in buckets
/// ([`super::window::BOUNDS_MS`]): `above` holds when all of the percentile's bucket is above it, `below` when all of it is
/// below. Fewer than [`super::breaker::LEAST_REQUESTS`] in the window prove nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Latency {
    /// Above this the cluster is left.
    #[serde(with = "duration::text")]
    pub above: Duration,
    /// Only below this does its share rise again; half of `above` when not written.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional_text")]
    pub below: Option<Duration>,
    /// Which percentile, above 0 to 100.
    #[serde(default = "percentile")]
    pub percentile: f64,
    /// The window.
    #[serde(default = "window", with = "duration::text")]
    pub over: Duration,
}

fn window() -> Duration {
    Duration::from_secs(10)
}

fn percentile() -> f64 {
    90.0
}

/// The longest window.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(300);

/// A limit on what other clusters send to one that this selects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Cap {
    /// Which clusters; none written: every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterName>,
    /// So many requests a second, of all other clusters together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Such a part of its capacity, above 0: healthy endpoints times the `isthmus.dev/capacity` of its Service
    /// (requests a second that an endpoint can take). Without that annotation there is no limit, and status says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_of_capacity: Option<f64>,
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
}

impl FailoverPolicy {
    /// What limits what others send to a cluster: the first that selects it.
    #[must_use]
    pub fn cap_of(&self, cluster: &ClusterName) -> Option<&Cap> {
        self.caps.iter().find(|cap| cap.clusters.is_empty() || cap.clusters.contains(cluster))
    }
}

fn is_part(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

impl TierSpec {
    fn fault(&self) -> Option<(String, String)> {
        let selectors =
            [self.property_selector.is_some(), !self.clusters.is_empty(), !self.regions.is_empty(), self.nearest];
        if selectors.iter().filter(|is_there| **is_there).count() != 1 {
            let reason = "a tier has exactly one of propertySelector, clusters, regions and nearest";
            return Some((String::new(), reason.into()));
        }
        let fault = self.property_selector.as_ref().and_then(PropertySelector::fault);
        fault.map(|(field, reason)| {
            let dot = if field.is_empty() { "" } else { "." };
            (format!(".propertySelector{dot}{field}"), reason)
        })
    }
}

impl Leave {
    fn faults(&self) -> Vec<(String, String)> {
        let mut faults = vec![];
        let mut fault = |field: &str, reason: String| faults.push((format!("spec.leave.{field}"), reason));
        if !is_part(self.healthy_share) {
            fault("healthyShare", format!("{} is no part; write a number above 0, at most 1", self.healthy_share));
        }
        if let Some(rate) = &self.error_rate {
            if !is_part(rate.above) {
                fault("errorRate.above", format!("{} is no part; write a number above 0, at most 1", rate.above));
            }
            if rate.below.is_some_and(|below| !(0.0..=rate.above).contains(&below)) {
                fault("errorRate.below", "it must not be above `above`, or nothing would ever return".into());
            }
            if !is_window(rate.over) {
                fault("errorRate.over", "a window is 1s to 5m".into());
            }
        }
        if let Some(latency) = &self.latency {
            if latency.above.is_zero() || latency.below.is_some_and(|below| below > latency.above) {
                fault("latency.below", "it must not be above `above`, and `above` not 0".into());
            }
            if latency.above > SLOWEST_TOLD {
                fault("latency.above", "times beyond 10s are not told apart; write 10s or less".into());
            }
            if !(latency.percentile > 0.0 && latency.percentile <= 100.0) {
                fault("latency.percentile", format!("{} is no percentile", latency.percentile));
            }
            if !is_window(latency.over) {
                fault("latency.over", "a window is 1s to 5m".into());
            }
        }
        faults
    }
}

fn is_window(over: Duration) -> bool {
    over >= Duration::from_secs(1) && over <= LONGEST_WINDOW
}

impl Cap {
    fn fault(&self) -> Option<String> {
        let positive = |value: Option<f64>| value.is_none_or(|value| value > 0.0 && value.is_finite());
        match (self.requests_per_second, self.share_of_capacity) {
            (None, None) | (Some(_), Some(_)) => {
                Some("a cap has exactly one of requestsPerSecond and shareOfCapacity".into())
            }
            (rate, share) if !positive(rate) || !positive(share) => Some("a cap is a number above 0".into()),
            _ => None,
        }
    }
}

impl Targets {
    fn faults(&self, namespace: &str) -> Vec<(String, String)> {
        let mut faults = vec![];
        let ways = [!self.names.is_empty(), self.selector.is_some(), !self.namespaces.is_empty()];
        if ways.iter().filter(|is_there| **is_there).count() > 1 {
            faults.push(("spec.services".into(), "write one of names, selector and namespaces".into()));
        }
        if !self.namespaces.is_empty() && namespace != SYSTEM_NAMESPACE {
            let reason = format!("only a policy of {SYSTEM_NAMESPACE} is for other namespaces than its own");
            faults.push(("spec.services.namespaces".into(), reason));
        }
        for (index, name) in self.names.iter().enumerate() {
            if self.service(namespace, name).is_none() {
                let reason = match namespace {
                    SYSTEM_NAMESPACE => format!("{name:?} names no service; write namespace/name"),
                    _ => format!("{name:?} is no name of a service in {namespace}"),
                };
                faults.push((format!("spec.services.names[{index}]"), reason));
            }
        }
        faults.extend(
            self.selector
                .as_ref()
                .and_then(LabelSelector::fault)
                .map(|(field, reason)| (format!("spec.services.selector.{field}"), reason)),
        );
        faults
    }

    fn service(&self, namespace: &str, name: &str) -> Option<ServiceName> {
        let full = name
            .parse::<ServiceName>()
            .ok()
            .filter(|full| namespace == SYSTEM_NAMESPACE || full.namespace() == namespace);
        full.or_else(|| ServiceName::new(namespace, name).ok().filter(|_| namespace != SYSTEM_NAMESPACE))
    }

    /// How specific it is about a service: 3 by name, 2 by label, 1 by namespace, 0 all; `None`: it is not for it.
    fn specificity(&self, namespace: &str, service: &ServiceName, labels: &BTreeMap<String, String>) -> Option<u8> {
        let anywhere = namespace == SYSTEM_NAMESPACE;
        if !anywhere && service.namespace() != namespace {
            return None;
        }
        if !self.names.is_empty() {
            let named = |name: &String| self.service(namespace, name).as_ref() == Some(service);
            return self.names.iter().any(named).then_some(3);
        }
        if let Some(selector) = &self.selector {
            return selector.selects(labels).then_some(2);
        }
        if !self.namespaces.is_empty() {
            return self.namespaces.iter().any(|name| name == service.namespace()).then_some(1);
        }
        Some(u8::from(!anywhere))
    }
}

/// A policy as its cluster says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Written {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// When its cluster read it first, Unix milliseconds by that cluster's clock: of two the older binds.
    pub created_ms: u64,
    /// What it says.
    pub spec: FailoverPolicy,
}

/// A policy and who wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// The cluster that wrote it.
    pub writer: &'a ClusterName,
    /// The policy.
    pub policy: &'a Written,
}

impl std::fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} of {}", self.policy.namespace, self.policy.name, self.writer)
    }
}

/// Those that are for a service, the one that binds it first. `candidates` are only those that may bind `importer` at
/// all ([`crate::consent`]).
#[must_use]
pub fn binding<'a>(
    importer: &ClusterName,
    service: &ServiceName,
    labels: &BTreeMap<String, String>,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
) -> Vec<Candidate<'a>> {
    let ranked = |one: Candidate<'a>| {
        let specific = one.policy.spec.services.specificity(&one.policy.namespace, service, labels)?;
        let rank = (Reverse(specific), one.writer != importer, one.policy.created_ms);
        Some(((rank, one.writer, &one.policy.namespace, &one.policy.name), one))
    };
    let mut all: Vec<_> = candidates.into_iter().filter_map(ranked).collect();
    all.sort_by_key(|(rank, _)| *rank);
    all.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(namespace: &str, name: &str, created_ms: u64, services: Targets) -> Written {
        let spec = FailoverPolicy { services, ..Default::default() };
        Written { namespace: namespace.into(), name: name.into(), created_ms, spec }
    }

    fn names(of: &[&str]) -> Targets {
        Targets { names: of.iter().map(ToString::to_string).collect(), ..Default::default() }
    }

    #[test]
    fn the_more_specific_binds_then_the_importers_own_then_the_older() {
        let [east, west] = ["east", "west"].map(|name| name.parse::<ClusterName>().unwrap());
        let service = ServiceName::new("shop", "cart").unwrap();
        let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
        let by_label = LabelSelector { match_labels: labels.clone(), ..Default::default() };
        let all = policy("isthmus-system", "all", 1, Targets::default());
        let namespace = policy("shop", "namespace", 2, Targets::default());
        let label = policy("shop", "label", 3, Targets { selector: Some(by_label), ..Default::default() });
        let name = policy("isthmus-system", "name", 4, names(&["shop/cart"]));
        let (younger, other) =
            (policy("shop", "younger", 9, names(&["cart"])), policy("shop", "other", 0, names(&["x"])));
        let elsewhere = policy("bank", "elsewhere", 0, Targets::default());
        let of = |writer, policy| Candidate { writer, policy };
        let offered = [
            of(&east, &all),
            of(&east, &namespace),
            of(&east, &label),
            of(&east, &name),
            of(&east, &other),
            of(&east, &elsewhere),
            of(&east, &younger),
            of(&west, &younger),
        ];
        let bound = binding(&west, &service, &labels, offered);
        let order: Vec<_> = bound.iter().map(ToString::to_string).collect();
        assert_eq!(
            order,
            [
                "shop/younger of west",
                "isthmus-system/name of east",
                "shop/younger of east",
                "shop/label of east",
                "shop/namespace of east",
                "isthmus-system/all of east"
            ]
        );
    }

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
                    over: window(),
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
