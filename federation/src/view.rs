//! What this member knows now, from the log and from deltas, and the history that watchers resume from.
//!
//! A watcher gets everything once and in order, or a snapshot and everything after it. Revisions count within one run
//! of the process, named by the history id.

use std::collections::{BTreeMap, VecDeque};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_core::{
    epoch::{Book, Outcome, Said},
    statement::{Bundle, Content, Version},
};
use isthmus_wire::federation::{MemberRecord, SignedStatement, Snapshot, Standing, WatchEvent, watch_event::Event};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::state::{State, meaning, version};

/// Events a watcher may have missed and still resume.
const HISTORY: usize = 16 * 1024;
/// Events that wait for a slow watcher; beyond it, it begins again with a snapshot.
const QUEUE: usize = 4096;

/// The key under which a cluster says its roots.
pub(crate) const BUNDLE: &str = "bundle";

/// The roots a statement of `record`'s cluster gives its own trust domain, and no other.
fn bundle(said: &SignedStatement, record: &MemberRecord) -> Option<Vec<Vec<u8>>> {
    let Ok(Content::Bundle(Bundle { trust_domain, roots })) = serde_json::from_slice(&said.content) else {
        return None;
    };
    let roots: Vec<_> = roots.iter().filter_map(|root| STANDARD.decode(root).ok()).collect();
    (trust_domain.as_str() == record.trust_domain && !roots.is_empty()).then_some(roots)
}

struct Inner {
    revision: u64,
    members: BTreeMap<String, MemberRecord>,
    books: BTreeMap<String, Book<SignedStatement>>,
    epochs: BTreeMap<String, SignedStatement>,
    /// Version of the last lease heard: one that was relayed comes more than once.
    leases: BTreeMap<String, Version>,
    history: VecDeque<WatchEvent>,
    mesh: String,
    /// Who is out for this cluster, with the key it was put out with, before the log has it.
    shunned: BTreeMap<String, Vec<u8>>,
}

/// The view.
pub struct View {
    id: String,
    inner: Mutex<Inner>,
    events: broadcast::Sender<WatchEvent>,
}

/// What became of a statement that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// New.
    Applied,
    /// Known, or older than what is known.
    Stale,
    /// Not signed by a member it is said for.
    Forged,
}

impl Default for View {
    fn default() -> Self {
        let (members, books, epochs, leases, history, shunned) = Default::default();
        let inner = Inner { revision: 0, members, books, epochs, leases, history, mesh: String::new(), shunned };
        Self {
            id: format!("{:016x}", fastrand::u64(..)),
            inner: Mutex::new(inner),
            events: broadcast::channel(QUEUE).0,
        }
    }
}

impl View {
    /// Everything anew, from the state machine: at the start, and when a snapshot was installed. What deltas brought
    /// beyond it stays.
    pub fn replace(&self, state: &State) {
        state.members().for_each(|record| self.member(state.mesh(), record.clone()));
        state.all_said().for_each(|statement| {
            self.hear(&statement);
        });
    }

    /// A member joined, changed or was ejected.
    pub fn member(&self, mesh: &str, mut record: MemberRecord) {
        let mut inner = self.inner.lock();
        inner.mesh = mesh.to_owned();
        record.ejected |= inner.shunned.get(&record.cluster) == Some(&record.federation_key);
        let known = inner.members.get(&record.cluster);
        // A member that catches up meets entries of installations that are gone; Raft ids only grow.
        if known.is_some_and(|known| *known == record || known.raft_id > record.raft_id) {
            return;
        }
        let reinstalled = known.is_some_and(|old| old.federation_key != record.federation_key);
        if record.ejected || reinstalled {
            inner.books.remove(&record.cluster);
            inner.epochs.remove(&record.cluster);
            inner.leases.remove(&record.cluster);
        }
        inner.members.insert(record.cluster.clone(), record.clone());
        self.push(&mut inner, Event::Member(record));
    }

