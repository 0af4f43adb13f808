//! Members that lie, restart, are ejected or come again.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use isthmus_core::statement::{Bundle, Card, ImportRules};
use isthmus_wire::{
    federation::{Gone, Snapshot},
    signing::FederationKey,
};
use prost::Message as _;

use super::*;

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
    let again = |on_disk| Heard::new("mesh.test".parse().unwrap(), "east".parse().unwrap(), Some(on_disk), &metrics());
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
