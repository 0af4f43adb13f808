//! What other clusters say, as far as their own keys vouch for it.
//!
//! No relay is trusted, not even the own member: each statement is verified against the key in its cluster's join
//! entry, and the highest version wins whichever way it came. An ejected cluster says nothing any more. A member that
//! is itself in no mesh (reinstalled, not joined yet) cannot empty what is known.

mod check;
mod world;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use isthmus_core::{
    epoch::{Book, Outcome, Said},
    name::{ClusterName, MeshDomain},
    statement::{Content, Version},
};
use isthmus_wire::{
    federation::{MemberRecord, SignedStatement, Snapshot, WatchEvent, watch_event::Event},
    signing::verify_record,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};

pub use self::{
    check::{NotTaken, check},
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

/// What is kept on disk: protobuf messages in base64, so that they are verified again when loaded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HeardOnDisk {
    revision: u64,
    history: String,
    members: Vec<String>,
    statements: Vec<String>,
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
        let snapshot = Snapshot { statements: decode(&on_disk.statements), members: decode(&on_disk.members) };
        heard.replace(snapshot, metrics);
        (heard.revision, heard.history, heard.known) = (on_disk.revision, on_disk.history, true);
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

    /// What to keep on disk.
    #[must_use]
    pub fn on_disk(&self) -> HeardOnDisk {
        HeardOnDisk {
            revision: self.revision,
            history: self.history.clone(),
            members: self.records.values().map(|record| STANDARD.encode(record.encode_to_vec())).collect(),
            statements: self.signed.values().map(|signed| STANDARD.encode(signed.encode_to_vec())).collect(),
        }
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

    fn snapshot(&mut self, snapshot: Snapshot, metrics: &Metrics) -> Effect {
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
    fn replace(&mut self, snapshot: Snapshot, metrics: &Metrics) {
        self.records.clear();
        let mut records = snapshot.members;
        // Issuers first, so that countersignatures can be checked.
        records.sort_by_key(|record| record.raft_id);
        for record in records {
            self.record(record);
        }
        let mut newest: BTreeMap<String, Version> = BTreeMap::new();
        let mut held = std::collections::BTreeSet::new();
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

fn decode<M: prost::Message + Default>(texts: &[String]) -> Vec<M> {
    texts.iter().filter_map(|text| M::decode(STANDARD.decode(text).ok()?.as_slice()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_core::statement::{Bundle, Card, ImportRules};
    use isthmus_wire::{federation::Gone, signing::FederationKey};

    struct Cluster {
        name: &'static str,
        key: FederationKey,
    }

    impl Cluster {
        fn new(name: &'static str) -> Self {
            Self { name, key: FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap() }
        }

        fn record(&self) -> MemberRecord {
            MemberRecord {
                cluster: self.name.into(),
                federation_key: self.key.public(),
                trust_domain: format!("{}.mesh.test", self.name),
                ..MemberRecord::default()
            }
        }

        fn says(&self, number: u64, content: &Content) -> SignedStatement {
            let mut said = SignedStatement {
                mesh: "mesh.test".into(),
                cluster: self.name.into(),
                key: content.key(),
                epoch: 1,
                number,
                content: serde_json::to_vec(content).unwrap(),
                signature: vec![],
            };
            self.key.sign(&mut said);
            said
        }
    }

    fn card(region: &str) -> Content {
        Content::Card(Card { region: region.into(), ..Card::default() })
    }

    fn metrics() -> Metrics {
        Metrics::new(&prometheus::Registry::new()).unwrap()
    }

    fn event(event: Event) -> WatchEvent {
        WatchEvent { revision: 1, history: "h".into(), event: Some(event) }
    }

    fn snapshot(clusters: &[&Cluster], statements: Vec<SignedStatement>) -> WatchEvent {
        let members = clusters.iter().map(|cluster| cluster.record()).collect();
        event(Event::Snapshot(Snapshot { statements, members }))
    }

    fn heard() -> Heard {
        Heard::new("mesh.test".parse().unwrap(), "east".parse().unwrap(), None, &metrics())
    }

    fn region(heard: &Heard) -> Option<String> {
        let world = heard.world();
        match world.contents.get(&"west".parse().unwrap())?.get("card")?.as_ref() {
            Content::Card(card) => Some(card.region.clone()),
            _ => None,
        }
    }

    #[test]
    fn a_member_that_speaks_for_another_cluster_is_not_believed() {
        let (east, west, evil) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("evil"));
        let mut heard = heard();
        heard.take(snapshot(&[&east, &west, &evil], vec![west.says(1, &card("a"))]), &metrics());
        let forged = SignedStatement { cluster: "west".into(), ..evil.says(9, &card("b")) };
        let replayed = SignedStatement { number: 9, ..west.says(1, &card("c")) };
        let elsewhere = SignedStatement { mesh: "other.test".into(), ..west.says(9, &card("d")) };
        let foreign = Content::Bundle(Bundle { trust_domain: "west.mesh.test".parse().unwrap(), roots: vec![] });
        for lie in [forged, replayed, elsewhere, evil.says(2, &foreign)] {
            assert!(!heard.take(event(Event::Statement(lie)), &metrics()).changed);
        }
        assert_eq!(region(&heard).as_deref(), Some("a"));
        assert!(heard.take(event(Event::Statement(west.says(2, &card("e")))), &metrics()).changed);
        assert_eq!(region(&heard).as_deref(), Some("e"));
    }

    #[test]
    fn what_was_heard_survives_a_restart_and_is_verified_again() {
        let (east, west) = (Cluster::new("east"), Cluster::new("west"));
        let mut first = heard();
        first.take(snapshot(&[&east, &west], vec![west.says(1, &card("a"))]), &metrics());
        let again =
            |on_disk| Heard::new("mesh.test".parse().unwrap(), "east".parse().unwrap(), Some(on_disk), &metrics());
        assert_eq!(again(first.on_disk()).world(), first.world());
        assert_eq!(again(first.on_disk()).resume(), (1, "h".to_owned()));
        let mut forged = first.on_disk();
        let lie = SignedStatement { number: 7, ..west.says(1, &card("b")) };
        forged.statements = vec![STANDARD.encode(lie.encode_to_vec())];
        assert_eq!(region(&again(forged)), None);
    }

    #[test]
    fn a_member_that_is_in_no_mesh_empties_nothing() {
        let (east, west) = (Cluster::new("east"), Cluster::new("west"));
        let mut heard = heard();
        heard.take(snapshot(&[&east, &west], vec![west.says(1, &card("a"))]), &metrics());
        assert!(!heard.take(snapshot(&[], vec![]), &metrics()).changed);
        assert_eq!(region(&heard).as_deref(), Some("a"));
    }

    #[test]
    fn what_is_gone_is_gone_and_an_ejected_cluster_says_nothing() {
        let (east, west) = (Cluster::new("east"), Cluster::new("west"));
        let mut heard = heard();
        let rules = Content::ImportRules(ImportRules::default());
        heard.take(snapshot(&[&east, &west], vec![west.says(1, &card("a")), west.says(2, &rules)]), &metrics());
        assert!(heard.take(snapshot(&[&east, &west], vec![west.says(2, &rules)]), &metrics()).changed);
        assert_eq!(region(&heard), None);
        assert!(heard.take(event(Event::Statement(west.says(3, &card("b")))), &metrics()).changed);
        let gone = Gone { cluster: "west".into(), key: "card".into() };
        assert!(heard.take(event(Event::Gone(gone)), &metrics()).changed);
        assert_eq!(region(&heard), None);
        heard.take(event(Event::Statement(west.says(5, &card("c")))), &metrics());
        let ejected = MemberRecord { ejected: true, ..west.record() };
        assert!(heard.take(event(Event::Member(ejected)), &metrics()).changed);
        assert!(heard.world().members.is_empty() && heard.world().contents.is_empty());
        assert!(!heard.take(event(Event::Statement(west.says(6, &card("d")))), &metrics()).changed);
    }

    #[test]
    fn a_reinstalled_cluster_with_a_new_key_is_heard_again() {
        let (east, west, new) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("west"));
        let mut heard = heard();
        heard.take(snapshot(&[&east, &west], vec![west.says(90, &card("a"))]), &metrics());
        heard.take(event(Event::Member(new.record())), &metrics());
        assert_eq!(region(&heard), None);
        assert!(heard.take(event(Event::Statement(new.says(1, &card("b")))), &metrics()).changed);
        assert!(!heard.take(event(Event::Statement(west.says(91, &card("c")))), &metrics()).changed);
    }
}