    /// This cluster has put another one out, which counts here as if the log had it; without a key, not any more.
    pub fn shun(&self, cluster: &str, key: Option<Vec<u8>>) {
        let known = {
            let mut inner = self.inner.lock();
            let was_out = match key {
                Some(key) => inner.shunned.insert(cluster.to_owned(), key).is_some(),
                None => inner.shunned.remove(cluster).is_some(),
            };
            let known = inner.members.get(cluster).cloned();
            known.map(|known| (inner.mesh.clone(), MemberRecord { ejected: known.ejected && !was_out, ..known }))
        };
        if let Some((mesh, known)) = known {
            self.member(&mesh, known);
        }
    }

    /// A statement came, by whichever way; only what its own cluster signed counts.
    pub fn hear(&self, statement: &SignedStatement) -> Heard {
        let mut inner = self.inner.lock();
        let Some(member) = inner.members.get(&statement.cluster).filter(|member| !member.ejected) else {
            return Heard::Forged;
        };
        if statement.mesh != inner.mesh {
            return Heard::Forged;
        }
        let Some(said) = meaning(statement, &member.federation_key) else { return Heard::Forged };
        if statement.key == "lease" {
            let last = inner.leases.entry(statement.cluster.clone()).or_default();
            if *last >= version(statement) {
                return Heard::Stale;
            }
            *last = version(statement);
            self.send(&inner, Event::Lease(statement.clone()));
            return Heard::Applied;
        }
        let begins = matches!(said, Said::Epoch(_));
        let said = match said {
            Said::Value(()) => Said::Value(statement.clone()),
            Said::Gone => Said::Gone,
            Said::Epoch(keys) => Said::Epoch(keys),
        };
        let book = inner.books.entry(statement.cluster.clone()).or_default();
        if book.offer(&statement.key, version(statement), said) == Outcome::Stale {
            return Heard::Stale;
        }
        if begins {
            inner.epochs.insert(statement.cluster.clone(), statement.clone());
        }
        self.push(&mut inner, Event::Statement(statement.clone()));
        Heard::Applied
    }

    /// The highest version held under a cluster's name.
    #[must_use]
    pub fn highest(&self, cluster: &str) -> Version {
        self.inner.lock().books.get(cluster).map(Book::highest).unwrap_or_default()
    }

    /// Members, ejected ones too.
    #[must_use]
    pub fn members(&self) -> Vec<MemberRecord> {
        self.inner.lock().members.values().cloned().collect()
    }

    /// Where a cluster says that its gateways take TCP, and so its member; none where it says nothing.
    #[must_use]
    pub fn reached(&self, cluster: &str) -> Vec<String> {
        let inner = self.inner.lock();
        let said = inner.books.get(cluster).and_then(|book| book.get("card"));
        match said.and_then(|card| serde_json::from_slice(&card.content).ok()) {
            Some(Content::Card(card)) => card.gateways.tcp,
            _ => vec![],
        }
    }

    /// Roots of a member's trust domain, DER: as it says now, or as its join entry has them until it says any.
    #[must_use]
    pub fn roots(&self, record: &MemberRecord) -> Vec<Vec<u8>> {
        let inner = self.inner.lock();
        let said = inner.books.get(&record.cluster).and_then(|book| book.get(BUNDLE));
        said.and_then(|said| bundle(said, record)).unwrap_or_else(|| record.roots.clone())
    }

