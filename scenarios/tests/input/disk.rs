//! The disk of the whole cluster whose member leads takes nothing: its member ends with the reason and another one
//! leads, everything else goes on from memory and says what is not kept, and all of it recovers by itself.

use std::time::Duration;

use isthmus_scenarios::{admin, operator};

use crate::{
    ground::{Ground, PATIENCE},
    support::{eventually, load::get},
    tokens,
};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: NAME\n  namespace: bookinfo\nspec:\n  selector:\n    app: ratings\n  ports:\n    - name: http\n      port: 9080\n";

/// A new service in a file of the cluster's configuration, and until its sidecars know it.
async fn new_service(ground: &Ground, cluster: &str, name: &str) {
    let file = ground.raised.mesh.state.config(&ground.raised.cluster(cluster).name).join(format!("{name}.yaml"));
    std::fs::write(file, SERVICE.replace("NAME", name)).expect("the test's own disk is not full");
    let url = format!("http://{name}.bookinfo.svc.cluster.local:9080/ratings/0");
    eventually(&format!("{name} answers"), PATIENCE, || async {
        let got = get(ground.raised.curl(cluster), &url).await?;
        anyhow::ensure!(got.status == 200, "{got:?}");
        Ok(())
    })
    .await;
}

async fn said(ground: &Ground, cluster: &str, process: &str, words: &[&str]) {
    eventually(&format!("{process} of {cluster} says what is wrong"), PATIENCE, || async {
        let log = ground.log(cluster, process);
        let found = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
        anyhow::ensure!(found.is_some(), "{words:?} are in no line of {log}");
        println!("{process}: {}", found.unwrap_or_default());
        Ok(())
    })
    .await;
}

/// A workload that begins now gets its identity from the CA beside the full disk.
async fn its_ca_still_vouches(ground: &Ground, cluster: &str) {
    let plan = ground.raised.cluster(cluster);
    let mesh = &ground.raised.mesh.plan.mesh;
    let asked = isthmus_ca::enrol::Asked {
        trust_domain: plan.name.trust_domain(mesh),
        namespace: "bookinfo",
        service_account: "newcomer",
        workload: "newcomer",
        ttl: Duration::from_secs(600),
        control: &format!("{}:15012", plan.addresses().control()),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let enrolment = folder.path().join("enrolment.json");
    let minted = isthmus_ca::enrol::mint(&ground.folder(cluster, "control").join("ca"), &asked).expect("a token");
    minted.write(&enrolment).expect("the test's own disk is not full");
    let common = isthmus_runtime::config::Common {
        mesh: mesh.clone(),
        cluster: plan.name.clone(),
        locality: Default::default(),
        name: "newcomer".into(),
        address: plan.addresses().workload(99),
        state_dir: folder.path().join("state"),
        enrolment: Some(enrolment.into()),
        admin: None,
        log: None,
    };
    let drain = isthmus_runtime::drain::Drain::new();
    let enrolled = tokio::time::timeout(PATIENCE, isthmus_runtime::enrolment::enrol(&common, &drain)).await;
    assert_eq!(enrolled.expect("the CA answers").expect("it vouches").spiffe().service_account(), "newcomer");
    drain.trigger().close("the test has it");
}

/// Control and a sidecar that are started on the full disk read what they kept, and serve.
async fn what_begins_again_on_it_serves_all_the_same(ground: &Ground, cluster: &str) {
    ground.raised.kill(cluster, &["control", "curl.sidecar"]).await;
    ground.raised.start(cluster, &["control", "curl.sidecar"]);
    eventually("control answers, and its sidecars hear of it", PATIENCE, || async {
        let told = ground.process(cluster, "control").last_exit.unwrap_or_default();
        let all = admin::read(ground.raised.control(cluster), "/api/clusters").await;
        let all = all.map_err(|error| error.context(format!("control ended: {told}")))?;
        anyhow::ensure!(all.as_array().is_some_and(|all| all.len() >= 2), "{all}");
        Ok(())
    })
    .await;
    ground.answers(cluster, "details").await;
}

/// Nobody says the same thing again and again: the log may be on the disk that is full.
fn quietly(ground: &Ground, cluster: &str) {
    for process in ["control", "gateway", "curl.sidecar", "federation"] {
        let log = ground.log(cluster, process);
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for line in log.lines().filter(|line| line.contains("cannot be kept") || line.contains("cannot be written")) {
            *counts.entry(line.split_once(" ERROR ").map_or(line, |(_, said)| said)).or_default() += 1;
        }
        // Once by each of the two processes that were there, and once more where it was well in between.
        assert!(counts.values().all(|count| *count <= 3), "{process} of {cluster} is loud: {counts:#?}");
    }
}

/// A role whose standard error is on a full disk ends with its error, not with a panic.
fn nobody_panics_for_want_of_a_log() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut role = std::process::Command::new(crate::support::binary());
    let ended = role.args(["control", "--config", "/nowhere.yaml"]).stderr(full).status().expect("the binary runs");
    assert_eq!(ended.code(), Some(1));
}

