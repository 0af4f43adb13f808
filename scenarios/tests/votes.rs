//! Who votes in a mesh of two clusters: one of them, which can be chosen; or both and a witness, and then none of the
//! three is missed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

use std::{net::SocketAddr, time::Duration};

use isthmus_scenarios::{operator, plan::bookinfo};
use serde_json::Value;
use support::{Raised, eventually, load::get, url};

const PATIENCE: Duration = Duration::from_secs(120);
const HOUR: Duration = Duration::from_secs(3600);

async fn until_these_vote(member: SocketAddr, wanted: &[&str]) {
    eventually(&format!("{wanted:?} vote"), PATIENCE, || async {
        let standing = operator::standing(member).await?;
        let mut voters: Vec<_> =
            standing["voters"].as_array().into_iter().flatten().filter_map(|v| v.as_str()).collect();
        voters.sort_unstable();
        // Until the change is done a majority of those before it is needed too.
        let settled = standing["quorum"] == true && standing["changing"] == false;
        anyhow::ensure!(voters == wanted && settled, "{standing}");
        Ok(())
    })
    .await;
}

async fn until_out(member: SocketAddr, cluster: &str) {
    eventually(&format!("{cluster} is out"), PATIENCE, || async {
        let standing = operator::standing(member).await?;
        let members = standing["members"].as_array();
        let out = |row: &&Value| row["cluster"] == cluster && row["ejected"] == true;
        anyhow::ensure!(members.into_iter().flatten().any(|row| out(&row)), "{standing}");
        Ok(())
    })
    .await;
}

/// The witness is out for us-east at once, over a restart of its member too, and for us-west when there is a quorum.
async fn eject_without_a_quorum(mesh: &Raised, east: SocketAddr, west: SocketAddr) {
    for cluster in ["us-west", "witness"] {
        mesh.kill(cluster, &["federation"]).await;
    }
    let done = operator::eject(east, "witness").await.expect("us-east is an operator");
    assert!(done["local"] == true && done["why"].as_str().unwrap().contains("no quorum"), "{done}");
    until_out(east, "witness").await;
    mesh.kill("us-east", &["federation"]).await;
    mesh.start("us-east", &["federation"]);
    until_out(east, "witness").await;
    mesh.start("us-west", &["federation"]);
    until_out(west, "witness").await;
    mesh.start("witness", &["federation"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vote_of_two_clusters_moves_and_with_a_witness_none_of_three_is_missed() {
    let plan = bookinfo::plan(2, 150).expect("the demo's plan");
    let mesh = Raised::up_as(bookinfo::with_witness(plan).expect("a name")).await;
    let [east, west] = ["us-east", "us-west"].map(|cluster| mesh.member(cluster));
    for member in [east, west] {
        until_these_vote(member, &["us-east", "us-west", "witness"]).await;
    }
    let refused = operator::move_vote(east, "us-west").await.expect_err("three vote");
    assert!(format!("{refused:#}").contains("3 members vote"), "{refused:#}");
    mesh.kill("us-east", &["federation"]).await;
    eventually("two of three take a write", PATIENCE, || async {
        operator::create_token(west, "ap-south", HOUR).await.map(drop)
    })
    .await;
    mesh.start("us-east", &["federation"]);
    until_these_vote(east, &["us-east", "us-west", "witness"]).await;
    // Only us-east, which bootstrapped the mesh, may put one out; without the witness one alone votes.
    eject_without_a_quorum(&mesh, east, west).await;
    eventually("one votes", PATIENCE, || async {
        let standing = operator::standing(east).await?;
        anyhow::ensure!(standing["voters"].as_array().is_some_and(|voters| voters.len() == 1), "{standing}");
        Ok(())
    })
    .await;
    let holder = operator::standing(east).await.unwrap()["voters"][0].as_str().unwrap().to_owned();
    let other = if holder == "us-east" { "us-west" } else { "us-east" };
    // Who does not vote learns later who does.
    for member in [east, west] {
        until_these_vote(member, &[&holder]).await;
    }
    let refused = operator::move_vote(mesh.member(other), other).await.expect_err("it has no vote to give");
    assert!(format!("{refused:#}").contains(&format!("{holder} has the vote")), "{refused:#}");
    eventually("the vote moves", PATIENCE, || async {
        operator::move_vote(mesh.member(&holder), other).await.map(drop)
    })
    .await;
    until_these_vote(mesh.member(other), &[other]).await;
    mesh.kill(&holder, &["federation"]).await;
    // Tokens are made where the mesh was joined: the one that votes needs nobody else.
    // It may have to be elected first.
    eventually("it votes alone", PATIENCE, || async {
        operator::create_token(mesh.member(other), "ap-north", HOUR).await.map(drop)
    })
    .await;
    let got = get(mesh.curl("us-east"), &url("details", "/details/0")).await.expect("details answer");
    assert_eq!(got.status, 200, "{got:?}");
    mesh.mesh.supervisor.stop().await;
}