    /// The last revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.inner.lock().revision
    }

    /// How the federation stands, to every watcher.
    pub fn standing(&self, standing: Standing) {
        let inner = self.inner.lock();
        self.send(&inner, Event::Standing(standing));
    }

    /// What a watcher missed, and all that comes.
    pub fn watch(&self, revision: u64, history: &str) -> (Vec<WatchEvent>, broadcast::Receiver<WatchEvent>) {
        let inner = self.inner.lock();
        let receiver = self.events.subscribe();
        let oldest = inner.history.front().map_or(inner.revision + 1, |event| event.revision);
        let resumable = history == self.id && revision + 1 >= oldest && revision <= inner.revision && revision > 0;
        if resumable {
            return (inner.history.iter().filter(|event| event.revision > revision).cloned().collect(), receiver);
        }
        let statements = inner.epochs.values().cloned();
        let said = inner.books.values().flat_map(|book| book.iter().map(|(_, _, statement)| statement.clone()));
        let snapshot = Snapshot {
            statements: statements.chain(said).collect(),
            members: inner.members.values().cloned().collect(),
        };
        (vec![self.event(&inner, Event::Snapshot(snapshot))], receiver)
    }

    fn event(&self, inner: &Inner, event: Event) -> WatchEvent {
        WatchEvent { revision: inner.revision, history: self.id.clone(), event: Some(event) }
    }

    fn send(&self, inner: &Inner, event: Event) {
        let _ = self.events.send(self.event(inner, event));
    }

    fn push(&self, inner: &mut Inner, event: Event) {
        inner.revision += 1;
        let event = self.event(inner, event);
        inner.history.push_back(event.clone());
        if inner.history.len() > HISTORY {
            inner.history.pop_front();
        }
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use isthmus_core::statement::{Card, Gateways};
    use isthmus_wire::signing::FederationKey;

    use super::*;

    #[test]
    fn a_member_is_reached_where_its_cluster_said_last_that_its_gateways_take_tcp() {
        let key = FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap();
        let record = MemberRecord { cluster: "west".into(), federation_key: key.public(), ..MemberRecord::default() };
        let view = View::default();
        view.member("mesh", record);
        assert!(view.reached("west").is_empty());
        let say = |number: u64, udp: &str, tcp: &str| {
            let gateways = Gateways { udp: vec![udp.into()], tcp: vec![tcp.into()] };
            let content = Content::Card(Card { gateways, ..Card::default() });
            let content = serde_json::to_vec(&content).unwrap();
            let (mesh, cluster, key_of) = ("mesh".into(), "west".into(), "card".into());
            let mut said = SignedStatement { mesh, cluster, key: key_of, epoch: 1, number, content, signature: vec![] };
            key.sign(&mut said);
            view.hear(&said)
        };
        assert_eq!(say(1, "u.example:1", "t.example:1"), Heard::Applied);
        assert_eq!(view.reached("west"), ["t.example:1"]);
        assert_eq!(say(2, "u.example:1", "t.example:2"), Heard::Applied);
        assert_eq!(view.reached("west"), ["t.example:2"]);
    }

    /// What `cluster` says of the roots of `domain`.
    fn says(key: &FederationKey, cluster: &str, domain: &str, number: u64, root: &[u8]) -> SignedStatement {
        let content =
            Content::Bundle(Bundle { trust_domain: domain.parse().unwrap(), roots: vec![STANDARD.encode(root)] });
        let mut said = SignedStatement {
            mesh: "mesh".into(),
            cluster: cluster.into(),
            key: content.key(),
            epoch: 1,
            number,
            content: serde_json::to_vec(&content).unwrap(),
            signature: vec![],
        };
        key.sign(&mut said);
        said
    }

    #[test]
    fn a_member_has_the_roots_that_it_said_last_for_its_own_domain_and_before_that_those_of_its_entry() {
        let key = FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap();
        let record = MemberRecord {
            cluster: "east".into(),
            federation_key: key.public(),
            trust_domain: "east.mesh".into(),
            roots: vec![b"entered".to_vec()],
            raft_id: 1,
            ..MemberRecord::default()
        };
        let view = View::default();
        view.member("mesh", record.clone());
        assert_eq!(view.roots(&record), [b"entered"]);
        assert_eq!(view.hear(&says(&key, "east", "east.mesh", 1, b"first")), Heard::Applied);
        assert_eq!(view.hear(&says(&key, "east", "east.mesh", 2, b"second")), Heard::Applied);
        assert_eq!(view.roots(&record), [b"second"]);
        // Signed, and about somebody else: nothing that is believed of its own domain.
        assert_eq!(view.hear(&says(&key, "east", "west.mesh", 3, b"third")), Heard::Applied);
        assert_eq!(view.roots(&record), [b"entered"]);
    }
}
