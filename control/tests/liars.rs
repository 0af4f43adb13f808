//! The own member is in the hands of somebody who lies: what it tells control of other clusters counts only as far as
//! those clusters signed it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use isthmus_core::statement::{Bundle, Card, Content};
use isthmus_runtime::drain::Drain;
use isthmus_wire::{
    federation::{MemberRecord, SignedStatement},
    signing::FederationKey,
};
use serde_json::Value;
use support::{Ground, member::Fake, until};

fn key() -> FederationKey {
    FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap()
}

fn record(cluster: &str, key: &FederationKey) -> MemberRecord {
    MemberRecord {
        cluster: cluster.into(),
        federation_key: key.public(),
        trust_domain: format!("{cluster}.mesh.test"),
        addresses: vec!["127.104.3.1:15443".into()],
        ..MemberRecord::default()
    }
}

fn said(cluster: &str, by: &FederationKey, number: u64, content: &Content) -> SignedStatement {
    let mut said = SignedStatement {
        mesh: "mesh.test".into(),
        cluster: cluster.into(),
        key: content.key(),
        epoch: 1,
        number,
        content: serde_json::to_vec(content).unwrap(),
        signature: vec![],
    };
    by.sign(&mut said);
    said
}

fn card(region: &str) -> Content {
    Content::Card(Card { region: region.into(), ..Card::default() })
}

fn region(rows: &[Value]) -> String {
    let row = rows.iter().find(|row| row["name"] == "us-west");
    row.map_or_else(String::new, |row| row["region"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_member_says_for_another_cluster_counts_only_when_that_cluster_signed_it() {
    let ground = Ground::new(104);
    let (fake, west, thief) = (Fake::default(), key(), key());
    fake.members(vec![record("us-west", &west), record("us-east", &key()), record("evil", &thief)]);
    fake.say(said("us-west", &west, 1, &card("first")));
    let control = ground.start();
    let member = ground.identity("isthmus-system", "federation", "member").await;
    fake.serve(&member, ground.member(), Drain::new());
    until("the true word", || async { region(&ground.rows("/api/clusters").await) == "first" }).await;

    // Signed by another member, signed and then changed, of another mesh, by nobody at all, and not even a statement.
    let true_one = said("us-west", &west, 2, &card("true"));
    let bundle = Bundle { trust_domain: "us-west.mesh.test".parse().unwrap(), roots: vec!["AAAA".into()] };
    let lies = [
        said("us-west", &thief, 9, &card("forged")),
        said("us-west", &thief, 9, &Content::Epoch { keys: vec![] }),
        SignedStatement { content: serde_json::to_vec(&card("changed")).unwrap(), ..true_one.clone() },
        SignedStatement { number: 99, ..true_one.clone() },
        SignedStatement { mesh: "other.test".into(), ..true_one.clone() },
        SignedStatement { signature: vec![], ..true_one.clone() },
        said("evil", &thief, 1, &Content::Bundle(bundle)),
        SignedStatement { content: vec![0xff; 100], ..true_one },
        SignedStatement::default(),
    ];
    for lie in lies {
        fake.lease(lie.clone());
        fake.say(lie);
    }
    // What comes after all the lies shows that they have been read.
    fake.say(said("us-west", &west, 3, &card("last")));
    until("the last true word", || async { region(&ground.rows("/api/clusters").await) == "last" }).await;
    let metrics = ground.metrics().await;
    let forged = metrics.lines().find(|line| line.contains("outcome=\"forged\"")).unwrap_or_default();
    assert!(forged.rsplit(' ').next().is_some_and(|count| count.parse::<f64>().unwrap_or(0.0) >= 8.0), "{metrics}");
    control.stop().await;
}
