//! What this cluster says to the others: signed, numbered, and said again until the own member has taken it.
//!
//! A version is (epoch, number) (DESIGN.md decision 12). The epoch is one above every epoch found under the own name;
//! meeting the own name with a higher version, the speaker takes a higher epoch and says everything again, beginning
//! with the list of all its keys. Pure: it hands out what to keep on disk *before* anything of a new epoch may be sent.
//!
//! Of several replicas of control one speaks. The others listen to what is said under the own name, so that one that takes over
//! rises above it.

use std::collections::BTreeMap;

use isthmus_core::{
    failover::verb::Verb,
    name::{ClusterName, MeshDomain},
    statement::{Content, Lease, Version},
};
use isthmus_wire::{
    federation::{PublishAnswer, SignedStatement, publish_answer::Outcome},
    signing::FederationKey,
};

/// The key the list of all keys is said under.
const EPOCH: &str = "epoch";

/// The state machine.
pub struct Speaker {
    mesh: MeshDomain,
    cluster: ClusterName,
    key: FederationKey,
    /// Whether it is this replica that speaks.
    speaks: bool,
    version: Version,
    /// What is to be said, by key; `None` until the first full set is known.
    contents: Option<BTreeMap<String, Content>>,
    /// What was signed last under each key, the epoch's own statement too.
    said: BTreeMap<String, SignedStatement>,
    /// Keys not yet taken by the member, in the order of their numbers.
    open: BTreeMap<u64, String>,
    refused: BTreeMap<String, String>,
}

impl Speaker {
    /// A speaker whose last epoch was `on_disk` (0: none), silent as long as it does not [`Speaker::take_over`]. Then it begins one
    /// above; [`Speaker::epoch`] must be on disk before [`Speaker::outbox`] is sent.
    #[must_use]
    pub fn new(mesh: MeshDomain, cluster: ClusterName, key: FederationKey, on_disk: u64) -> Self {
        Self {
            mesh,
            cluster,
            key,
            speaks: false,
            version: Version { epoch: on_disk, number: 0 },
            contents: None,
            said: BTreeMap::new(),
            open: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// The epoch in use.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.version.epoch
    }

    /// Another replica speaks from now on: what this one has said is the other's to say.
    pub fn fall_silent(&mut self) {
        self.speaks = false;
        self.said.clear();
        self.open.clear();
        self.refused.clear();
    }

    /// From now on this replica speaks, above everything that was heard under the own name.
    pub fn take_over(&mut self) {
        if !std::mem::replace(&mut self.speaks, true) {
            self.rise_above(self.version.epoch);
        }
    }

    /// Whether it is this replica that speaks.
    #[must_use]
    pub fn speaks(&self) -> bool {
        self.speaks
    }

    /// The full set of what there is to say now; signs what differs. Returns whether anything new is to be sent.
    pub fn say(&mut self, contents: impl IntoIterator<Item = Content>) -> bool {
        let fresh: BTreeMap<_, _> = contents.into_iter().map(|content| (content.key(), content)).collect();
        if !self.speaks {
            self.contents = Some(fresh);
            return false;
        }
        let Some(before) = self.contents.replace(fresh.clone()) else {
            self.begin_epoch();
            return true;
        };
        let mut changed = false;
        for (key, content) in &fresh {
            if before.get(key) != Some(content) {
                self.sign(content);
                changed = true;
            }
        }
        for key in before.keys().filter(|key| !fresh.contains_key(*key)) {
            self.sign(&Content::Gone { key: key.clone() });
            changed = true;
        }
        changed
    }

    /// All that the member has not taken yet, in order.
    #[must_use]
    pub fn outbox(&self) -> Vec<SignedStatement> {
        self.open.values().filter_map(|key| self.said.get(key).cloned()).collect()
    }

    /// What is open above `number`, in order: what a session that already sent up to there still has to send.
    #[must_use]
    pub fn outbox_after(&self, number: u64) -> Vec<SignedStatement> {
        let after = self.open.range(number.saturating_add(1)..);
        after.filter_map(|(_, key)| self.said.get(key).cloned()).collect()
    }

    /// Signs a lease; it is sent once and never kept.
    pub fn lease(&mut self, lease: Lease) -> SignedStatement {
        self.signed(&Content::Lease(lease))
    }

    /// The member answered. Returns `true` when a new epoch began: keep it, then send the outbox from its start.
    pub fn answered(&mut self, answer: &PublishAnswer) -> bool {
        let version = Version { epoch: answer.epoch, number: answer.number };
        let current = self.said.get(&answer.key).is_some_and(|said| version_of(said) == version);
        match &answer.outcome {
            Some(Outcome::Taken(_)) if current => self.close(&answer.key),
            Some(Outcome::Refused(reason)) if current => {
                self.close(&answer.key);
                self.refused.insert(answer.key.clone(), reason.clone());
            }
            Some(Outcome::HigherEpoch(epoch))
                if *epoch >= self.version.epoch && version.epoch == self.version.epoch =>
            {
                self.rise_above(*epoch);
                return true;
            }
            _ => {}
        }
        false
    }

    /// Whether this version is above all that was said.
    #[must_use]
    pub fn is_below(&self, version: Version) -> bool {
        version > self.version
    }

    /// A statement under the own name came from elsewhere. Returns `true` when a new epoch began: who is silent has only heard
    /// what the next one must be above.
    pub fn met(&mut self, version: Version) -> bool {
        if !self.speaks {
            self.version.epoch = self.version.epoch.max(version.epoch);
            return false;
        }
        let higher = self.is_below(version);
        if higher {
            self.rise_above(version.epoch);
        }
        higher
    }

    /// The member told all it holds under the own name: what it lacks is open again. Returns whether anything is.
    pub fn held_by_member(&mut self, held: &BTreeMap<String, Version>) -> bool {
        if !self.speaks {
            for version in held.values() {
                self.met(*version);
            }
            return false;
        }
        let lacks = |(key, said): (&String, &SignedStatement)| {
            let is_gone = self.contents.as_ref().is_some_and(|contents| !contents.contains_key(key)) && key != EPOCH;
            let has = held.get(key).is_some_and(|version| *version >= version_of(said));
            (!has && (!is_gone || held.contains_key(key))).then(|| (said.number, key.clone()))
        };
        let lacking: Vec<_> = self.said.iter().filter_map(lacks).collect();
        let any = !lacking.is_empty();
        self.open.extend(lacking);
        any
    }

    /// What the member refused and why, by key.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
    }