pub async fn a_full_disk_costs_no_committed_write_and_no_request(ground: &Ground) {
    nobody_panics_for_want_of_a_log();
    let member = |cluster: &str| ground.raised.member(cluster);
    let leader = ground.leader().await;
    let other = if leader == "us-west" { "us-east" } else { "us-west" };
    // Where ratings are, the new service has somebody to answer.
    let full = if leader == "us-west" { "us-east".to_owned() } else { leader.clone() };
    println!("{leader} leads; the disk of {full} takes nothing from now on");
    let hour = Duration::from_secs(3600);
    let before = tokens::made(member(other), "ap-east", hour).await;
    ground.disk_takes(&full, false);

    new_service(ground, &full, "late-1").await;
    said(ground, &full, "control", &["cannot be kept on disk"]).await;
    said(ground, &full, "gateway", &["in force but not kept", "cannot write"]).await;
    said(ground, &full, "curl.sidecar", &["in force but not kept", "cannot write"]).await;
    said(ground, &full, "curl.sidecar", &["access log cannot be written"]).await;
    its_ca_still_vouches(ground, &full).await;
    what_begins_again_on_it_serves_all_the_same(ground, &full).await;
    // A write is taken by those whose disks are well.
    let during = tokens::made(member(other), "ap-west", hour).await;
    eventually("the member with the full disk ends with the reason", PATIENCE, || async {
        let told = ground.process(&full, "federation").last_exit.unwrap_or_default();
        anyhow::ensure!(told.contains("full") || told.contains("File too large"), "{told}");
        assert!(!told.contains("damaged"), "nothing is to be moved away for want of room: {told}");
        Ok(())
    })
    .await;
    println!("federation: {}", ground.process(&full, "federation").last_exit.unwrap_or_default());

    quietly(ground, &full);
    ground.disk_takes(&full, true);
    for file in ["control/sources.json", "gateway/feed/feed.json", "curl.sidecar/feed/feed.json"] {
        let path = ground.folder(&full, "x").with_file_name(file);
        eventually(&format!("{file} is written without being asked again"), PATIENCE, || async {
            let text = std::fs::read_to_string(&path)?;
            anyhow::ensure!(text.contains("late-1"), "the last good one is not there yet");
            Ok(())
        })
        .await;
    }
    new_service(ground, &full, "late-2").await;
    said(ground, &full, "curl.sidecar", &["the access log is written again", "lost="]).await;
    eventually("the member is back and has all of it", PATIENCE, || async {
        let (own, others) = (operator::standing(member(&full)).await?, operator::standing(member(other)).await?);
        anyhow::ensure!(own["applied"].as_u64() >= others["applied"].as_u64(), "{own}");
        anyhow::ensure!(own["leader"] == others["leader"] && own["quorum"] == true, "{own}");
        Ok(())
    })
    .await;
    for token in [before, during] {
        assert!(tokens::is_known(&token).await, "nothing committed is lost");
    }
    admin::read(ground.raised.control(&full), "/api/clusters").await.expect("control goes on");
}
