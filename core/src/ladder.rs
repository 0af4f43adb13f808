//! The ladder: the ordered tiers a client falls through, for one service and subset.
//!
//! Own zone, own region, rest of the own cluster, then each other cluster, nearest first by measured round trip. A tier
//! takes its share of the requests that reach it; what is left goes on to the next. The last living place is never left
//! for nothing: when all shares together leave requests over, the tiers that have usable endpoints take them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{Endpoints, RemoteCluster, Standing},
    name::{ClusterName, Locality, SpiffeId},
};

/// A tier takes all that reaches it while at least this part of its endpoints is usable (Envoy's overprovisioning
/// factor of 1.4, turned round).
pub const WHOLE_ABOVE: f64 = 0.7;

/// Where a tier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The own zone.
    Zone,
    /// The own region, other zones.
    Region,
    /// The own cluster, elsewhere.
    Cluster,
    /// Another cluster.
    Remote(ClusterName),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zone => write!(f, "own zone"),
            Self::Region => write!(f, "own region"),
            Self::Cluster => write!(f, "own cluster"),
            Self::Remote(name) => write!(f, "cluster {name}"),
        }
    }
}

/// One tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Where it is.
    pub place: Place,
    /// Of [`Endpoints::local`], the indexes of those that may be used; empty for other clusters.
    pub endpoints: Vec<usize>,
    /// How many may be used, here or there.
    pub usable: u32,
    /// How many there are in any state.
    pub total: u32,
    /// The part it takes of the requests that reach it, 0 to 1.
    pub share: f64,
    /// Measured round trip, microseconds; 0: own cluster, or not known.
    pub rtt_us: u64,
    /// Of another cluster: who may answer.
    pub identities: BTreeSet<SpiffeId>,
    /// How the other cluster stands.
    pub standing: Standing,
}

/// Tiers in order, ready to be chosen from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ladder {
    tiers: Vec<Tier>,
    /// Where each tier's part of all requests ends, of 2^32.
    ends: Vec<u64>,
}

/// What a ladder is built from.
pub struct Inputs<'a> {
    /// Where the client is.
    pub own: &'a Locality,
    /// The service's endpoints.
    pub endpoints: &'a Endpoints,
    /// Other clusters by name.
    pub clusters: &'a BTreeMap<ClusterName, RemoteCluster>,
    /// Labels an endpoint must carry (a subset's); empty: any.
    pub labels: &'a BTreeMap<String, String>,
    /// Whether it climbs beyond the own cluster.
    pub remote: bool,
}

impl Ladder {
    /// Builds the tiers. Tiers without any endpoint are left out.
    #[must_use]
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let mut tiers = local_tiers(inputs);
        if inputs.remote {
            tiers.extend(remote_tiers(inputs));
        }
        let ends = ends(&tiers);
        Self { tiers, ends }
    }

    /// The tiers in order.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Chooses a tier by shares; `None`: nothing is usable anywhere.
    #[must_use]
    pub fn choose(&self, random: u64) -> Option<usize> {
        let draw = random >> 32;
        self.ends.iter().position(|end| draw < *end)
    }

    /// The order in which to try tiers when the chosen one does not answer: those after it, then those before it, those
    /// with a share first. Only tiers with usable endpoints.
    pub fn fallbacks(&self, chosen: usize) -> impl Iterator<Item = usize> {
        let order = || (chosen + 1..self.tiers.len()).chain(0..chosen.min(self.tiers.len()));
        let with = move |shared: bool| {
            order().filter(move |index| {
                self.tiers.get(*index).is_some_and(|tier| tier.usable > 0 && (tier.share > 0.0) == shared)
            })
        };
        with(true).chain(with(false))
    }

    /// The part of all requests that the tier at `index` takes, 0 to 1.
    #[must_use]
    pub fn part(&self, index: usize) -> f64 {
        let end = self.ends.get(index).copied().unwrap_or_default();
        let begin = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        (end - begin) as f64 / WHOLE as f64
    }
}

const WHOLE: u64 = 1 << 32;

