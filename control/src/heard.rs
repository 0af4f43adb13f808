//! What other clusters say, as far as their own keys vouch for it.
//!
//! No relay is trusted, not even the own member: each statement is verified against the key in its cluster's join
//! entry, and the highest version wins whichever way it came. An ejected cluster says nothing any more. A member that
//! is itself in no mesh (reinstalled, not joined yet) cannot empty what is known.

mod check;
mod kept;
mod snapshot;
mod world;

use std::{collections::BTreeMap, sync::Arc};

use isthmus_core::{
    epoch::{Book, Outcome, Said},
    name::{ClusterName, MeshDomain},
    statement::{Content, Version},
};
use isthmus_wire::{
    federation::{MemberRecord, SignedStatement, WatchEvent, watch_event::Event},
    signing::verify_record,
};

pub use self::{
    check::{NotTaken, check},
    kept::HeardOnDisk,
    world::{Member, World},
};
use crate::{metrics::Metrics, speaker::version_of, voice::Found};

/// What an event did.
#[derive(Debug, Default)]
pub struct Effect {
    /// Whether [`World`] changed.
    pub changed: bool,
    /// What was found under the own name.
    pub found: Vec<Found>,
}

/// The state.
pub struct Heard {
    mesh: MeshDomain,
    own: ClusterName,
    revision: u64,
    history: String,
    known: bool,
    records: BTreeMap<ClusterName, MemberRecord>,
    books: BTreeMap<ClusterName, Book<Arc<Content>>>,
    /// As they came, to keep them on disk; by cluster and key.
    signed: BTreeMap<(ClusterName, String), SignedStatement>,
}

impl Heard {
    /// With what an earlier run heard.
    #[must_use]
    pub fn new(mesh: MeshDomain, own: ClusterName, on_disk: Option<HeardOnDisk>, metrics: &Metrics) -> Self {
        let mut heard = Self {
            mesh,
            own,
            revision: 0,
            history: String::new(),
            known: false,
            records: BTreeMap::new(),
            books: BTreeMap::new(),
            signed: BTreeMap::new(),
        };
        let Some(on_disk) = on_disk else { return heard };
        heard.replace(on_disk.snapshot(), metrics);
        ((heard.revision, heard.history), heard.known) = (on_disk.resume(), true);
        heard
    }

    /// Whether anything was ever heard: from disk, or from the member.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// From where the watch goes on: (revision, history).
    #[must_use]
    pub fn resume(&self) -> (u64, String) {
        (self.revision, self.history.clone())
    }

    /// What the other clusters say.
    #[must_use]
    pub fn world(&self) -> World {
        let others = self.records.iter().filter(|(name, record)| **name != self.own && !record.ejected);
        let member = |(name, record): (&ClusterName, &MemberRecord)| {
            let member = Member {
                trust_domain: record.trust_domain.parse().ok()?,
                roots: record.roots.clone(),
                key: record.federation_key.clone(),
                addresses: record.addresses.clone(),
                operator: record.operator,
            };
            Some((name.clone(), member))
        };
        let members: BTreeMap<_, _> = others.filter_map(member).collect();
        let said = |name: &ClusterName| {
            let book = self.books.get(name)?;
            Some((name.clone(), book.iter().map(|(key, _, content)| (key.to_owned(), content.clone())).collect()))
        };
        let operators = self.records.iter().filter(|(_, record)| record.operator && !record.ejected);
        let operators = operators.map(|(name, _)| name.clone()).collect();
        World { operators, contents: members.keys().filter_map(said).collect(), members }
    }

    /// Takes an event of the watch; leases and standings are not its business.
    pub fn take(&mut self, event: WatchEvent, metrics: &Metrics) -> Effect {
        let effect = match event.event {
            Some(Event::Snapshot(snapshot)) => self.snapshot(snapshot, metrics),
            Some(Event::Statement(statement)) => self.statement(statement, metrics),
            Some(Event::Member(record)) => Effect { changed: self.record(record), found: vec![] },
            Some(Event::Gone(gone)) => Effect { changed: self.gone(&gone.cluster, &gone.key), found: vec![] },
            Some(Event::Lease(_) | Event::Standing(_)) | None => return Effect::default(),
        };
        self.revision = event.revision.max(if self.history == event.history { self.revision } else { 0 });
        self.history = event.history;
        effect
    }

