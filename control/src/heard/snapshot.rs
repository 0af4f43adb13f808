//! All that the own member holds, at once: what it does not hold is gone.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_core::statement::Version;
use isthmus_wire::federation::Snapshot;

use super::{Effect, Heard};
use crate::{metrics::Metrics, speaker::version_of, voice::Found};

impl Heard {
    pub(super) fn snapshot(&mut self, snapshot: Snapshot, metrics: &Metrics) -> Effect {
        let joined = snapshot.members.iter().any(|record| record.cluster == self.own.as_str());
        if !joined && self.known && !self.records.is_empty() {
            tracing::warn!("the own member is in no mesh; what other clusters said last stays in force");
            return Effect::default();
        }
        let own = snapshot.statements.iter().filter(|said| said.cluster == self.own.as_str());
        let held: BTreeMap<_, _> = own.map(|said| (said.key.clone(), version_of(said))).collect();
        let mut found = vec![];
        found.extend(held.values().max().map(|version| Found::Met(*version)));
        found.push(Found::Held(held));
        self.replace(snapshot, metrics);
        self.known = true;
        Effect { changed: true, found }
    }

    /// What a snapshot does not hold is gone, unless it is newer than all the snapshot holds of that cluster.
    pub(super) fn replace(&mut self, snapshot: Snapshot, metrics: &Metrics) {
        self.records.clear();
        let mut records = snapshot.members;
        // Issuers first, so that countersignatures can be checked.
        records.sort_by_key(|record| record.raft_id);
        for record in records {
            self.record(record);
        }
        let mut newest: BTreeMap<String, Version> = BTreeMap::new();
        let mut held = BTreeSet::new();
        let mut statements = snapshot.statements;
        statements.sort_by_key(version_of);
        for statement in statements {
            let version = newest.entry(statement.cluster.clone()).or_default();
            *version = version_of(&statement).max(*version);
            held.insert((statement.cluster.clone(), statement.key.clone()));
            self.statement(statement, metrics);
        }
        let gone = self.signed.iter().filter(|((cluster, key), signed)| {
            let newest = newest.get(cluster.as_str()).copied().unwrap_or_default();
            !held.contains(&(cluster.to_string(), key.clone())) && version_of(signed) <= newest.max(Version::default())
        });
        for (cluster, key) in gone.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            self.gone(cluster.as_str(), &key);
        }
        let records = &self.records;
        self.signed.retain(|(cluster, _), _| records.contains_key(cluster));
        self.books.retain(|cluster, _| records.contains_key(cluster));
    }
}