    /// Own verbs that the member has taken, each with the version that it is said under.
    #[must_use]
    pub fn verbs(&self) -> Vec<(Verb, Version)> {
        let contents = self.contents.iter().flatten();
        let taken = |(key, content): (&String, &Content)| {
            let said = self.said.get(key).filter(|said| !self.open.contains_key(&said.number))?;
            match content {
                Content::Verb(verb) if !self.refused.contains_key(key) => Some((verb.clone(), version_of(said))),
                _ => None,
            }
        };
        contents.filter_map(taken).collect()
    }

    /// How many statements the member has not taken.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn rise_above(&mut self, epoch: u64) {
        self.version = Version { epoch: epoch.max(self.version.epoch).saturating_add(1), number: self.version.number };
        if self.contents.is_some() {
            self.begin_epoch();
        }
    }

    fn begin_epoch(&mut self) {
        let contents = self.contents.clone().unwrap_or_default();
        self.said.clear();
        self.open.clear();
        self.refused.clear();
        self.sign(&Content::Epoch { keys: contents.keys().cloned().collect() });
        contents.values().for_each(|content| self.sign(content));
    }

    fn sign(&mut self, content: &Content) {
        let statement = self.signed(content);
        self.close(&statement.key);
        self.open.insert(statement.number, statement.key.clone());
        self.said.insert(statement.key.clone(), statement);
    }

    fn close(&mut self, key: &str) {
        if let Some(said) = self.said.get(key) {
            self.open.remove(&said.number);
        }
        self.refused.remove(key);
    }

    fn signed(&mut self, content: &Content) -> SignedStatement {
        self.version.number += 1;
        let mut statement = SignedStatement {
            mesh: self.mesh.to_string(),
            cluster: self.cluster.to_string(),
            key: content.key(),
            epoch: self.version.epoch,
            number: self.version.number,
            content: serde_json::to_vec(content).unwrap_or_default(),
            signature: vec![],
        };
        self.key.sign(&mut statement);
        statement
    }
}