    /// Verifies a statement and reads it.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn check(&self, statement: &SignedStatement) -> Result<(ClusterName, Content), NotTaken> {
        let cluster: ClusterName = statement.cluster.parse()?;
        let member = self.records.get(&cluster).filter(|record| !record.ejected);
        let stranger = || NotTaken::Stranger { key: statement.key.clone(), cluster: cluster.clone() };
        let key = &member.ok_or_else(stranger)?.federation_key;
        check(&self.mesh, statement, key).map(|content| (cluster, content))
    }

    fn statement(&mut self, statement: SignedStatement, metrics: &Metrics) -> Effect {
        if statement.cluster == self.own.as_str() {
            return Effect { changed: false, found: vec![Found::Met(version_of(&statement))] };
        }
        let count = |outcome: &str| metrics.heard.with_label_values(&[outcome]).inc();
        let (cluster, content) = match self.check(&statement) {
            Ok(checked) => checked,
            Err(error) => {
                tracing::warn!(%error, "a statement is not taken");
                count(if matches!(error, NotTaken::Malformed { .. }) { "malformed" } else { "forged" });
                return Effect::default();
            }
        };
        let book = self.books.entry(cluster.clone()).or_default();
        let said = match content {
            Content::Epoch { keys } => Said::Epoch(keys),
            Content::Gone { .. } => Said::Gone,
            content => Said::Value(Arc::new(content)),
        };
        let changed = book.offer(&statement.key, version_of(&statement), said) == Outcome::Applied;
        count(if changed { "applied" } else { "old" });
        if changed {
            self.signed.insert((cluster.clone(), statement.key.clone()), statement);
            let held = |key: &str| key == "epoch" || book.version(key).is_some();
            self.signed.retain(|(of, key), _| *of != cluster || held(key));
        }
        Effect { changed, found: vec![] }
    }

    /// Takes a join entry; `false` when it changes nothing or is not to be believed.
    fn record(&mut self, record: MemberRecord) -> bool {
        let Ok(cluster) = record.cluster.parse::<ClusterName>() else { return false };
        if record.trust_domain != cluster.trust_domain(&self.mesh).as_str() {
            tracing::warn!(%cluster, domain = record.trust_domain, "a join entry names a trust domain of another");
            return false;
        }
        // An issuer that came back later, with another key, is no witness of what its old key signed.
        let issuer = record.issuer.parse::<ClusterName>().ok().and_then(|issuer| self.records.get(&issuer));
        let issuer = issuer.filter(|issuer| issuer.raft_id <= record.raft_id);
        if let Some(Err(error)) = issuer.map(|issuer| verify_record(&record, &issuer.federation_key)) {
            tracing::warn!(%error, %cluster, "a join entry is not taken");
            return false;
        }
        if self.records.get(&cluster).is_some_and(|old| old.federation_key != record.federation_key) || record.ejected {
            // Another key: what the old one signed no longer counts, and versions begin anew.
            self.books.remove(&cluster);
            self.signed.retain(|(of, _), _| *of != cluster);
        }
        self.records.insert(cluster, record.clone()) != Some(record)
    }

    fn gone(&mut self, cluster: &str, key: &str) -> bool {
        let Ok(cluster) = cluster.parse::<ClusterName>() else { return false };
        self.signed.remove(&(cluster.clone(), key.to_owned()));
        let Some(book) = self.books.get_mut(&cluster) else { return false };
        let (Some(version), true) = (book.version(key), book.get(key).is_some()) else { return false };
        // Its writer's next word under this key has at least the next number, so nothing newer is shut out.
        let after = Version { number: version.number.saturating_add(1), ..version };
        book.offer(key, after, Said::Gone) == Outcome::Applied
    }
}

#[cfg(test)]
mod tests;
