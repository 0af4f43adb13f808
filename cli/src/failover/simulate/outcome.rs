//! Pure: from what each importing cluster would do to what each surviving cluster would carry, and what would be lost.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_control::failover::simulation::{Fate, Simulated};
use isthmus_core::name::ClusterName;
use serde::Serialize;

use super::balance::{self, Load, Row};
use crate::failover::controls::Silent;

/// What would happen.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The clusters that would be gone.
    pub down: BTreeSet<ClusterName>,
    /// The clusters that nothing would go to, and whose clients live.
    pub drained: BTreeSet<ClusterName>,
    /// By service, then importer.
    pub services: Vec<Row>,
    /// Those that would be left.
    pub clusters: Vec<Survivor>,
    /// Services that would have nowhere to go.
    pub nowhere: Vec<Nowhere>,
    /// Clusters whose clients would be gone with them.
    pub left_out: Vec<LeftOut>,
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
    /// Whether a policy's limit says so: what is beyond goes on to the next place. Else it is the endpoints' capacity.
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

/// A cluster whose clients are not in here.
#[derive(Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// The cluster.
    pub cluster: ClusterName,
    /// Requests a second that they send now; none: its control does not say.
    pub requests_per_second: Option<f64>,
}

impl Outcome {
    pub fn of(fate: Fate, all: &[Simulated], mut silent: Vec<Silent>) -> Self {
        let is_down = |name: &str| fate.down.iter().any(|down| down.as_str() == name);
        let mut by_service = BTreeMap::<&str, Vec<&Simulated>>::new();
        for one in all {
            by_service.entry(&one.service).or_default().push(one);
        }
        let (mut services, mut loads) = (vec![], BTreeMap::<ClusterName, BTreeMap<&str, Load>>::new());
        for (service, of) in &by_service {
            let balance = balance::of(of, &fate.down);
            services.extend(balance.rows);
            for (cluster, load) in balance.loads {
                loads.entry(cluster).or_default().insert(service, load);
            }
        }
        let lost = by_service.values().flatten().filter(|one| one.then.is_empty() && !is_down(&one.importer));
        let nowhere = lost.map(|one| nowhere(one, &fate)).collect();
        let clusters = loads.into_iter().map(|(cluster, loads)| survivor(cluster, &loads)).collect();
        let left_out = fate.down.iter().map(|cluster| left_out(cluster, all)).collect();
        silent.retain(|one| !is_down(&one.cluster));
        let Fate { down, drained } = fate;
        Self { down, drained, services, clusters, nowhere, left_out, silent }
    }

    /// What would become of the clusters, in words.
    pub fn premise(&self) -> String {
        premise(&self.down, &self.drained)
    }

