//! What the log makes of commands, whoever proposed them: only what its own cluster signed counts, and a token once.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails says so by a panic")]

use isthmus_core::statement::{Card, Content};
use isthmus_federation::{
    join,
    state::{Answer, Blob, Command, Deed, State},
    token,
};
use isthmus_wire::{
    federation::{JoinRequest, MemberRecord, SignedStatement},
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

    fn does(&self, deed: &Deed) -> Command {
        deed.signed("mesh", self.name, &self.key)
    }

    fn ejects(&self, other: &Self) -> Command {
        self.does(&Deed::Eject { cluster: other.name.into(), key: Blob(other.key.public()) })
    }

    fn names(&self, clusters: &[&str], generation: u64) -> Command {
        let clusters = clusters.iter().map(ToString::to_string).collect();
        self.does(&Deed::Operators { clusters, generation })
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

fn token(id: &str, cluster: &str) -> Deed {
    Deed::Token { id: id.into(), cluster: cluster.into(), hash: token::hash(b"secret"), expires: u64::MAX }
}

fn token_for(state: &mut State, issuer: &Cluster, cluster: &str, id: &str) {
    assert_eq!(state.apply(issuer.does(&token(id, cluster))).0, Answer::Done);
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
    token_for(&mut state, &east, "west", "t");
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
    token_for(&mut state, &east, "west", "t");
    refused(&join(&mut state, "t", west.record(&other, 2)), "not signed");
    assert!(state.member("west").is_none());
}

#[test]
fn nobody_speaks_for_another_cluster_not_even_through_the_log() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, &east, "west", "t");
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
    token_for(&mut state, &east, "west", "first");
    join(&mut state, "first", before.record(&east, 2));
    state.apply(before.says(&before, "before", 100));
    token_for(&mut state, &east, "west", "second");
    refused(&join(&mut state, "second", after.record(&east, 2)), "raft id");
    assert_eq!(join(&mut state, "second", after.record(&east, 3)), Answer::Done);
    state.apply(after.says(&after, "after", 1));
    state.apply(before.says(&before, "before", 101));
    assert_eq!(regions(&state, "west"), ["after"]);
}

/// East, which bootstrapped the mesh, and west, which said something.
fn two(east: &Cluster, west: &Cluster) -> State {
    let mut state = bootstrapped(east);
    token_for(&mut state, east, "west", "t");
    assert_eq!(join(&mut state, "t", west.record(east, 2)), Answer::Done);
    state.apply(west.says(west, "west", 1));
    state
}

#[test]
fn only_operators_eject_and_who_is_ejected_is_silent_and_its_key_never_comes_back() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = two(&east, &west);
    refused(&state.apply(west.ejects(&east)).0, "no operator");
    refused(&state.apply(east.ejects(&east)).0, "last operator");
    assert_eq!(state.apply(east.ejects(&west)).0, Answer::Done);
    state.apply(west.says(&west, "still here", 2));
    assert!(regions(&state, "west").is_empty());
    token_for(&mut state, &east, "west", "again");
    refused(&join(&mut state, "again", west.record(&east, 3)), "was ejected");
    let anew = Cluster::new("west");
    assert_eq!(join(&mut state, "again", anew.record(&east, 3)), Answer::Done);
    refused(&state.apply(east.ejects(&west)).0, "another key");
    assert!(!state.member("west").unwrap().ejected, "an old ejection played again means nobody");
}

#[test]
fn what_is_done_in_anothers_name_or_played_again_changes_nothing() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = two(&east, &west);
    let forged = |deed: Deed| deed.signed("mesh", "east", &west.key);
    for deed in [
        token("forged", "north"),
        Deed::Eject { cluster: "east".into(), key: Blob(east.key.public()) },
        Deed::Operators { clusters: vec!["west".into()], generation: 1 },
    ] {
        refused(&state.apply(forged(deed)).0, "not signed");
    }
    refused(&state.apply(token("t", "west").signed("other", "east", &east.key)).0, "mesh");
    let first = east.names(&["east", "west"], 1);
    assert_eq!(state.apply(first.clone()).0, Answer::Done);
    assert_eq!(state.apply(first.clone()).0, Answer::Done, "a lost reply");
    assert_eq!(state.apply(east.names(&["east"], 2)).0, Answer::Done);
    refused(&state.apply(first).0, "meanwhile");
    assert!(!state.member("west").unwrap().operator);
    assert_eq!(state.apply(east.does(&token("t", "west"))).0, Answer::Done, "a token written again");
    let thief = Cluster::new("west");
    refused(&join(&mut state, "t", thief.record(&east, 3)), "used already");
}

