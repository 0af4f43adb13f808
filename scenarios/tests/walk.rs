//! What a new user does in the first minutes, over real processes: calls cross clusters in every protocol, names
//! resolve, requests spread, a file is edited, a bad one is refused, every request is told of, strangers disturb nobody.
//!
//! One mesh for all of it; the stories are in `walk/`, a topic each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

#[path = "walk/configuration.rs"]
mod configuration;
#[path = "walk/ejection.rs"]
mod ejection;
#[path = "walk/protocols.rs"]
mod protocols;
#[path = "walk/spread.rs"]
mod spread;
#[path = "walk/strangers.rs"]
mod strangers;
mod support;
#[path = "walk/telemetry.rs"]
mod telemetry;

use std::{process::Command, time::Duration};

use isthmus_scenarios::admin;
use support::{Raised, binary, eventually, load::get, url};

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_user_walks_through_the_mesh() {
    let mesh = Raised::up(60).await;
    calls_cross_clusters(&mesh).await;
    names_resolve(&mesh).await;
    trace_names_every_hop(&mesh).await;
    spread::requests_reach_every_endpoint_of_another_cluster_alike(&mesh).await;
    protocols::every_protocol_crosses(&mesh).await;
    protocols::protocols_are_told_apart_where_nobody_declared_them(&mesh).await;
    configuration::an_edited_file_takes_effect_and_a_bad_one_is_refused_by_itself(&mesh).await;
    configuration::rules_work_across_clusters(&mesh).await;
    telemetry::both_sides_tell_of_every_request(&mesh).await;
    tokens_are_refused_with_the_reason(&mesh).await;
    strangers::strangers_disturb_nobody(&mesh).await;
    ejection::an_ejected_cluster_is_out(&mesh).await;
    mesh.mesh.supervisor.stop().await;
}

async fn calls_cross_clusters(mesh: &Raised) {
    for (service, path) in [("details", "/details/0"), ("reviews", "/reviews/0"), ("ratings", "/ratings/0")] {
        for cluster in ["us-east", "us-west", "eu-west"] {
            eventually(&format!("{service} answers in {cluster}"), PATIENCE, || async {
                let got = get(mesh.curl(cluster), &url(service, path)).await?;
                anyhow::ensure!(got.status == 200, "{got:?}");
                Ok(())
            })
            .await;
        }
    }
}

async fn names_resolve(mesh: &Raised) {
    let server = format!("@{}", mesh.cluster("us-east").addresses().control());
    let dig = |args: &[&str]| {
        let ran = Command::new("dig").args([&server, "-p", "15053", "+time=20", "+tries=1"]).args(args).output();
        String::from_utf8_lossy(&ran.expect("dig is installed").stdout).into_owned()
    };
    let service = "details.bookinfo.svc.clusterset.local";
    assert!(dig(&["+short", service]).starts_with("127.60."), "{}", dig(&[service]));
    assert!(dig(&["+short", "+tcp", service]).starts_with("127.60."));
    assert!(dig(&["productpage.bookinfo.svc.clusterset.local"]).contains("NXDOMAIN"), "not exported");
    assert!(dig(&["+short", "productpage.bookinfo.svc.cluster.local"]).starts_with("127.60."));
    let none = dig(&["AAAA", service]);
    assert!(none.contains("NOERROR") && none.contains("SOA"), "{none}");
    assert!(none.contains("EDNS: version: 0"), "dig's OPT record is answered by one: {none}");
    let all = dig(&["+short", "SRV", "echo.bookinfo.svc.clusterset.local"]);
    assert!(["9080", "9090", "9000"].iter().all(|port| all.contains(port)), "{all}");
    let one = dig(&["+short", "SRV", "_grpc._tcp.echo.bookinfo.svc.clusterset.local"]);
    assert_eq!(one.trim(), "0 100 9090 echo.bookinfo.svc.clusterset.local.");
}

async fn trace_names_every_hop(mesh: &Raised) {
    let trace = || {
        let ran = Command::new(binary())
            .args(["trace", "curl@us-east", "details.bookinfo/details/0", "--state-dir"])
            .arg(mesh.folder.path())
            .output()
            .expect("the binary runs");
        [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    // A mesh that is just raised has answered before the feed told how the clusters stand.
    let last = std::cell::RefCell::default();
    eventually("the sidecar knows how us-west stands", PATIENCE, || async {
        let [told, err] = trace();
        last.replace([told.clone(), err.clone()]);
        anyhow::ensure!(told.contains("cluster us-west 100 % (3 of 3 usable, alive)"), "{told}{err}");
        Ok(())
    })
    .await;
    let [told, err] = last.into_inner();
    let hop = |name: &str| {
        let found = told.lines().find(|line| line.starts_with(name));
        found.unwrap_or_else(|| panic!("no {name} in:\n{told}{err}"))
    };
    assert!(hop("sidecar").contains("spiffe://us-east.mesh.local/ns/bookinfo/sa/bookinfo-curl"), "{told}");
    assert!(hop("name").contains("details.bookinfo.svc.clusterset.local"), "{told}");
    assert!(hop("ladder").contains("cluster us-west 100 % (3 of 3 usable, alive)"), "{told}");
    assert!(hop("gateway").contains("gateway-us-east → gateway-us-west"), "{told}");
    assert!(hop("gateway").contains("spiffe://us-west.mesh.local/ns/isthmus-system/sa/gateway"), "{told}");
    assert!(hop("endpoint").contains("spiffe://us-west.mesh.local/ns/bookinfo/sa/bookinfo-details"), "{told}");
    assert!(hop("answer").contains("200 OK"), "{told}");
    for timed in ["name", "ladder", "gateway", "endpoint", "answer"] {
        let has_time = [" µs ", " ms ", " s "].iter().any(|unit| hop(timed).contains(unit));
        assert!(has_time, "{timed} has no time:\n{told}");
    }
}

async fn tokens_are_refused_with_the_reason(mesh: &Raised) {
    use serde_json::json;
    let member = mesh.member("us-east");
    let refused = |answer: anyhow::Result<serde_json::Value>| format!("{:#}", answer.expect_err("it must be refused"));
    let limit = PATIENCE;
    let made = admin::send(member, "/tokens", &json!({ "cluster": "ap-south", "ttl_seconds": 60 }), limit).await;
    let token = made.expect("a token is made")["token"].as_str().expect("it is text").to_owned();
    let join = |token: String| async move {
        admin::send(mesh.member("us-west"), "/join", &json!({ "token": token }), limit).await
    };
    assert!(refused(join("hello".into()).await).contains("no join token"));
    assert!(refused(join(token.chars().take(60).collect()).await).contains("cut or changed"));
    assert!(refused(join(token).await).contains("is of mesh"));
    let name = admin::send(member, "/tokens", &json!({ "cluster": "Not A Name", "ttl_seconds": 60 }), limit).await;
    assert!(refused(name).contains("not a cluster name"));
}
