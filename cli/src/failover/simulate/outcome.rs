//! Pure: from what each importing cluster would do to what each surviving cluster would carry, and what would be lost.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_control::failover::simulation::Simulated;
use isthmus_core::name::ClusterName;
use serde::Serialize;

use crate::failover::controls::Silent;

/// What would happen.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The clusters that would be gone.
    pub down: BTreeSet<ClusterName>,
    /// By service, then importer.
    pub services: Vec<Simulated>,
    /// Those that would be left.
    pub clusters: Vec<Survivor>,
    /// Services that would have nowhere to go.
    pub nowhere: Vec<Nowhere>,
    /// Controls that did not answer: what their clusters send is not in here.
    pub silent: Vec<Silent>,
}

/// A cluster that would be left.
#[derive(Debug, Serialize)]
pub struct Survivor {
    /// Its name.
    pub cluster: ClusterName,
    /// Requests a second that the clients of all who answered send there now.
    pub now: f64,
    /// And then.
    pub then: f64,
    /// What its endpoints can take, over the services that say it; none: no service says.
    pub capacity: Option<f64>,
    /// The part of that which those services would use.
    pub of_capacity: Option<f64>,
    /// Where it would be too much.
    pub strains: Vec<Strain>,
}

/// Too much for a service in a cluster.
#[derive(Debug, PartialEq, Serialize)]
pub struct Strain {
    /// The service.
    pub service: String,
    /// Requests a second that would come.
    pub wanted: f64,
    /// Requests a second that there is room for.
    pub room: f64,
    /// Whether a policy's limit says so: what is beyond is refused at once. Else it is the endpoints' capacity.
    pub is_limit: bool,
}

/// A service that a cluster's clients could not reach.
#[derive(Debug, Serialize)]
pub struct Nowhere {
    /// The service.
    pub service: String,
    /// The cluster of the clients.
    pub importer: String,
    /// Requests a second that they send now.
    pub requests_per_second: f64,
    /// Whether it is so already.
    pub already: bool,
    /// Why.
    pub why: String,
}

/// What a cluster carries of a service.
#[derive(Default)]
struct Load {
    now: f64,
    then: f64,
    capacity: Option<f64>,
    /// Of the importers that a limit is for: what they would send, and the limit.
    limited: f64,
    limit: Option<f64>,
}

impl Outcome {
    pub fn of(down: BTreeSet<ClusterName>, mut services: Vec<Simulated>, silent: Vec<Silent>) -> Self {
        services.sort_by(|a, b| a.service.cmp(&b.service));
        let nowhere = services.iter().filter(|one| one.then.is_empty()).map(|one| nowhere(one, &down)).collect();
        let clusters = survivors(&services, &down);
        Self { down, services, clusters, nowhere, silent }
    }

