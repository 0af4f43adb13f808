//! The ladder: the rungs a client falls through, for one service and subset, as control's decision
//! ([`Failover`]) and the endpoints of the moment have it.
//!
//! A cluster of the decision is a rung; the own cluster is up to three, own zone, own region, the rest, each taking what
//! its health carries. What an order of clusters is, and how shares become parts, is [`crate::failover`]'s. A cluster
//! that is in no tier is on no rung: that is how constraints hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    failover::{
        policy::WhenNothingHealthy,
        shares::{self, Place as Part},
    },
    model::{EndpointState, Endpoints, Failover, FailoverMember, RemoteCluster, Standing},
    name::{ClusterName, Locality, SpiffeId},
};

/// A rung of the own cluster takes all that reaches it while at least this part of its endpoints is usable (Envoy's
/// overprovisioning factor of 1.4, turned round).
pub const WHOLE_ABOVE: f64 = 0.7;

/// Where a rung is.
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

/// One rung.
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
    /// The share that control decided, times its health in the own cluster: 0 means it was left.
    pub share: f64,
    /// Measured round trip, microseconds; 0: own cluster, or not known.
    pub rtt_us: u64,
    /// Of another cluster: who may answer.
    pub identities: BTreeSet<SpiffeId>,
    /// How the other cluster stands.
    pub standing: Standing,
    /// The most requests a second that this client may send there.
    pub limit: Option<f64>,
    /// Whether those that may be used are not ready: nothing is anywhere, and the policy says to try all.
    pub unready_too: bool,
}

/// Rungs in order, ready to be chosen from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ladder {
    tiers: Vec<Tier>,
    /// Where each rung's part of all requests ends, of 2^32.
    ends: Vec<u64>,
    /// Whether what was left may be tried when all else fails.
    try_left: bool,
}

/// What a ladder is built from.
pub struct Inputs<'a> {
    /// The client's name, for its part of limits.
    pub client: &'a str,
    /// Its cluster.
    pub cluster: &'a ClusterName,
    /// Where it is.
    pub own: &'a Locality,
    /// The service's endpoints.
    pub endpoints: &'a Endpoints,
    /// What control decided; `None`: nothing yet, and only the own cluster is used.
    pub failover: Option<&'a Failover>,
    /// Other clusters by name.
    pub clusters: &'a BTreeMap<ClusterName, RemoteCluster>,
    /// Labels an endpoint must carry (a subset's); empty: any.
    pub labels: &'a BTreeMap<String, String>,
    /// Whether it climbs beyond the own cluster.
    pub remote: bool,
}

impl Ladder {
    /// Builds the rungs. Those without any endpoint are left out.
    #[must_use]
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let healthy = Self::with(inputs, Usable::Healthy);
        let when = inputs.failover.and_then(|failover| failover.when_nothing_healthy);
        let nothing = healthy.tiers.iter().all(|tier| tier.usable == 0);
        if nothing && when == Some(WhenNothingHealthy::TryAll) { Self::with(inputs, Usable::Any) } else { healthy }
    }

    fn with(inputs: &Inputs<'_>, usable: Usable) -> Self {
        let alone = [(1.0, vec![FailoverMember { cluster: inputs.cluster.clone(), weight: 1.0, cap: None }])];
        let decided = inputs.failover.map(|failover| failover.tiers.iter().map(|tier| (tier.share, &tier.members)));
        let decided: Vec<(f64, &Vec<FailoverMember>)> = match decided {
            Some(tiers) => tiers.collect(),
            None => alone.iter().map(|(share, members)| (*share, members)).collect(),
        };
        let try_left =
            inputs.failover.is_none_or(|failover| failover.when_nothing_healthy != Some(WhenNothingHealthy::Fail));
        let mut rungs: Vec<Vec<Vec<Tier>>> = vec![];
        let mut weights = vec![];
        for (share, members) in decided {
            let members = members.iter().filter(|member| inputs.remote || member.cluster == *inputs.cluster);
            let built: Vec<_> = members.map(|member| (member, inputs.rungs(member, share, usable))).collect();
            let place = |(member, rungs): &(&FailoverMember, Vec<Tier>)| Part {
                weight: member.weight,
                usable: rungs.iter().any(|tier| tier.usable > 0),
            };
            weights.push((share, built.iter().map(place).collect::<Vec<_>>()));
            rungs.push(built.into_iter().map(|(_, rungs)| rungs).collect());
        }
        let parts = shares::parts(&weights, try_left);
        let mut tiers = vec![];
        let mut each = vec![];
        for (rungs, part) in rungs.into_iter().flatten().zip(parts.into_iter().flatten()) {
            each.extend(divided(&rungs, part));
            tiers.extend(rungs);
        }
        Self { ends: ends(&each), tiers, try_left }
    }

    /// The rungs in order.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Chooses a rung by shares; `None`: nothing is usable anywhere.
    #[must_use]
    pub fn choose(&self, random: u64) -> Option<usize> {
        let draw = random >> 32;
        self.ends.iter().position(|end| draw < *end)
    }

    /// The order in which to try rungs when the chosen one does not answer: those after it, then those before it, those
    /// with a share first. Only rungs with usable endpoints.
    pub fn fallbacks(&self, chosen: usize) -> impl Iterator<Item = usize> {
        let order = || (chosen + 1..self.tiers.len()).chain(0..chosen.min(self.tiers.len()));
        let with = move |shared: bool| {
            order().filter(move |index| {
                let fits = |tier: &Tier| tier.usable > 0 && (tier.share > 0.0) == shared && (shared || self.try_left);
                self.tiers.get(*index).is_some_and(fits)
            })
        };
        with(true).chain(with(false))
    }

    /// The part of all requests that the rung at `index` takes, 0 to 1.
    #[must_use]
    pub fn part(&self, index: usize) -> f64 {
        let end = self.ends.get(index).copied().unwrap_or_default();
        let begin = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        (end - begin) as f64 / WHOLE as f64
    }
}

