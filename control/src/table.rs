//! The compiled resources with a version each, and what a receiver that has some of them still lacks.
//!
//! A resource gets a new version only when it differs from what is in force, so whatever compiles the model again
//! and again costs the proxies nothing. Versions belong to a run of control: another run's say nothing here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use isthmus_core::model::Resource;

/// Upserts of one message are cut at about so many bytes: gRPC's default limit is 4 MiB.
const MESSAGE_BYTES: usize = 1 << 20;

/// One resource as it is sent.
#[derive(Debug)]
pub struct Entry {
    /// Grows with each change of any resource in the run.
    pub version: u64,
    /// The resource.
    pub resource: Resource,
    /// Its JSON.
    pub body: Bytes,
}

/// All that is in force, as one value that never changes: streams compare with it at their own pace.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The run the versions belong to.
    pub run: Arc<str>,
    /// The highest version in it.
    pub version: u64,
    /// Whether nothing is known yet of other clusters: that they are not in it means nothing then.
    pub partial: bool,
    /// By key.
    pub entries: BTreeMap<String, Arc<Entry>>,
}

/// A part of what a receiver lacks; applied in order they make it whole.
#[derive(Debug, Default)]
pub struct Delta {
    /// New or changed, with their keys.
    pub upserts: Vec<(String, Arc<Entry>)>,
    /// Gone.
    pub removals: Vec<String>,
}

impl Delta {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }
}

impl Snapshot {
    /// What a receiver of `have` lacks of what it `wants`.
    #[must_use]
    pub fn delta(&self, have: &BTreeMap<String, u64>, wants: impl Fn(&str) -> bool) -> Delta {
        let wanted = self.entries.iter().filter(|(key, _)| wants(key));
        let upserts = wanted
            .filter(|(key, entry)| have.get(*key) != Some(&entry.version))
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        let removals = have.keys().filter(|key| !self.entries.contains_key(*key) || !wants(key)).cloned().collect();
        Delta { upserts, removals }
    }
}

/// Cuts a delta so that no part exceeds a message; there is always at least one part.
#[must_use]
pub fn parts(delta: Delta) -> Vec<Delta> {
    let mut parts = vec![];
    let mut part = Delta { removals: delta.removals, ..Delta::default() };
    let mut size = 0;
    for (key, entry) in delta.upserts {
        if size > 0 && size + entry.body.len() > MESSAGE_BYTES {
            parts.push(std::mem::take(&mut part));
            size = 0;
        }
        size += entry.body.len();
        part.upserts.push((key, entry));
    }
    parts.push(part);
    parts
}

/// The single writer of versions.
#[derive(Debug)]
pub struct Table {
    snapshot: Snapshot,
}

impl Table {
    /// An empty one, for a run that must differ from every earlier one.
    #[must_use]
    pub fn new(run: &str) -> Self {
        Self { snapshot: Snapshot { run: run.into(), ..Snapshot::default() } }
    }

    /// What is in force now.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether what is put from now on says nothing of other clusters.
    pub fn set_partial(&mut self, partial: bool) {
        self.snapshot.partial = partial;
    }

    /// Puts all resources but those under `kept` keys in the place of what is there; returns the keys that changed.
    ///
    /// # Errors
    /// When a resource has no JSON; nothing is changed then.
    pub fn replace(&mut self, resources: Vec<Resource>, kept: &str) -> Result<Vec<String>, serde_json::Error> {
        let mut changed = vec![];
        let mut fresh = vec![];
        let mut keys: BTreeSet<String> = BTreeSet::from([kept.to_owned()]);
        for resource in resources {
            let key = resource.key();
            if self.snapshot.entries.get(&key).is_none_or(|entry| entry.resource != resource) {
                fresh.push((key.clone(), Bytes::from(serde_json::to_vec(&resource)?), resource));
            }
            keys.insert(key);
        }
        self.snapshot.entries.retain(|key, _| {
            let stays = keys.contains(key);
            if !stays {
                changed.push(key.clone());
            }
            stays
        });
        if !changed.is_empty() {
            self.snapshot.version += 1;
        }
        for (key, body, resource) in fresh {
            changed.push(key.clone());
            self.put(key, body, resource);
        }
        Ok(changed)
    }