    /// What would be lost that is not lost already, in words.
    pub fn loss(&self) -> Option<String> {
        let mut parts = vec![];
        for one in self.nowhere.iter().filter(|one| !one.already) {
            parts.push(format!("{} from {} would have nowhere to go", one.service, one.importer));
        }
        for one in self.refused() {
            parts.push(format!("{} from {} would be refused in part", one.service, one.importer));
        }
        for one in &self.clusters {
            for strain in one.strains.iter().filter(|strain| !strain.is_limit) {
                parts.push(format!("the capacity of {} in {} would be exceeded", strain.service, one.cluster));
            }
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Those of which something would be refused.
    pub fn refused(&self) -> impl Iterator<Item = &Row> {
        self.services.iter().filter(|row| row.refused_per_second >= 0.05)
    }
}

/// `a, b were down and c were drained`.
pub fn premise(down: &BTreeSet<ClusterName>, drained: &BTreeSet<ClusterName>) -> String {
    let named = |names: &BTreeSet<ClusterName>, what: &str| {
        let all = names.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", ");
        (!all.is_empty()).then(|| format!("{all} were {what}"))
    };
    [named(down, "down"), named(drained, "drained")].into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

fn left_out(cluster: &ClusterName, all: &[Simulated]) -> LeftOut {
    let rates = || all.iter().filter(|one| one.importer == cluster.as_str()).map(|one| one.requests_per_second);
    let requests_per_second = rates().next().map(|_| rates().sum());
    LeftOut { cluster: cluster.clone(), requests_per_second }
}

fn nowhere(one: &Simulated, fate: &Fate) -> Nowhere {
    let is_gone = |cluster: &ClusterName| fate.down.contains(cluster) || fate.drained.contains(cluster);
    let gone = one.now.iter().map(|rung| &rung.cluster).filter(|cluster| is_gone(cluster));
    let gone: Vec<_> = gone.map(ToString::to_string).collect();
    let mut why = match gone.is_empty() {
        true => "nobody that may be used offers it".to_owned(),
        false => format!("only {} can serve it", gone.join(", ")),
    };
    for (cluster, reason) in one.excluded.iter().filter(|(cluster, _)| !is_gone(cluster)) {
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

fn survivor(cluster: ClusterName, loads: &BTreeMap<&str, Load>) -> Survivor {
    let sum = |of: fn(&Load) -> f64| loads.values().map(of).fold(0.0, |sum, one| sum + one);
    let said = || loads.values().filter_map(|load| Some((load.then, load.capacity?)));
    let capacity = said().next().map(|_| said().map(|(_, capacity)| capacity).sum::<f64>());
    let used: f64 = said().map(|(then, _)| then).sum();
    let mut strains = vec![];
    for (service, load) in loads {
        let rooms = [(load.limited, load.limit, true), (load.then, load.capacity, false)];
        for (wanted, room, is_limit) in rooms {
            // What limits divide is rounded on the way.
            if let Some(room) = room.filter(|room| wanted > *room + 1e-6) {
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
    use isthmus_core::failover::flow::Rung;

    use super::*;

    pub fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    pub fn rung(cluster: &str, part: f64, limit: Option<f64>) -> Rung {
        Rung { cluster: name(cluster), part, limit }
    }

    pub fn down(names: &[&str]) -> Fate {
        Fate { down: names.iter().map(|one| name(one)).collect(), ..Fate::default() }
    }

    /// What goes to eu now; us can take 100 requests a second.
    pub fn one(service: &str, importer: &str, rate: f64, then: Vec<Rung>) -> Simulated {
        Simulated {
            service: service.into(),
            importer: importer.into(),
            requests_per_second: rate,
            now: vec![rung("eu", 1.0, None)],
            then,
            capacity: [(name("us"), 100.0)].into(),
            excluded: BTreeMap::new(),
            moving: BTreeMap::new(),
        }
    }

    #[test]
    fn a_survivor_carries_what_all_bring_within_limits_and_too_much_is_marked() {
        let to_us = |limit| vec![rung("us", 1.0, limit)];
        let rows = [one("shop/cart", "us", 90.0, to_us(None)), one("shop/cart", "ap", 50.0, to_us(Some(40.0)))];
        let outcome = Outcome::of(down(&["eu"]), &rows, vec![]);
        let us = &outcome.clusters[0];
        assert_eq!((us.cluster.as_str(), outcome.clusters.len()), ("us", 1), "eu is gone");
        assert_eq!((us.now, us.then, us.capacity, us.of_capacity), (0.0, 130.0, Some(100.0), Some(1.3)));
        let strain = |wanted, room, is_limit| Strain { service: "shop/cart".into(), wanted, room, is_limit };
        assert_eq!(us.strains, [strain(50.0, 40.0, true), strain(130.0, 100.0, false)], "own clients have no limit");
        let loss = "shop/cart from ap would be refused in part, the capacity of shop/cart in us would be exceeded";
        assert_eq!(outcome.loss().unwrap(), loss);
    }

    #[test]
    fn what_is_beyond_a_limit_goes_on_to_the_next_survivor_and_is_no_loss() {
        let tiers = vec![rung("us", 1.0, Some(1.0)), rung("ap", 0.0, None)];
        let outcome = Outcome::of(down(&["eu"]), &[one("shop/cart", "ap", 7.0, tiers)], vec![]);
        let loads: Vec<_> = outcome.clusters.iter().map(|one| (one.cluster.as_str(), one.then)).collect();
        assert_eq!(loads, [("ap", 6.0), ("us", 1.0)]);
        assert_eq!((outcome.services[0].refused_per_second, outcome.loss()), (0.0, None));
        let then = &outcome.services[0].then;
        assert!((then[&name("ap")] - 6.0 / 7.0).abs() < 1e-9, "{then:?}");
    }

    #[test]
    fn clients_of_a_cluster_that_is_down_are_left_out_and_of_one_that_is_drained_are_not() {
        let rows = || {
            let mut other = one("shop/cart", "ap", 5.0, vec![rung("us", 1.0, Some(9.0))]);
            other.now = other.then.clone();
            let mut own = one("shop/cart", "eu", 20.0, vec![rung("us", 1.0, Some(9.0))]);
            own.now = vec![rung("us", 0.2, Some(9.0)), rung("eu", 0.8, None)];
            [own, other]
        };
        let outcome = Outcome::of(down(&["eu"]), &rows(), vec![]);
        assert_eq!(outcome.left_out, [LeftOut { cluster: name("eu"), requests_per_second: Some(20.0) }]);
        assert_eq!((outcome.services.len(), outcome.clusters[0].then), (1, 5.0));
        let fate = Fate { drained: [name("eu")].into(), ..Fate::default() };
        let outcome = Outcome::of(fate, &rows(), vec![]);
        assert_eq!((outcome.left_out.len(), outcome.services.len()), (0, 2));
        let us = outcome.clusters.iter().find(|one| one.cluster == name("us")).unwrap();
        assert_eq!((us.now.round(), us.then.round()), (9.0, 9.0));
        assert_eq!(outcome.services[0].refused_per_second.round(), 16.0);
        // What a dead importer wanted last of a limit is kept for it.
        let mut rows = rows();
        rows[0].now = vec![rung("us", 0.3, Some(9.0)), rung("eu", 0.7, None)];
        rows[1].requests_per_second = 8.0;
        let outcome = Outcome::of(down(&["eu"]), &rows, vec![]);
        assert!(outcome.clusters[0].then < 5.0, "{:?}", outcome.clusters);
    }

    #[test]
    fn a_service_without_a_place_is_named_with_why_and_is_a_loss_if_it_is_one() {
        let mut bound = one("shop/cart", "us", 5.0, vec![]);
        bound.excluded = [(name("ap"), "its region is not allowed".to_owned())].into();
        let mut already = one("shop/old", "us", 0.0, vec![]);
        already.now.clear();
        let outcome = Outcome::of(down(&["eu"]), &[already, bound], vec![]);
        let whys: Vec<_> = outcome.nowhere.iter().map(|one| one.why.as_str()).collect();
        let expected = "only eu can serve it; ap must not be used: its region is not allowed";
        assert_eq!(whys, [expected, "nobody that may be used offers it"]);
        assert_eq!(outcome.loss().unwrap(), "shop/cart from us would have nowhere to go");
        let fine = Outcome::of(down(&["eu"]), &[one("a/b", "us", 5.0, vec![rung("us", 1.0, None)])], vec![]);
        assert_eq!(fine.loss(), None);
    }
}