fn ends(tiers: &[Tier]) -> Vec<u64> {
    let mut left = 1.0f64;
    let mut parts: Vec<f64> = tiers
        .iter()
        .map(|tier| {
            let part = if tier.usable > 0 { left * tier.share } else { 0.0 };
            left -= part;
            part
        })
        .collect();
    spread_rest(tiers, &mut parts, left);
    let mut sum = 0.0f64;
    let last = parts.iter().rposition(|part| *part > 0.0);
    parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            sum += part;
            if last.is_some_and(|last| index >= last) { WHOLE } else { ((sum * WHOLE as f64) as u64).min(WHOLE) }
        })
        .collect()
}

/// What no tier took goes to those that have a part already, in proportion; when none has, to the first usable one.
fn spread_rest(tiers: &[Tier], parts: &mut [f64], left: f64) {
    let taken = 1.0 - left;
    if taken > 1e-9 {
        parts.iter_mut().for_each(|part| *part /= taken);
    } else if let Some(part) = tiers.iter().position(|tier| tier.usable > 0).and_then(|first| parts.get_mut(first)) {
        *part = 1.0;
    }
}

fn health_share(usable: u32, total: u32) -> f64 {
    if total == 0 { 0.0 } else { (f64::from(usable) / f64::from(total) / WHOLE_ABOVE).min(1.0) }
}

