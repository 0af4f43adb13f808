//! What verbs leave: of each cluster's share for each service, as the steersman asks.

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{
    failover::verb::{Deed, Verb},
    name::{ClusterName, ServiceName},
};

use super::Verbs;

/// A verb that is in force, or would be.
#[derive(Clone, Debug)]
pub struct InForce<'a> {
    /// Who wrote it.
    pub writer: &'a ClusterName,
    /// The verb.
    pub verb: &'a Verb,
    /// For how long it is in force.
    pub elapsed: Duration,
    /// Whether it binds this cluster.
    pub binds: bool,
    /// Of a drill: why this cluster gave it up.
    pub given_up: Option<&'a str>,
    /// Whether it is not in the log yet.
    pub local: bool,
}

impl Verbs {
    /// All that are not over, whether they bind or not.
    pub fn list(&self, now: Duration) -> impl Iterator<Item = InForce<'_>> {
        let lasting = self.counted.iter().filter(|(key, _)| !self.kept.over.contains(*key));
        lasting.map(move |(key, one)| InForce {
            writer: &one.writer,
            verb: &one.verb,
            elapsed: one.elapsed(now),
            binds: one.binds,
            given_up: self.kept.given_up.get(key).map(String::as_str),
            local: one.writer == self.cluster && !self.is_written(&one.verb.name),
        })
    }

    fn in_force(&self, now: Duration) -> impl Iterator<Item = InForce<'_>> {
        self.list(now).filter(|one| one.binds && one.given_up.is_none() && one.elapsed < one.verb.lasts)
    }

    /// What verbs leave of a cluster's share for a service, and which leaves least.
    #[must_use]
    pub fn leave(&self, now: Duration, service: &ServiceName, cluster: &ClusterName) -> (f64, String) {
        let mut least = (1.0, String::new());
        let about = |one: &InForce<'_>| one.verb.deed.is_about(service) && one.verb.deed.cluster() == cluster;
        for one in self.in_force(now).filter(about) {
            let leaves = one.verb.deed.leaves(one.elapsed);
            if leaves < least.0 {
                let because = if one.verb.reason.is_empty() { String::new() } else { format!(": {}", one.verb.reason) };
                least = (leaves, format!("{}, by {}{because}", one.verb.deed, one.verb.by));
            }
        }
        least
    }

    /// Clusters that services are pinned to.
    #[must_use]
    pub fn pins(&self, now: Duration) -> BTreeMap<ServiceName, Vec<ClusterName>> {
        let mut pins = BTreeMap::<_, Vec<_>>::new();
        for one in self.in_force(now) {
            if let Deed::Pin { service, cluster } = &one.verb.deed {
                pins.entry(service.clone()).or_default().push(cluster.clone());
            }
        }
        pins
    }
}