    /// What would be lost that is not lost already, in words.
    pub fn loss(&self) -> Option<String> {
        let mut parts = vec![];
        for one in self.nowhere.iter().filter(|one| !one.already) {
            parts.push(format!("{} from {} would have nowhere to go", one.service, one.importer));
        }
        for one in &self.clusters {
            for strain in &one.strains {
                let what = if strain.is_limit { "limit" } else { "capacity" };
                parts.push(format!("the {what} of {} in {} would be exceeded", strain.service, one.cluster));
            }
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn nowhere(one: &Simulated, down: &BTreeSet<ClusterName>) -> Nowhere {
    let gone: Vec<_> = one.now.keys().filter(|cluster| down.contains(*cluster)).map(ToString::to_string).collect();
    let mut why = match gone.is_empty() {
        true => "nobody that may be used offers it".to_owned(),
        false => format!("only {} can serve it", gone.join(", ")),
    };
    for (cluster, reason) in one.excluded.iter().filter(|(cluster, _)| !down.contains(*cluster)) {
        why.push_str(&format!("; {cluster} must not be used: {reason}"));
    }
    Nowhere {
        service: one.service.clone(),
        importer: one.importer.clone(),
        requests_per_second: one.requests_per_second,
        already: one.now.is_empty(),
        why,
    }
}

fn survivors(services: &[Simulated], down: &BTreeSet<ClusterName>) -> Vec<Survivor> {
    let mut loads = BTreeMap::<ClusterName, BTreeMap<&str, Load>>::new();
    for one in services {
        let named = one.now.keys().chain(one.then.keys()).chain(one.capacity.keys());
        for cluster in named.filter(|cluster| !down.contains(*cluster)).collect::<BTreeSet<_>>() {
            let load = loads.entry(cluster.clone()).or_default().entry(&one.service).or_default();
            add(load, one, cluster);
        }
    }
    loads.into_iter().map(|(cluster, loads)| survivor(cluster, &loads)).collect()
}

/// What one importer brings.
fn add(load: &mut Load, one: &Simulated, cluster: &ClusterName) {
    let rate =
        |parts: &BTreeMap<ClusterName, f64>| one.requests_per_second * parts.get(cluster).copied().unwrap_or_default();
    load.now += rate(&one.now);
    load.then += rate(&one.then);
    let least = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::min);
    load.capacity = least(load.capacity, one.capacity.get(cluster).copied());
    if let Some(limit) = one.limits.get(cluster) {
        load.limited += rate(&one.then);
        load.limit = least(load.limit, Some(*limit));
    }
}

fn survivor(cluster: ClusterName, loads: &BTreeMap<&str, Load>) -> Survivor {
    let sum = |of: fn(&Load) -> f64| loads.values().map(of).fold(0.0, |sum, one| sum + one);
    let said = || loads.values().filter_map(|load| Some((load.then, load.capacity?)));
    let capacity = said().next().map(|_| said().map(|(_, capacity)| capacity).sum::<f64>());
    let used: f64 = said().map(|(then, _)| then).sum();
    let mut strains = vec![];
    for (service, load) in loads {
        let rooms = [(load.limited, load.limit, true), (load.then, load.capacity, false)];
        for (wanted, room, is_limit) in rooms {
            if let Some(room) = room.filter(|room| wanted > *room) {
                strains.push(Strain { service: (*service).to_owned(), wanted, room, is_limit });
            }
        }
    }
    Survivor {
        cluster,
        now: sum(|load| load.now),
        then: sum(|load| load.then),
        capacity,
        of_capacity: capacity.filter(|capacity| *capacity > 0.0).map(|capacity| used / capacity),
        strains,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    fn parts(of: &[(&str, f64)]) -> BTreeMap<ClusterName, f64> {
        of.iter().map(|(cluster, part)| (name(cluster), *part)).collect()
    }

    pub fn one(service: &str, importer: &str, rate: f64, then: &[(&str, f64)]) -> Simulated {
        Simulated {
            service: service.into(),
            importer: importer.into(),
            requests_per_second: rate,
            now: parts(&[("eu", 1.0)]),
            then: parts(then),
            capacity: parts(&[("us", 100.0)]),
            limits: if importer == "us" { parts(&[]) } else { parts(&[("us", 40.0)]) },
            excluded: BTreeMap::new(),
        }
    }

    #[test]
    fn a_survivor_carries_what_all_bring_and_too_much_is_marked() {
        let rows = vec![one("shop/cart", "us", 60.0, &[("us", 1.0)]), one("shop/cart", "ap", 50.0, &[("us", 1.0)])];
        let outcome = Outcome::of([name("eu")].into(), rows, vec![]);
        let us = &outcome.clusters[0];
        assert_eq!((us.cluster.as_str(), outcome.clusters.len()), ("us", 1), "eu is gone");
        assert_eq!((us.now, us.then, us.capacity, us.of_capacity), (0.0, 110.0, Some(100.0), Some(1.1)));
        let strain = |wanted, room, is_limit| Strain { service: "shop/cart".into(), wanted, room, is_limit };
        assert_eq!(us.strains, [strain(50.0, 40.0, true), strain(110.0, 100.0, false)], "own clients have no limit");
        assert!(outcome.loss().unwrap().contains("the limit of shop/cart in us would be exceeded"));
    }

    #[test]
    fn a_service_without_a_place_is_named_with_why_and_is_a_loss_if_it_is_one() {
        let mut bound = one("shop/cart", "us", 5.0, &[]);
        bound.excluded = [(name("ap"), "its region is not allowed".to_owned())].into();
        let mut already = one("shop/old", "us", 0.0, &[]);
        already.now.clear();
        let outcome = Outcome::of([name("eu")].into(), vec![already, bound], vec![]);
        let whys: Vec<_> = outcome.nowhere.iter().map(|one| one.why.as_str()).collect();
        let expected = "only eu can serve it; ap must not be used: its region is not allowed";
        assert_eq!(whys, [expected, "nobody that may be used offers it"]);
        assert_eq!(outcome.loss().unwrap(), "shop/cart from us would have nowhere to go");
        let fine = Outcome::of([name("eu")].into(), vec![one("a/b", "us", 5.0, &[("us", 1.0)])], vec![]);
        assert_eq!(fine.loss(), None);
    }
}