#[test]
fn who_issues_tokens_cannot_put_a_key_or_roots_of_its_own_in_the_place_of_another_cluster() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = two(&east, &west);
    token_for(&mut state, &west, "east", "coup");
    let usurper = Cluster::new("east");
    refused(&join(&mut state, "coup", usurper.record(&west, 3)), "no operator");
    refused(&join(&mut state, "coup", east.record(&west, 3)), "no operator");
    assert_eq!(state.member("east").unwrap().federation_key, east.key.public());
}

#[test]
fn a_cluster_that_comes_back_with_its_key_gets_a_raft_id_of_its_own() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = two(&east, &west);
    token_for(&mut state, &east, "west", "again");
    assert_eq!(join(&mut state, "again", west.record(&east, 3)), Answer::Done);
    assert_eq!(state.member("west").unwrap().raft_id, 3);
    assert_eq!(regions(&state, "west"), ["west"], "what it signed still counts");
}

/// A state as it is sent, changed by who sends it.
fn sent(state: &State, change: impl FnOnce(&mut serde_json::Value)) -> Result<State, String> {
    let mut json = serde_json::to_value(state).unwrap();
    change(&mut json);
    serde_json::from_value(json).map_err(|error| error.to_string())
}

#[test]
fn a_snapshot_holds_only_what_the_log_would_have_taken() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = two(&east, &west);
    let gone = state.clone();
    state.apply(west.says(&west, "newer", 2));
    assert_eq!(sent(&state, |_| {}).unwrap(), state, "what is honest comes through as it is");
    let Command::Statements { statements } = west.says(&east, "forged", 9) else { panic!() };
    let forged = serde_json::to_value(&statements[0]).unwrap();
    let statement = sent(&state, |json| json["statements"][0] = forged);
    assert!(statement.unwrap_err().contains("not signed by its cluster"));
    let coup = serde_json::to_value(
        Deed::Eject { cluster: "east".into(), key: Blob(east.key.public()) }.signed("mesh", "east", &west.key),
    );
    let deed = sent(&state, |json| json["deeds"].as_array_mut().unwrap().push(coup.unwrap()));
    assert!(deed.unwrap_err().contains("not signed"));
    assert!(sent(&state, |json| json["deeds"].as_array_mut().unwrap().swap(0, 1)).is_err(), "order counts");
    assert!(gone.follows(&state).unwrap_err().contains("goes back"), "a statement may not be withheld");
    assert_eq!(state.follows(&gone), Ok(()));
}

#[test]
fn a_history_that_leaves_out_an_ejection_or_begins_otherwise_does_not_follow() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let before = two(&east, &west);
    let mut ejected = before.clone();
    assert_eq!(ejected.apply(east.ejects(&west)).0, Answer::Done);
    assert_eq!(ejected.follows(&before), Ok(()));
    assert!(before.follows(&ejected).unwrap_err().contains("changes of the membership"));
    let elsewhere = bootstrapped(&Cluster::new("east"));
    assert!(elsewhere.agrees_with(before.deeds()).unwrap_err().contains("change 1"));
}

#[test]
fn a_join_entry_makes_nobody_an_operator() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut state = bootstrapped(&east);
    token_for(&mut state, &east, "west", "t");
    let mut record = MemberRecord::decode(west.record(&east, 2).0.as_slice()).unwrap();
    record.operator = true;
    assert_eq!(join(&mut state, "t", Blob(record.encode_to_vec())), Answer::Done);
    assert!(!state.member("west").unwrap().operator, "the countersignature does not cover it");
}

/// A certificate of `key`, under a name of its own.
fn certificate(key: &rcgen::KeyPair, name: &str) -> Vec<u8> {
    rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(key).unwrap().der().to_vec()
}

#[test]
fn a_cluster_that_signs_with_another_ones_key_does_not_join() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let (one, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut state = State::default();
    let mut record = MemberRecord::decode(east.record(&east, 1).0.as_slice()).unwrap();
    record.roots = vec![certificate(&one, "east")];
    east.key.countersign(&mut record);
    state.apply(Command::Bootstrap { mesh: "mesh".into(), record: Blob(record.encode_to_vec()) });
    let hash = token::hash(b"secret");
    let token = Deed::Token { id: "t".into(), cluster: "west".into(), hash, expires: 100 };
    assert_eq!(state.apply(east.does(&token)).0, Answer::Done);
    let asks = |key: &rcgen::KeyPair| {
        let mut request = JoinRequest {
            mesh: "mesh".into(),
            cluster: "west".into(),
            token_id: "t".into(),
            secret: b"secret".to_vec(),
            federation_key: west.key.public(),
            roots: vec![certificate(key, "west")],
            trust_domain: "west.mesh".into(),
            ..JoinRequest::default()
        };
        west.key.prove(&mut request);
        join::check(&state, "east", "mesh", &request, 1)
    };
    let refused = asks(&one).unwrap_err().to_string();
    assert!(refused.contains("west signs with the same certificate authority as east"), "{refused}");
    assert!(refused.contains("an intermediate of its own"), "{refused}");
    asks(&other).unwrap();
}