    /// Puts one resource; `false` when it is there already.
    ///
    /// # Errors
    /// When it has no JSON.
    pub fn upsert(&mut self, resource: Resource) -> Result<bool, serde_json::Error> {
        let key = resource.key();
        if self.snapshot.entries.get(&key).is_some_and(|entry| entry.resource == resource) {
            return Ok(false);
        }
        let body = Bytes::from(serde_json::to_vec(&resource)?);
        self.put(key, body, resource);
        Ok(true)
    }

    fn put(&mut self, key: String, body: Bytes, resource: Resource) {
        self.snapshot.version += 1;
        let entry = Entry { version: self.snapshot.version, resource, body };
        self.snapshot.entries.insert(key, Arc::new(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_core::{
        model::{RemoteCluster, Standing},
        name::ClusterName,
    };
    use proptest::prelude::*;

    fn cluster(name: &str, rtt_us: u64) -> Resource {
        let name: ClusterName = name.parse().unwrap();
        let trust_domain = name.trust_domain(&"mesh.test".parse().unwrap());
        Resource::Cluster(RemoteCluster {
            name,
            region: "r".into(),
            trust_domain,
            gateways: isthmus_core::statement::Gateways::default(),
            share: 1.0,
            standing: Standing::Alive,
            rtt_us,
        })
    }

    #[test]
    fn only_what_differs_gets_a_new_version() {
        let mut table = Table::new("run");
        assert_eq!(table.replace(vec![cluster("a", 1), cluster("b", 1)], "lease").unwrap().len(), 2);
        let before = table.snapshot().clone();
        assert!(table.replace(vec![cluster("a", 1), cluster("b", 1)], "lease").unwrap().is_empty());
        assert_eq!(table.snapshot().version, before.version);
        assert_eq!(table.replace(vec![cluster("a", 2)], "lease").unwrap(), ["cluster/b", "cluster/a"]);
        let have = before.entries.iter().map(|(key, entry)| (key.clone(), entry.version)).collect();
        let delta = table.snapshot().delta(&have, |_| true);
        assert_eq!(delta.removals, ["cluster/b"]);
        assert_eq!(delta.upserts.len(), 1);
    }

    #[test]
    fn the_kept_key_is_left_alone_and_goes_only_to_those_who_want_it() {
        let mut table = Table::new("run");
        assert!(table.upsert(Resource::Lease { statement: "x".into() }).unwrap());
        assert!(!table.upsert(Resource::Lease { statement: "x".into() }).unwrap());
        assert!(table.replace(vec![], "lease").unwrap().is_empty());
        assert_eq!(table.snapshot().delta(&BTreeMap::new(), |_| true).upserts.len(), 1);
        assert!(table.snapshot().delta(&BTreeMap::new(), |key| key != "lease").is_empty());
    }

    proptest! {
        #[test]
        fn whoever_applies_every_delta_has_what_is_in_force(steps in proptest::collection::vec(
            proptest::collection::btree_map("[a-d]", 0u64..3, 0..4), 1..12), skip in 1usize..4) {
            let mut table = Table::new("run");
            let mut have = BTreeMap::new();
            for (step, contents) in steps.iter().enumerate() {
                table.replace(contents.iter().map(|(name, rtt)| cluster(name, *rtt)).collect(), "lease").unwrap();
                if step % skip == 0 || step + 1 == steps.len() {
                    for part in parts(table.snapshot().delta(&have, |_| true)) {
                        have.extend(part.upserts.into_iter().map(|(key, entry)| (key, entry.version)));
                        part.removals.iter().for_each(|key| { have.remove(key); });
                    }
                }
            }
            let all: BTreeMap<_, _> =
                table.snapshot().entries.iter().map(|(key, entry)| (key.clone(), entry.version)).collect();
            prop_assert_eq!(have, all);
        }
    }
}
