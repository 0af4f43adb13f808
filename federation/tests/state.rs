//! What the log makes of commands, whoever proposed them: only what its own cluster signed counts, and a token once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by a panic")]

use isthmus_core::statement::{Card, Content};
use isthmus_federation::{
    state::{Answer, Blob, Command, State},
    token,
};
use isthmus_wire::{
    federation::{MemberRecord, SignedStatement},
    signing::FederationKey,
};
use prost::Message;

struct Cluster {
    name: &'static str,
    key: FederationKey,
}

impl Cluster {
    fn new(name: &'static str) -> Self {
        Self { name, key: FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap() }
    }

    fn record(&self, issuer: &Self, raft_id: u64) -> Blob {
        let mut record = MemberRecord {
            cluster: self.name.into(),
            federation_key: self.key.public(),
            raft_id,
            issuer: issuer.name.into(),
            trust_domain: format!("{}.mesh", self.name),
            operator: issuer.name == self.name,
            ..MemberRecord::default()
        };
        issuer.key.countersign(&mut record);
        Blob(record.encode_to_vec())
    }

    fn says(&self, signer: &Self, region: &str, number: u64) -> Command {
        let content = Content::Card(Card { region: region.into(), ..Card::default() });
        let mut said = SignedStatement {
            mesh: "mesh".into(),
            cluster: self.name.into(),
            key: content.key(),
            epoch: 1,
            number,
            content: serde_json::to_vec(&content).unwrap(),
            signature: vec![],
        };
        signer.key.sign(&mut said);
        Command::Statements { statements: vec![Blob(said.encode_to_vec())] }
    }
}

fn bootstrapped(east: &Cluster) -> State {
    let mut state = State::default();
    let (answer, _) = state.apply(Command::Bootstrap { mesh: "mesh".into(), record: east.record(east, 1) });
    assert_eq!(answer, Answer::Done);
    state
}

fn token_for(state: &mut State, cluster: &str, id: &str) {
    let hash = token::hash(b"secret");
    let (id, cluster) = (id.to_owned(), cluster.to_owned());
    state.apply(Command::Token { id, cluster, hash, expires: u64::MAX, issuer: "east".into() });
}

fn join(state: &mut State, id: &str, record: Blob) -> Answer {
    state.apply(Command::Join { token: id.into(), record }).0
}

fn refused(answer: &Answer, word: &str) {
    assert!(matches!(answer, Answer::Refused(reason) if reason.contains(word)), "{answer:?} does not say {word:?}");
}

fn regions(state: &State, cluster: &str) -> Vec<String> {
    let of = |said: &SignedStatement| match serde_json::from_slice(&said.content).unwrap() {
        Content::Card(card) => card.region,
        other => panic!("{other:?}"),
    };
    state.statements().filter(|said| said.cluster == cluster).map(|said| of(&said)).collect()
}

#[test]
fn a_token_lets_one_key_in_and_that_key_may_ask_again() {
    let (east, west, thief) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("west"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, "west", "t");
    refused(&join(&mut state, "unknown", west.record(&east, 2)), "not known");
    refused(&join(&mut state, "t", Cluster::new("north").record(&east, 2)), "for cluster west");
    refused(&join(&mut state, "t", west.record(&west, 2)), "issued by");
    assert_eq!(join(&mut state, "t", west.record(&east, 2)), Answer::Done);
    assert_eq!(join(&mut state, "t", west.record(&east, 2)), Answer::Done, "a lost reply must not burn it");
    refused(&join(&mut state, "t", thief.record(&east, 3)), "used already");
    assert_eq!(state.member("west").unwrap().federation_key, west.key.public());
}

#[test]
fn a_join_entry_that_the_issuer_did_not_countersign_changes_nothing() {
    let (east, west, other) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("east"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, "west", "t");
    refused(&join(&mut state, "t", west.record(&other, 2)), "not signed");
    assert!(state.member("west").is_none());
}

#[test]
fn nobody_speaks_for_another_cluster_not_even_through_the_log() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, "west", "t");
    join(&mut state, "t", west.record(&east, 2));
    state.apply(west.says(&east, "forged", 9));
    assert!(regions(&state, "west").is_empty());
    state.apply(west.says(&west, "new", 2));
    state.apply(west.says(&west, "old", 1));
    assert_eq!(regions(&state, "west"), ["new"], "no statement goes back");
    state.apply(Cluster::new("north").says(&east, "stranger", 1));
    assert!(regions(&state, "north").is_empty());
}

#[test]
fn a_reinstalled_cluster_is_heard_again_at_once_and_its_old_key_is_not() {
    let (east, before, after) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("west"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, "west", "first");
    join(&mut state, "first", before.record(&east, 2));
    state.apply(before.says(&before, "before", 100));
    token_for(&mut state, "west", "second");
    refused(&join(&mut state, "second", after.record(&east, 2)), "raft id");
    assert_eq!(join(&mut state, "second", after.record(&east, 3)), Answer::Done);
    state.apply(after.says(&after, "after", 1));
    state.apply(before.says(&before, "before", 101));
    assert_eq!(regions(&state, "west"), ["after"]);
}

#[test]
fn only_operators_eject_and_who_is_ejected_is_silent() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, "west", "t");
    join(&mut state, "t", west.record(&east, 2));
    state.apply(west.says(&west, "west", 1));
    let eject = |cluster: &str, by: &str| Command::Eject { cluster: cluster.into(), by: by.into() };
    refused(&state.apply(eject("east", "west")).0, "no operator");
    assert_eq!(state.apply(eject("west", "east")).0, Answer::Done);
    state.apply(west.says(&west, "still here", 2));
    assert!(regions(&state, "west").is_empty());
}

#[test]
fn a_token_that_is_written_again_stays_used() {
    let (east, west, thief) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("west"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, "west", "t");
    assert_eq!(join(&mut state, "t", west.record(&east, 2)), Answer::Done);
    token_for(&mut state, "west", "t");
    refused(&join(&mut state, "t", thief.record(&east, 3)), "used already");
}

#[test]
fn a_member_that_is_no_operator_gives_nobody_the_name_of_another_and_makes_nobody_an_operator() {
    let (east, west, thief) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("east"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, "west", "t");
    let mut record = MemberRecord::decode(west.record(&east, 2).0.as_slice()).unwrap();
    record.operator = true;
    assert_eq!(join(&mut state, "t", Blob(record.encode_to_vec())), Answer::Done);
    assert!(!state.member("west").unwrap().operator, "the countersignature does not cover it");
    let (hash, issuer) = (token::hash(b"secret"), "west".to_owned());
    state.apply(Command::Token { id: "u".into(), cluster: "east".into(), hash, expires: u64::MAX, issuer });
    refused(&join(&mut state, "u", thief.record(&west, 3)), "only an operator's token");
    assert_eq!(state.member("east").unwrap().federation_key, east.key.public());
}