fn carries(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn local_tiers(inputs: &Inputs<'_>) -> Vec<Tier> {
    let place = |locality: &Locality| {
        if locality.region != inputs.own.region {
            Place::Cluster
        } else if locality.zone != inputs.own.zone {
            Place::Region
        } else {
            Place::Zone
        }
    };
    let mut tiers = vec![];
    for wanted in [Place::Zone, Place::Region, Place::Cluster] {
        let members: Vec<_> = (inputs.endpoints.local.iter().enumerate())
            .filter(|(_, one)| place(&one.locality) == wanted && carries(&one.labels, inputs.labels))
            .collect();
        if members.is_empty() {
            continue;
        }
        let endpoints: Vec<_> =
            members.iter().filter(|(_, one)| one.state.is_usable()).map(|(index, _)| *index).collect();
        let (usable, total) = (count(endpoints.len()), count(members.len()));
        tiers.push(Tier {
            place: wanted,
            endpoints,
            usable,
            total,
            share: health_share(usable, total),
            rtt_us: 0,
            identities: BTreeSet::new(),
            standing: Standing::Alive,
        });
    }
    tiers
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn remote_tiers(inputs: &Inputs<'_>) -> Vec<Tier> {
    let mut tiers: Vec<_> = inputs
        .endpoints
        .remote
        .iter()
        .filter_map(|(name, groups)| {
            let cluster = inputs.clusters.get(name)?;
            let groups: Vec<_> = groups.iter().filter(|group| carries(&group.labels, inputs.labels)).collect();
            let (usable, total) =
                groups.iter().fold((0u32, 0u32), |(u, t), g| (u.saturating_add(g.usable), t.saturating_add(g.total)));
            let tier = Tier {
                place: Place::Remote(name.clone()),
                endpoints: vec![],
                usable,
                total,
                share: cluster.share.clamp(0.0, 1.0) * health_share(usable, total),
                rtt_us: cluster.rtt_us,
                identities: groups.iter().flat_map(|group| group.identities.iter().cloned()).collect(),
                standing: cluster.standing,
            };
            (total > 0).then_some((nearness(cluster, inputs.own), tier))
        })
        .collect();
    tiers.sort_by(|(a, _), (b, _)| a.cmp(b));
    tiers.into_iter().map(|(_, tier)| tier).collect()
}

/// Sorts by round trip in steps, so that near-equal ones do not flutter; then own region, then name.
fn nearness(cluster: &RemoteCluster, own: &Locality) -> (u32, bool, ClusterName) {
    (step(cluster.rtt_us), cluster.region != own.region, cluster.name.clone())
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
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{Endpoint, EndpointState, Group},
        name::ServiceName,
    };

    fn endpoint(id: &str, zone: &str, state: EndpointState) -> Endpoint {
        Endpoint {
            id: id.parse().unwrap(),
            address: "127.0.0.1:15006".parse().unwrap(),
            locality: Locality { region: "east".into(), zone: zone.into() },
            labels: BTreeMap::new(),
            identity: "spiffe://east.mesh/ns/a/sa/b".parse().unwrap(),
            weight: 1,
            state,
            targets: BTreeMap::new(),
        }
    }

    fn cluster(name: &str, rtt_us: u64, share: f64) -> (ClusterName, RemoteCluster) {
        let name: ClusterName = name.parse().unwrap();
        let trust_domain = format!("{name}.mesh").parse().unwrap();
        let standing = Standing::Alive;
        (
            name.clone(),
            RemoteCluster { region: name.to_string(), name, trust_domain, gateways: vec![], share, standing, rtt_us },
        )
    }

    fn group(usable: u32, total: u32) -> Group {
        Group { zone: "z".into(), labels: BTreeMap::new(), identities: BTreeSet::new(), usable, total, weight: usable }
    }

    fn ladder(local: Vec<Endpoint>, remote: &[(&str, u64, f64, u32)]) -> Ladder {
        let clusters = remote.iter().map(|(name, rtt, share, _)| cluster(name, *rtt, *share)).collect();
        let groups =
            remote.iter().map(|(name, _, _, usable)| (name.parse().unwrap(), vec![group(*usable, 2)])).collect();
        let endpoints = Endpoints { service: ServiceName::new("a", "b").unwrap(), local, remote: groups };
        let own = Locality { region: "east".into(), zone: "a".into() };
        Ladder::new(&Inputs {
            own: &own,
            endpoints: &endpoints,
            clusters: &clusters,
            labels: &BTreeMap::new(),
            remote: true,
        })
    }

    fn places(ladder: &Ladder) -> Vec<String> {
        ladder.tiers().iter().map(|tier| tier.place.to_string()).collect()
    }

    #[test]
    fn own_zone_first_then_region_then_the_nearest_cluster() {
        let local = vec![endpoint("b", "b", EndpointState::Ready), endpoint("a", "a", EndpointState::Ready)];
        let ladder = ladder(local, &[("far", 80_000, 1.0, 2), ("near", 30_000, 1.0, 2)]);
        assert_eq!(places(&ladder), ["own zone", "own region", "cluster near", "cluster far"]);
        assert_eq!(ladder.choose(u64::MAX), Some(0));
        assert_eq!(ladder.fallbacks(0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn round_trips_that_are_nearly_equal_do_not_flutter() {
        assert_eq!(places(&ladder(vec![], &[("b", 400, 1.0, 2), ("a", 4_900, 1.0, 2)])), ["cluster a", "cluster b"]);
        assert_eq!(places(&ladder(vec![], &[("b", 400, 1.0, 2), ("a", 0, 1.0, 2)])), ["cluster b", "cluster a"]);
    }

    #[test]
    fn a_share_is_kept_and_the_rest_climbs_on() {
        let ladder = ladder(vec![], &[("a", 100, 0.2, 2), ("b", 100, 1.0, 2)]);
        assert!((ladder.part(0) - 0.2).abs() < 1e-6 && (ladder.part(1) - 0.8).abs() < 1e-6);
    }

    #[test]
    fn the_last_living_place_is_never_left_for_nothing() {
        let all_left = ladder(vec![], &[("a", 100, 0.0, 0), ("b", 100, 0.0, 2)]);
        assert_eq!(all_left.choose(1 << 40), Some(1));
        let returning = ladder(vec![endpoint("x", "a", EndpointState::Unready)], &[("b", 100, 0.2, 2)]);
        assert_eq!(returning.choose(u64::MAX), Some(1));
        assert_eq!(ladder(vec![], &[("a", 100, 1.0, 0)]).choose(5), None);
    }

    proptest! {
        #[test]
        fn parts_sum_to_one_and_a_left_cluster_gets_nothing_while_another_lives(
            shares in proptest::collection::vec((0.0f64..=1.0, 0u32..3), 1..6), random in any::<u64>(),
        ) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let remote: Vec<_> = shares.iter().zip(names).map(|((share, usable), name)| (name, 100, *share, *usable)).collect();
            let ladder = ladder(vec![], &remote);
            let alive = shares.iter().any(|(_, usable)| *usable > 0);
            let sum: f64 = (0..ladder.tiers().len()).map(|index| ladder.part(index)).sum();
            let whole = f64::from(u8::from(alive));
            prop_assert!((sum - whole).abs() < 1e-6);
            match ladder.choose(random) {
                Some(chosen) => prop_assert!(ladder.tiers()[chosen].usable > 0),
                None => prop_assert!(!alive),
            }
        }
    }
}
