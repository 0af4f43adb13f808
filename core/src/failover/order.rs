//! The tiers of a service for one importing cluster: what its policy selects, in order, constraints applied. What is
//! healthy does not move the order (KEP-5939: "endpoint conditions must not affect these results").

use std::collections::BTreeMap;

use super::{
    policy::{FailoverPolicy, TierSpec},
    selector::{CLUSTER_PROPERTY, REGION_PROPERTY, SAME_AS_IMPORTER},
};
use crate::name::ClusterName;

/// A cluster that offers a service, as its importer sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Party {
    /// Its name.
    pub name: ClusterName,
    /// Its properties, name and region among them ([`properties`]).
    pub properties: BTreeMap<String, String>,
    /// Round trip, microseconds; 0: its own cluster, or not known.
    pub rtt_us: u64,
    /// Endpoints that may be used.
    pub healthy: u32,
    /// Endpoints in any state.
    pub total: u32,
    /// Requests a second that one endpoint can take; `None`: not said.
    pub capacity: Option<f64>,
}

/// A cluster's properties: what it says of itself, and what every cluster has.
#[must_use]
pub fn properties(name: &ClusterName, region: &str, said: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = said.clone();
    all.insert(CLUSTER_PROPERTY.into(), name.to_string());
    if !region.is_empty() {
        all.insert(REGION_PROPERTY.into(), region.into());
    }
    all
}

/// A tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// For people.
    pub name: String,
    /// Its clusters, by name.
    pub members: Vec<Member>,
}

/// A cluster in a tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its part inside the tier, of the sum of all.
    pub weight: u32,
    /// Endpoints that may be used.
    pub healthy: u32,
    /// Endpoints in any state.
    pub total: u32,
    /// Requests a second that it can take; `None`: not known.
    pub capacity: Option<f64>,
    /// The most that other clusters together may send there, requests a second.
    pub cap: Option<f64>,
}

/// The order, and who is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// Tiers, first to last.
    pub tiers: Vec<Tier>,
    /// Clusters that offer the service and must not be used, with the reason.
    pub excluded: BTreeMap<ClusterName, String>,
}

/// What an order is made from.
pub struct Inputs<'a> {
    /// What binds the service.
    pub policy: &'a FailoverPolicy,
    /// The importing cluster.
    pub importer: &'a ClusterName,
    /// Its properties.
    pub properties: &'a BTreeMap<String, String>,
    /// Who offers the service; the importer too, if it does.
    pub parties: &'a [Party],
    /// Clusters that the service is pinned to.
    pub pins: &'a [ClusterName],
}

/// Makes the order.
#[must_use]
pub fn order(inputs: &Inputs<'_>) -> Order {
    let mut order = Order::default();
    let mut left: Vec<&Party> = vec![];
    for party in inputs.parties {
        match forbidden(inputs, party) {
            Some(reason) => {
                order.excluded.insert(party.name.clone(), reason);
            }
            None => left.push(party),
        }
    }
    let mut take = |name: &str, weights: &BTreeMap<ClusterName, u32>, wanted: &dyn Fn(&Party) -> bool| {
        let (taken, rest): (Vec<&Party>, Vec<&Party>) = left.iter().copied().partition(|party| wanted(party));
        left = rest;
        let mut members: Vec<_> = taken.into_iter().map(|party| member(inputs, party, weights)).collect();
        members.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        if !members.is_empty() {
            order.tiers.push(Tier { name: name.into(), members });
        }
    };
    take("pinned", &BTreeMap::new(), &|party| inputs.pins.contains(&party.name));
    let listed = inputs.policy.tiers.iter().enumerate().take_while(|(_, spec)| !spec.nearest);
    for (index, spec) in listed {
        take(&name(spec, index), &spec.weights, &|party| selects(inputs, spec, party));
    }
    // A tier that is `nearest` takes all the rest, as the end of the list does.
    let mut rest: Vec<_> = inputs.parties.iter().collect();
    rest.sort_by_key(|party| nearness(inputs, party));
    for one in rest {
        let name = if one.name == *inputs.importer { "own cluster" } else { "nearest" };
        take(name, &BTreeMap::new(), &|party| party.name == one.name);
    }
    order
}

fn name(spec: &TierSpec, index: usize) -> String {
    if spec.name.is_empty() { format!("tier {}", index + 1) } else { spec.name.clone() }
}

fn forbidden(inputs: &Inputs<'_>, party: &Party) -> Option<String> {
    let constraints = &inputs.policy.constraints;
    if constraints.never.contains(&party.name) {
        return Some("the policy never uses it".into());
    }
    let outside = !constraints.regions.is_empty() && !in_regions(inputs, party, &constraints.regions);
    outside.then(|| {
        let region = party.properties.get(REGION_PROPERTY).map_or("not known", String::as_str);
        format!("its region ({region}) is not among those the policy keeps to ({})", constraints.regions.join(", "))
    })
}

fn in_regions(inputs: &Inputs<'_>, party: &Party, regions: &[String]) -> bool {
    let same = inputs.properties.get(REGION_PROPERTY);
    let of = party.properties.get(REGION_PROPERTY);
    of.is_some() && regions.iter().any(|one| if one == SAME_AS_IMPORTER { of == same } else { of == Some(one) })
}

fn selects(inputs: &Inputs<'_>, spec: &TierSpec, party: &Party) -> bool {
    if let Some(selector) = &spec.property_selector {
        return selector.selects(&party.properties, inputs.properties);
    }
    let named = |one: &String| match one.as_str() {
        SAME_AS_IMPORTER => party.name == *inputs.importer,
        name => party.name.as_str() == name,
    };
    spec.clusters.iter().any(named) || in_regions(inputs, party, &spec.regions)
}