const WHOLE: u64 = 1 << 32;

/// Which endpoints are used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usable {
    Healthy,
    /// All that do not leave on purpose.
    Any,
}

impl Usable {
    fn takes(self, state: EndpointState) -> bool {
        state.is_usable() || (self == Self::Any && state != EndpointState::Draining)
    }
}

/// Running sums, of 2^32; the last that has a part ends at the whole.
fn ends(parts: &[f64]) -> Vec<u64> {
    let last = parts.iter().rposition(|part| *part > 0.0);
    let mut sum = 0.0f64;
    let end = |(index, part): (usize, &f64)| {
        sum += part;
        if last.is_some_and(|last| index >= last) { WHOLE } else { ((sum * WHOLE as f64) as u64).min(WHOLE) }
    };
    parts.iter().enumerate().map(end).collect()
}

/// A cluster's part over its rungs: each takes what its health carries, the rest goes on.
fn divided(rungs: &[Tier], part: f64) -> Vec<f64> {
    let place = |tier: &Tier| {
        let share = if rungs.len() == 1 { 1.0 } else { health_share(tier.usable, tier.total) };
        (share, vec![Part { weight: 1.0, usable: tier.usable > 0 }])
    };
    let parts = shares::parts(&rungs.iter().map(place).collect::<Vec<_>>(), true);
    parts.into_iter().flatten().map(|one| one * part).collect()
}

fn health_share(usable: u32, total: u32) -> f64 {
    if total == 0 { 0.0 } else { (f64::from(usable) / f64::from(total) / WHOLE_ABOVE).min(1.0) }
}

