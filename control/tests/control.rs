//! One control on loopback with everything around it: real TLS, real feed, real files; only the member is played.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use isthmus_core::{
    model::{Resource, Standing},
    statement::{Content, Lease},
};
use isthmus_runtime::{
    drain::Drain,
    feed::{PathReport, Report, Role},
};
use isthmus_wire::{
    federation::{MemberRecord, SignedStatement},
    signing::FederationKey,
};
use support::{Ground, member::Fake, registration, until};

/// Another cluster: its key and what it signs.
struct West {
    key: FederationKey,
    number: u64,
}

impl West {
    fn new() -> Self {
        Self { key: FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap(), number: 0 }
    }

    fn records(&self) -> Vec<MemberRecord> {
        let record = |cluster: &str, key: Vec<u8>| MemberRecord {
            cluster: cluster.into(),
            federation_key: key,
            trust_domain: format!("{cluster}.mesh.test"),
            addresses: vec!["127.9.3.1:15443".into()],
            ..MemberRecord::default()
        };
        vec![record("us-west", self.key.public()), record("us-east", vec![0; 32])]
    }

    fn says(&mut self, content: &Content) -> SignedStatement {
        self.number += 1;
        let mut said = SignedStatement {
            mesh: "mesh.test".into(),
            cluster: "us-west".into(),
            key: content.key(),
            epoch: 1,
            number: self.number,
            content: serde_json::to_vec(content).unwrap(),
            signature: vec![],
        };
        self.key.sign(&mut said);
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_of_one_namespace_cannot_register_for_another() {
    let ground = Ground::new(61);
    let control = ground.start();
    let thief = ground.identity("shop", "thief", "thief-1").await;
    let client = ground.subscribe(&thief, Role::Proxy, "thief-1");
    client.reporter.register(registration("thief-1", "bank", "vault", "127.61.11.1:15006"));
    until("the refusal is shown", || async {
        let rows = ground.rows("/api/proxies").await;
        rows.iter().any(|row| {
            row["registration_refused"].as_str().is_some_and(|why| why.contains("only for its own namespace \"shop\""))
        })
    })
    .await;
    assert!(ground.rows("/api/endpoints").await.is_empty());
    client.leave();
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_speaks_to_its_member_and_takes_a_higher_epoch_after_a_restart() {
    let ground = Ground::new(62);
    let fake = Fake::default();
    let control = ground.start();
    let member = ground.identity("isthmus-system", "federation", "member").await;
    fake.serve(&member, ground.member(), Drain::new());
    until("the card and a lease", || async { fake.last("card").is_some() && fake.last("lease").is_some() }).await;
    let (first, _) = fake.last("card").unwrap();
    assert!(matches!(fake.last("epoch"), Some((_, Content::Epoch { keys })) if keys.contains(&"card".to_owned())));
    until("a lease that knows the member", || async {
        matches!(fake.last("lease"), Some((_, Content::Lease(Lease { member: true, .. }))))
    })
    .await;
    control.stop().await;
    let control = ground.start();
    until("the next epoch", || async {
        fake.last("card").is_some_and(|(version, _)| version.epoch == first.epoch + 1)
    })
    .await;
    control.stop().await;
    // The whole disk is lost: the member tells it of its own past.
    std::fs::remove_file(ground.path("state-control").join("epoch.json")).unwrap();
    let control = ground.start();
    until("an epoch above all", || async {
        fake.last("card").is_some_and(|(version, _)| version.epoch == first.epoch + 2)
    })
    .await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_path_moves_the_share_of_a_cluster_and_its_lease_tells_dead_from_cut_off() {
    let ground = Ground::new(63);
    let (fake, mut west) = (Fake::default(), West::new());
    fake.members(west.records());
    let control = ground.start();
    let member = ground.identity("isthmus-system", "federation", "member").await;
    fake.serve(&member, ground.member(), Drain::new());
    let gateway = ground.identity("isthmus-system", "gateway", "gw").await;
    let mut gateway = ground.subscribe(&gateway, Role::Gateway, "gw");
    let standing = |client: &support::Client| match client.known.get("cluster/us-west") {
        Some(Resource::Cluster(cluster)) => Some((cluster.standing, cluster.share)),
        _ => None,
    };
    gateway.until("the other cluster", |client| standing(client).is_some()).await;
    gateway.until("the own lease", |client| client.known.contains_key("lease")).await;
    // Paths are reported every 100 ms; leases come by the tunnel as long as `lease` holds.
    let report = |client: &support::Client, state: &str, lease: Option<SignedStatement>| {
        let path = PathReport { cluster: "us-west".into(), state: state.into(), rtt_us: 900, ..PathReport::default() };
        let leases = lease.iter().map(prost::Message::encode_to_vec).collect();
        client.reporter.report(Report { paths: vec![path], leases, ..Report::default() });
    };
    for (state, wanted) in [("up", Standing::Alive), ("lost", Standing::CutOff)] {
        let deadline = tokio::time::Instant::now() + support::LIMIT;
        while standing(&gateway).map(|(standing, _)| standing) != Some(wanted) {
            assert!(tokio::time::Instant::now() < deadline, "{wanted:?} never came: {:?}", standing(&gateway));
            let lease = west.says(&Content::Lease(Lease { member: true, ..Lease::default() }));
            report(&gateway, state, Some(lease));
            let _ = tokio::time::timeout(Duration::from_millis(100), take(&mut gateway)).await;
        }
    }
    assert_eq!(standing(&gateway), Some((Standing::CutOff, 0.0)));
    let history = ground.rows("/api/history").await;
    let left = |row: &serde_json::Value| row["of"] == "us-west" && row["what"].as_str().unwrap().ends_with("→ cutOff");
    assert!(history.iter().any(left), "{history:?}");
    let rows = ground.rows("/api/clusters").await;
    assert!(rows.iter().any(|row| row["name"] == "us-west" && row["lease_by"] == "tunnel"), "{rows:?}");
    gateway.leave();
    control.stop().await;
}

const CART: &str =
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: cart\n  namespace: shop\nspec:\n  ports:\n    - port: 80\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_control_that_lost_all_and_finds_no_member_leaves_others_as_its_clients_know_them() {
    let ground = Ground::new(64);
    let (fake, west) = (Fake::default(), West::new());
    fake.members(west.records());
    let control = ground.start();
    let (stop, away) = Drain::pair();
    let member = ground.identity("isthmus-system", "federation", "member").await;
    let served = fake.serve(&member, ground.member(), away);
    let gateway = ground.identity("isthmus-system", "gateway", "gw").await;
    let mut gateway = ground.subscribe(&gateway, Role::Gateway, "gw");
    let knows_west = |client: &support::Client| {
        let Some(Resource::Trust(trust)) = client.known.get("trust") else { return false };
        trust.roots.contains_key(&"us-west.mesh.test".parse().unwrap()) && client.known.contains_key("cluster/us-west")
    };
    gateway.until("the other cluster", knows_west).await;
    control.stop().await;
    stop.close("the test says so");
    support::within(served).await.unwrap();
    for file in std::fs::read_dir(ground.path("state-control")).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            std::fs::remove_file(file).unwrap();
        }
    }

    ground.write("cart.yaml", CART);
    let control = ground.start();
    gateway.until("what is new in the own cluster", |client| client.known.contains_key("service/shop/cart")).await;
    assert!(knows_west(&gateway), "{:#?}", gateway.known);
    std::fs::remove_file(ground.path("config").join("cart.yaml")).unwrap();
    gateway.until("what is gone in the own cluster", |client| !client.known.contains_key("service/shop/cart")).await;
    assert!(knows_west(&gateway), "{:#?}", gateway.known);

    // The member comes back and knows better.
    fake.members(west.records().split_off(1));
    fake.serve(&member, ground.member(), Drain::new());
    gateway.until("that the other cluster is no more", |client| !client.known.contains_key("cluster/us-west")).await;
    gateway.leave();
    control.stop().await;
}

async fn take(client: &mut support::Client) {
    let update = client.next().await;
    for (key, _, resource) in update.upserts {
        client.known.insert(key, resource);
    }
    update.ack.accept();
}