fn member(inputs: &Inputs<'_>, party: &Party, weights: &BTreeMap<ClusterName, u32>) -> Member {
    let is_own = party.name == *inputs.importer;
    Member {
        cluster: party.name.clone(),
        weight: weights.get(&party.name).copied().unwrap_or(1),
        healthy: party.healthy,
        total: party.total,
        capacity: party.whole_capacity(),
        // A cap is for what others bring: a cluster's own clients come first.
        cap: if is_own { None } else { limit(inputs.policy, party) },
    }
}

/// The limit that a policy sets on what others send to a cluster, requests a second.
#[must_use]
pub fn limit(policy: &FailoverPolicy, party: &Party) -> Option<f64> {
    let cap = policy.cap_of(&party.name)?;
    cap.requests_per_second.or_else(|| Some(cap.share_of_capacity? * party.whole_capacity()?))
}

impl Party {
    /// Requests a second that all its healthy endpoints can take.
    fn whole_capacity(&self) -> Option<f64> {
        self.capacity.map(|each| each * f64::from(self.healthy))
    }
}

/// By round trip in steps, so that near-equal ones do not flutter; then own region, then name. The own cluster first.
fn nearness(inputs: &Inputs<'_>, party: &Party) -> (bool, u32, bool, ClusterName) {
    let region = |of: &BTreeMap<String, String>| of.get(REGION_PROPERTY).cloned();
    let elsewhere = region(&party.properties) != region(inputs.properties);
    (party.name != *inputs.importer, step(party.rtt_us), elsewhere, party.name.clone())
}

/// Steps of 5 ms up to 25 ms, of a fifth above. A round trip nobody measured is the last step.
fn step(rtt_us: u64) -> u32 {
    match rtt_us {
        0 => u32::MAX,
        1..25_000 => u32::try_from(rtt_us / 5_000).unwrap_or_default(),
        more => 5 + ((more as f64 / 25_000.0).ln() / 1.2f64.ln()) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::policy::Constraints;

    fn party(name: &str, region: &str, rtt_us: u64) -> Party {
        let name: ClusterName = name.parse().unwrap();
        let properties = properties(&name, region, &BTreeMap::new());
        Party { name, properties, rtt_us, healthy: 2, total: 2, capacity: Some(100.0) }
    }

    fn parties() -> Vec<Party> {
        vec![
            party("far", "asia", 80_000),
            party("near", "us", 30_000),
            party("own", "us", 0),
            party("unknown", "eu", 0),
        ]
    }

    fn ordered(policy: &FailoverPolicy, pins: &[&str]) -> (Vec<Vec<String>>, Vec<String>) {
        let parties = parties();
        let pins: Vec<_> = pins.iter().map(|name| name.parse().unwrap()).collect();
        let importer = "own".parse().unwrap();
        let order = order(&Inputs {
            policy,
            importer: &importer,
            properties: &parties[2].properties,
            parties: &parties,
            pins: &pins,
        });
        let names = |tier: &Tier| tier.members.iter().map(|member| member.cluster.to_string()).collect();
        (order.tiers.iter().map(names).collect(), order.excluded.keys().map(ToString::to_string).collect())
    }

    fn policy(yaml: &str) -> FailoverPolicy {
        serde_json::from_str(yaml).unwrap()
    }

    #[test]
    fn without_a_policy_the_own_cluster_comes_first_then_the_nearest() {
        let (tiers, _) = ordered(&FailoverPolicy::default(), &[]);
        assert_eq!(tiers, [["own"], ["near"], ["far"], ["unknown"]]);
        assert_eq!(ordered(&FailoverPolicy::default(), &["far"]).0, [["far"], ["own"], ["near"], ["unknown"]]);
    }

    #[test]
    fn tiers_are_taken_in_order_and_what_none_selects_comes_behind() {
        let by_region = policy(
            r#"{"tiers": [{"propertySelector": {"matchProperties": {"region.topology.k8s.io": "@SameAsImporter@"}}},
                          {"clusters": ["unknown"]}]}"#,
        );
        assert_eq!(ordered(&by_region, &[]).0, [vec!["near", "own"], vec!["unknown"], vec!["far"]]);
        let nearest = policy(r#"{"tiers": [{"regions": ["asia"]}, {"nearest": true}, {"clusters": ["unknown"]}]}"#);
        assert_eq!(ordered(&nearest, &[]).0, [["far"], ["own"], ["near"], ["unknown"]]);
    }

    #[test]
    fn constraints_beat_availability_and_pins() {
        let resident = policy(r#"{"constraints": {"regions": ["@SameAsImporter@"], "never": ["near"]}}"#);
        let (tiers, excluded) = ordered(&resident, &["far"]);
        assert_eq!(
            (tiers, excluded),
            (vec![vec!["own".to_owned()]], ["far", "near", "unknown"].map(String::from).into())
        );
        let resident = FailoverPolicy {
            constraints: Constraints { regions: vec!["mars".into()], never: vec![] },
            ..Default::default()
        };
        assert!(ordered(&resident, &[]).0.is_empty(), "rather no answer than one from elsewhere");
    }

    #[test]
    fn a_cap_is_a_number_or_a_part_of_what_is_healthy_and_never_for_the_own_cluster() {
        let caps = policy(r#"{"caps": [{"clusters": ["near"], "requestsPerSecond": 50}, {"shareOfCapacity": 0.5}]}"#);
        let parties = parties();
        let importer = "own".parse().unwrap();
        let properties = &parties[2].properties;
        let inputs = Inputs { policy: &caps, importer: &importer, properties, parties: &parties, pins: &[] };
        let caps: Vec<_> = order(&inputs).tiers.iter().map(|tier| tier.members[0].cap).collect();
        assert_eq!(caps, [None, Some(50.0), Some(100.0), Some(100.0)]);
    }
}
