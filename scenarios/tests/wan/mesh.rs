//! A whole mesh over the bad network: real round trips are measured, a cut is seen, and healing it ends it.

use std::time::Duration;

use isthmus_scenarios::wan::regions;

use super::support::{Raised, eventually, load::get, url};

const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTERS: [&str; 3] = ["us-east", "us-west", "eu-west"];

/// What the gateways of a busy machine add to a round trip, microseconds.
const BUSY_US: f64 = 5_000.0;

/// Waits until `from` tells the real round trip to `to`, within a tenth and what this machine adds.
async fn until_near(mesh: &Raised, from: &str, to: &str) {
    let real = regions::round_trip(from, to).as_micros() as f64;
    eventually(&format!("{from} knows how far {to} is"), PATIENCE, || async {
        let view = mesh.view(from, to).await?;
        let told = view["rtt_us"].as_f64().unwrap_or_default();
        anyhow::ensure!((told - real).abs() <= real / 10.0 + BUSY_US, "{told} of {real} microseconds: {view}");
        println!("{from} to {to}: {:.1} ms told, {:.0} ms real", told / 1000.0, real / 1000.0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_round_trips_are_told_and_a_cut_pair_is_cut_off_until_it_heals() {
    let mesh = Raised::up_wan(170).await;
    for from in CLUSTERS {
        for to in CLUSTERS.iter().filter(|to| **to != from) {
            until_near(&mesh, from, to).await;
        }
    }
    let got = get(mesh.curl("us-east"), &url("details", "/details/0")).await.expect("details answer");
    assert_eq!((got.status, got.cluster.as_str()), (200, "us-west"), "{got:?}");
    let least = regions::round_trip("us-east", "us-west");
    assert!(got.took >= least, "a request that crosses takes a round trip: {:?}", got.took);
    mesh.cut("us-east", "us-west");
    mesh.wait_standing("us-east", "us-west", "cutOff", PATIENCE).await;
    mesh.wait_standing("us-west", "us-east", "cutOff", PATIENCE).await;
    for (from, to) in [("eu-west", "us-east"), ("eu-west", "us-west"), ("us-east", "eu-west")] {
        mesh.wait_standing(from, to, "alive", PATIENCE).await;
    }
    mesh.heal();
    for (from, to) in [("us-east", "us-west"), ("us-west", "us-east")] {
        eventually(&format!("{from} returns to {to}"), PATIENCE, || async {
            let view = mesh.view(from, to).await?;
            anyhow::ensure!(["returning", "alive"].contains(&view["standing"].as_str().unwrap_or_default()), "{view}");
            anyhow::ensure!(view["share"].as_f64() > Some(0.0), "{view}");
            Ok(())
        })
        .await;
    }
    mesh.mesh.supervisor.stop().await;
}