fn carries(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Inputs<'_> {
    fn rungs(&self, member: &FailoverMember, share: f64, usable: Usable) -> Vec<Tier> {
        let share = if member.weight > 0.0 { share } else { 0.0 };
        if member.cluster == *self.cluster {
            self.local(share, usable)
        } else {
            self.remote(member, share, usable).into_iter().collect()
        }
    }

    fn local(&self, share: f64, all_of: Usable) -> Vec<Tier> {
        let place = |locality: &Locality| {
            if locality.region != self.own.region {
                Place::Cluster
            } else if locality.zone != self.own.zone {
                Place::Region
            } else {
                Place::Zone
            }
        };
        let rung = |wanted: Place| {
            let all = self.endpoints.local.iter().enumerate();
            let members: Vec<_> =
                all.filter(|(_, one)| place(&one.locality) == wanted && carries(&one.labels, self.labels)).collect();
            let endpoints: Vec<_> =
                members.iter().filter(|(_, one)| all_of.takes(one.state)).map(|(index, _)| *index).collect();
            let (usable, total) = (count(endpoints.len()), count(members.len()));
            let (place, share) = (wanted, share * health_share(usable, total));
            let (identities, standing, limit) = (BTreeSet::new(), Standing::Alive, None);
            (total > 0).then_some(Tier {
                place,
                endpoints,
                usable,
                total,
                share,
                rtt_us: 0,
                identities,
                standing,
                limit,
                unready_too: all_of == Usable::Any,
            })
        };
        [Place::Zone, Place::Region, Place::Cluster].into_iter().filter_map(rung).collect()
    }

    fn remote(&self, member: &FailoverMember, share: f64, usable: Usable) -> Option<Tier> {
        let cluster = self.clusters.get(&member.cluster)?;
        let groups: Vec<_> = self.endpoints.remote.get(&member.cluster)?.iter().collect();
        let groups: Vec<_> = groups.into_iter().filter(|group| carries(&group.labels, self.labels)).collect();
        let (healthy, total) =
            groups.iter().fold((0u32, 0u32), |(u, t), one| (u.saturating_add(one.usable), t.saturating_add(one.total)));
        let limit = member.cap.as_ref().map(|cap| cap.parts.get(self.client).copied().unwrap_or(cap.other));
        (total > 0).then(|| Tier {
            place: Place::Remote(member.cluster.clone()),
            endpoints: vec![],
            usable: if usable == Usable::Any { total } else { healthy },
            total,
            share,
            rtt_us: cluster.rtt_us,
            identities: groups.iter().flat_map(|group| group.identities.iter().cloned()).collect(),
            standing: cluster.standing,
            limit,
            unready_too: usable == Usable::Any,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{Cap, Endpoint, FailoverTier, Group},
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

    fn cluster(name: &str) -> (ClusterName, RemoteCluster) {
        let name: ClusterName = name.parse().unwrap();
        let trust_domain = format!("{name}.mesh").parse().unwrap();
        let (share, standing, rtt_us) = (1.0, Standing::Alive, 100);
        let region = name.to_string();
        (
            name.clone(),
            RemoteCluster {
                region,
                name,
                trust_domain,
                gateways: crate::statement::Gateways::default(),
                share,
                standing,
                rtt_us,
            },
        )
    }

    fn group(usable: u32, total: u32) -> Group {
        Group { zone: "z".into(), labels: BTreeMap::new(), identities: BTreeSet::new(), usable, total, weight: usable }
    }

    fn member(name: &str, weight: f64) -> FailoverMember {
        FailoverMember { cluster: name.parse().unwrap(), weight, cap: None }
    }

    fn tier(share: f64, members: Vec<FailoverMember>) -> FailoverTier {
        FailoverTier { name: String::new(), share, members }
    }

    /// With remote clusters of (name, usable of 2), as decided.
    fn ladder(
        local: Vec<Endpoint>,
        remote: &[(&str, u32)],
        decided: Option<(Vec<FailoverTier>, Option<WhenNothingHealthy>)>,
    ) -> Ladder {
        let clusters = remote.iter().map(|(name, _)| cluster(name)).collect();
        let groups = remote.iter().map(|(name, usable)| (name.parse().unwrap(), vec![group(*usable, 2)])).collect();
        let service = ServiceName::new("a", "b").unwrap();
        let endpoints = Endpoints { service: service.clone(), local, remote: groups };
        let own = Locality { region: "east".into(), zone: "a".into() };
        let failover = decided.map(|(tiers, when_nothing_healthy)| Failover { service, tiers, when_nothing_healthy });
        Ladder::new(&Inputs {
            client: "curl",
            cluster: &"own".parse().unwrap(),
            own: &own,
            endpoints: &endpoints,
            failover: failover.as_ref(),
            clusters: &clusters,
            labels: &BTreeMap::new(),
            remote: true,
        })
    }

    fn each(of: &[(&str, f64)]) -> Option<(Vec<FailoverTier>, Option<WhenNothingHealthy>)> {
        Some((of.iter().map(|(name, share)| tier(*share, vec![member(name, 1.0)])).collect(), None))
    }

    fn places(ladder: &Ladder) -> Vec<String> {
        ladder.tiers().iter().map(|tier| tier.place.to_string()).collect()
    }

    #[test]
    fn the_own_cluster_is_a_rung_a_locality_and_others_follow_as_decided() {
        let local = || vec![endpoint("b", "b", EndpointState::Ready), endpoint("a", "a", EndpointState::Ready)];
        let ladder_of = |decided| ladder(local(), &[("far", 2), ("near", 2)], decided);
        let whole = ladder_of(each(&[("own", 1.0), ("near", 1.0), ("far", 1.0)]));
        assert_eq!(places(&whole), ["own zone", "own region", "cluster near", "cluster far"]);
        assert_eq!(whole.choose(u64::MAX), Some(0));
        assert_eq!(whole.fallbacks(0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(places(&ladder_of(None)), ["own zone", "own region"], "undecided, nobody goes abroad");
        let constrained = ladder_of(each(&[("near", 1.0)]));
        assert_eq!(places(&constrained), ["cluster near"], "what is in no tier is on no rung");
    }

    #[test]
    fn a_share_is_kept_and_the_rest_climbs_on() {
        let ladder = ladder(vec![], &[("a", 2), ("b", 2)], each(&[("a", 0.2), ("b", 1.0)]));
        assert!((ladder.part(0) - 0.2).abs() < 1e-6 && (ladder.part(1) - 0.8).abs() < 1e-6);
    }

    #[test]
    fn weights_divide_a_tier_and_the_own_part_is_divided_by_locality() {
        let local = vec![
            endpoint("a", "a", EndpointState::Ready),
            endpoint("b", "a", EndpointState::Unready),
            endpoint("c", "b", EndpointState::Ready),
        ];
        let decided = (vec![tier(1.0, vec![member("a", 1.0), member("own", 3.0)])], None);
        let ladder = ladder(local, &[("a", 2)], Some(decided));
        assert_eq!(places(&ladder), ["cluster a", "own zone", "own region"]);
        assert!((ladder.part(0) - 0.25).abs() < 1e-6);
        assert!((ladder.part(1) - 0.75 * 0.5 / 0.7).abs() < 1e-6, "{}", ladder.part(1));
    }

    #[test]
    fn the_last_living_place_is_never_left_for_nothing_unless_the_policy_says_so() {
        let left = |when| {
            let (tiers, _) = each(&[("a", 0.0), ("b", 0.0)]).unwrap();
            ladder(vec![], &[("a", 0), ("b", 2)], Some((tiers, when)))
        };
        assert_eq!(left(None).choose(1 << 40), Some(1));
        assert_eq!(left(Some(WhenNothingHealthy::Fail)).choose(1 << 40), None);
        let unready = |when| {
            let (tiers, _) = each(&[("own", 1.0), ("a", 1.0)]).unwrap();
            ladder(vec![endpoint("x", "a", EndpointState::Unready)], &[("a", 0)], Some((tiers, when)))
        };
        assert_eq!(unready(None).choose(5), None);
        assert_eq!(unready(Some(WhenNothingHealthy::TryAll)).choose(5), Some(0));
    }

    #[test]
    fn a_limit_is_the_clients_own_part() {
        let mut capped = member("a", 1.0);
        capped.cap = Some(Cap { parts: [("curl".to_owned(), 7.0)].into(), other: 1.0 });
        let ladder = ladder(vec![], &[("a", 2)], Some((vec![tier(1.0, vec![capped])], None)));
        assert_eq!(ladder.tiers()[0].limit, Some(7.0));
    }

    proptest! {
        #[test]
        fn parts_sum_to_one_and_a_left_cluster_gets_nothing_while_another_lives(
            shares in proptest::collection::vec((0.0f64..=1.0, any::<bool>(), 0u32..3), 1..6), random in any::<u64>(),
        ) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let remote: Vec<_> = shares.iter().zip(names).map(|((_, _, usable), name)| (name, *usable)).collect();
            let share = |share: f64, left: bool| if left { 0.0 } else { share };
            let decided: Vec<_> = shares.iter().zip(names).map(|((s, left, _), name)| (name, share(*s, *left))).collect();
            let ladder = ladder(vec![], &remote, each(&decided));
            let alive = shares.iter().any(|(_, _, usable)| *usable > 0);
            let shared = shares.iter().any(|(s, left, usable)| *usable > 0 && share(*s, *left) > 1e-6);
            let sum: f64 = (0..ladder.tiers().len()).map(|index| ladder.part(index)).sum();
            prop_assert!((sum - f64::from(u8::from(alive))).abs() < 1e-6);
            match ladder.choose(random) {
                Some(chosen) => {
                    prop_assert!(ladder.tiers()[chosen].usable > 0);
                    prop_assert!(!shared || ladder.tiers()[chosen].share > 0.0);
                }
                None => prop_assert!(!alive),
            }
        }
    }
}