/// The version a statement carries.
#[must_use]
pub fn version_of(statement: &SignedStatement) -> Version {
    Version { epoch: statement.epoch, number: statement.number }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use isthmus_core::{
        failover::verb::Deed,
        statement::{Card, ImportRules},
    };
    use isthmus_wire::signing::verify_statement;

    fn speaker(on_disk: u64) -> Speaker {
        let key = FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap();
        let mut speaker = Speaker::new("mesh.test".parse().unwrap(), "east".parse().unwrap(), key, on_disk);
        speaker.take_over();
        speaker
    }

    fn card(region: &str) -> Content {
        Content::Card(Card { region: region.into(), ..Card::default() })
    }

    fn keys(statements: &[SignedStatement]) -> Vec<&str> {
        statements.iter().map(|statement| statement.key.as_str()).collect()
    }

    fn taken(statement: &SignedStatement) -> PublishAnswer {
        let outcome = Some(Outcome::Taken(true));
        PublishAnswer { key: statement.key.clone(), epoch: statement.epoch, number: statement.number, outcome }
    }

    #[test]
    fn a_verb_is_told_with_its_version_once_the_member_has_taken_it() {
        let deed = Deed::Drain { cluster: "east".parse().unwrap(), over: Duration::ZERO };
        let (by, reason, elapsed, ended) = Default::default();
        let lasts = Duration::from_secs(60);
        let mut verb = Verb { name: deed.name(), deed, lasts, by, reason, at_ms: 1, elapsed, ended };
        let mut speaker = speaker(6);
        speaker.say([card("r"), Content::Verb(verb.clone())]);
        assert_eq!(speaker.verbs(), []);
        speaker.outbox().iter().for_each(|said| assert!(!speaker.answered(&taken(said))));
        assert_eq!(speaker.verbs(), [(verb.clone(), Version { epoch: 7, number: 3 })]);
        verb.elapsed = Duration::from_secs(10);
        speaker.say([card("r"), Content::Verb(verb.clone())]);
        assert_eq!(speaker.verbs(), [], "as it is said now it is on its way");
        let refused = PublishAnswer { outcome: Some(Outcome::Refused("no".into())), ..taken(&speaker.outbox()[0]) };
        speaker.answered(&refused);
        assert_eq!(speaker.verbs(), []);
    }

    #[test]
    fn an_epoch_begins_with_all_keys_and_then_only_changes_are_said() {
        let mut speaker = speaker(6);
        assert!(speaker.say([card("r"), Content::ImportRules(ImportRules::default())]));
        let first = speaker.outbox();
        assert_eq!(keys(&first), ["epoch", "card", "import-rules"]);
        assert!(first.iter().all(|said| said.epoch == 7 && verify_statement(said, &speaker.key.public()).is_ok()));
        first.iter().for_each(|said| assert!(!speaker.answered(&taken(said))));
        assert_eq!(speaker.open(), 0);
        assert!(!speaker.say([card("r"), Content::ImportRules(ImportRules::default())]));
        assert!(speaker.say([card("s")]));
        assert_eq!(keys(&speaker.outbox()), ["card", "import-rules"]);
        assert!(speaker.outbox().iter().all(|said| said.number > first[2].number));
    }

    #[test]
    fn a_late_answer_to_an_older_version_closes_nothing() {
        let mut speaker = speaker(0);
        speaker.say([card("r")]);
        let old = speaker.outbox();
        speaker.say([card("s")]);
        assert!(!speaker.answered(&taken(&old[1])));
        assert_eq!(keys(&speaker.outbox()), ["epoch", "card"]);
    }

    #[test]
    fn a_reinstalled_cluster_rises_above_what_the_member_holds_under_its_name() {
        let mut speaker = speaker(0);
        speaker.say([card("r")]);
        let said = speaker.outbox();
        let answer = PublishAnswer { outcome: Some(Outcome::HigherEpoch(41)), ..taken(&said[1]) };
        assert!(speaker.answered(&answer));
        assert_eq!(speaker.epoch(), 42);
        assert_eq!(keys(&speaker.outbox()), ["epoch", "card"]);
        assert!(!speaker.answered(&answer), "the same answer to the old epoch again changes nothing");
        assert!(!speaker.met(Version { epoch: 41, number: 900 }));
        assert!(speaker.met(Version { epoch: 42, number: 900 }));
        assert_eq!(speaker.epoch(), 43);
    }

    #[test]
    fn a_replica_that_takes_over_is_above_what_it_heard_and_says_everything() {
        let (mut first, mut second) = (speaker(0), speaker(0));
        second.fall_silent();
        for one in [&mut first, &mut second] {
            one.say([card("r")]);
        }
        assert_eq!((first.outbox().len(), second.outbox().len()), (2, 0));
        assert!(!second.met(version_of(&first.outbox()[1])));
        second.take_over();
        second.take_over();
        let said = second.outbox();
        assert_eq!(keys(&said), ["epoch", "card"]);
        assert!(said.iter().all(|said| version_of(said) > version_of(&first.outbox()[1])));
        first.fall_silent();
        assert!(!first.say([card("s")]) && first.outbox().is_empty());
        assert!(!first.held_by_member(&[("card".to_owned(), version_of(&said[1]))].into()));
        first.take_over();
        assert_eq!((first.epoch(), keys(&first.outbox())), (second.epoch() + 1, vec!["epoch", "card"]));
    }

    #[test]
    fn what_a_member_lost_is_said_again() {
        let mut speaker = speaker(0);
        speaker.say([card("r"), Content::ImportRules(ImportRules::default())]);
        speaker.outbox().iter().for_each(|said| {
            speaker.answered(&taken(said));
        });
        let all = speaker.said.iter().map(|(key, said)| (key.clone(), version_of(said))).collect();
        assert!(!speaker.held_by_member(&all));
        assert!(speaker.held_by_member(&BTreeMap::new()));
        assert_eq!(keys(&speaker.outbox()), ["epoch", "card", "import-rules"]);
    }
}
