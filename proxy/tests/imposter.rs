//! A workload that answers for a service without an identity of it: nothing is sent to it, the reason is told with
//! both names, and the request goes elsewhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

mod support;

use std::net::SocketAddr;

use support::{Cluster, PORT, endpoint, eventually, gateway::Gateway, group, http, picture};

const URL: &str = "http://details.bookinfo.svc.clusterset.local:9080/x";

/// A sidecar of west, its application beside it, that takes itself for an endpoint of `details`.
async fn far(
    west: &Cluster,
    east: &Cluster,
    name: &'static str,
    account: &str,
    place: u8,
) -> (support::Sidecar, SocketAddr) {
    let own = endpoint(west, name, account, place);
    let inbound = own.address;
    let sidecar = west.sidecar(name, account, place, picture(west, &[east], vec![own], vec![]));
    http::application(sidecar.port(PORT), name).await;
    eventually("the far sidecar listens", || async {
        tokio::net::TcpStream::connect(inbound).await.map_err(|error| error.to_string())
    })
    .await;
    (sidecar, inbound)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imposter_in_another_cluster_gets_nothing_and_the_honest_one_beside_it_answers() {
    let (east, west) = (Cluster::new("east", 90), Cluster::new("west", 91));
    let (_imposter, to_imposter) = far(&west, &east, "imposter-1", "ratings", 1).await;
    let (_honest, to_honest) = far(&west, &east, "honest-1", "details", 2).await;
    let gateway =
        Gateway::start(east.gateway(), vec![("west", vec![("imposter-1", to_imposter), ("honest-1", to_honest)])])
            .await;
    let groups = vec![(&west, group(&west, "details", 2))];
    let client = east.sidecar("curl", "curl", 1, picture(&east, &[&west], vec![], groups));
    let explicit = client.port(15080);
    let first = eventually("a first answer", || http::ok(explicit, URL)).await;
    assert_eq!(first, "honest-1", "the very first request that is answered at all");
    for _ in 0..20 {
        assert_eq!(http::ok(explicit, URL).await.expect("no request fails"), "honest-1");
    }
    let tried: Vec<_> = gateway.headers.lock().unwrap().iter().map(|header| header.avoid.clone()).collect();
    let blind = tried.iter().filter(|avoid| !avoid.iter().any(|id| id == "imposter-1")).count();
    assert!(blind <= 4, "once known it is avoided, and not tried again and again: {tried:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_are_only_imposters_the_person_who_asks_reads_who_was_expected_and_who_came() {
    let (east, west) = (Cluster::new("east", 92), Cluster::new("west", 93));
    let (imposter, to_imposter) = far(&west, &east, "imposter-1", "ratings", 1).await;
    let _gateway = Gateway::start(east.gateway(), vec![("west", vec![("imposter-1", to_imposter)])]).await;
    let groups = vec![(&west, group(&west, "details", 1))];
    let client = east.sidecar("curl", "curl", 1, picture(&east, &[&west], vec![], groups));
    let (status, told) = eventually("a refusal with its reason", || async {
        let (status, body) = http::get(client.port(15080), URL).await?;
        if body.contains("spiffe://") { Ok((status, body)) } else { Err(format!("{status}: {body}")) }
    })
    .await;
    println!("told: {told}");
    assert!(status.contains(" 503"), "{status}");
    assert!(told.contains("imposter-1"), "{told}");
    assert!(told.contains("spiffe://west.mesh.test/ns/bookinfo/sa/ratings"), "who came: {told}");
    assert!(told.contains("spiffe://west.mesh.test/ns/bookinfo/sa/details"), "who was expected: {told}");
    assert!(!told.contains("OtherError"), "in words, not as a program prints it: {told}");
    let metrics = imposter.metrics().await;
    let seen = metrics.lines().any(|line| line.starts_with("istio_requests_total{"));
    assert!(!seen, "no request reached it: {metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imposter_in_another_cluster_does_not_keep_a_third_cluster_from_answering() {
    let (east, west, north) = (Cluster::new("east", 94), Cluster::new("west", 95), Cluster::new("north", 96));
    let (_imposter, to_imposter) = far(&west, &east, "imposter-1", "ratings", 1).await;
    let (_honest, to_honest) = far(&north, &east, "honest-1", "details", 1).await;
    let far = vec![("west", vec![("imposter-1", to_imposter)]), ("north", vec![("honest-1", to_honest)])];
    let _gateway = Gateway::start(east.gateway(), far).await;
    let groups = vec![(&west, group(&west, "details", 1)), (&north, group(&north, "details", 1))];
    let client = east.sidecar("curl", "curl", 1, picture(&east, &[&west, &north], vec![], groups));
    eventually("a first answer", || http::ok(client.port(15080), URL)).await;
    for _ in 0..20 {
        assert_eq!(http::ok(client.port(15080), URL).await.expect("no request fails"), "honest-1");
    }
}

/// A root that signs a name of another cluster's domain: the sidecar that shows such a leaf is none of that cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_under_a_wrong_root_gets_nothing_though_its_name_is_right() {
    let (east, west) = (Cluster::new("east", 97), Cluster::new("west", 98));
    // Another "west", of another root: a reinstalled cluster, or a thief.
    let other = Cluster::new("west", 99);
    let (_imposter, to_imposter) = far(&other, &east, "imposter-1", "details", 1).await;
    let _gateway = Gateway::start(east.gateway(), vec![("west", vec![("imposter-1", to_imposter)])]).await;
    let groups = vec![(&west, group(&west, "details", 1))];
    let client = east.sidecar("curl", "curl", 1, picture(&east, &[&west], vec![], groups));
    let told = eventually("a refusal with its reason", || async {
        let (status, body) = http::get(client.port(15080), URL).await?;
        if body.contains("root") { Ok(body) } else { Err(format!("{status}: {body}")) }
    })
    .await;
    assert!(told.contains("signed by no root of its own trust domain west.mesh.test"), "{told}");
}
