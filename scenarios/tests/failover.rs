//! A killed cluster costs no request, and what is not dead is not left: part 7 of the walking mesh, over real processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

use std::time::Duration;

use isthmus_core::failover::selector::RELEASE;
use isthmus_scenarios::admin;
use serde_json::json;
use support::{
    Raised, eventually,
    load::{Load, Sample, Target, count_by, get, passed_by, slowest},
    url,
};

/// For whatever must come about sooner or later.
const PATIENCE: Duration = Duration::from_secs(90);

/// Requests a second: an unoptimised build of every hop leaves two cores no room for more.
const RATE: u32 = if cfg!(debug_assertions) { 100 } else { 500 };

/// What the slowest request may take, beyond what the control suffered. Without optimisation every handshake and hop
/// of the move costs some ten times as much.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });

/// Ratings from us-west, which has none, and beside it a local service as the control of the machine itself.
struct Both {
    ratings: Load,
    control: Load,
    /// Since when they ran: what it takes to begin is no part of a story.
    ran: Duration,
}

impl Both {
    async fn start(mesh: &Raised) -> Self {
        let to = |service: &str, path: &str, rate| {
            Load::start(Target { proxy: mesh.curl("us-west"), url: url(service, path), rate })
        };
        let (ratings, control) = (to("ratings", "/ratings/0", RATE), to("details", "/details/0", RATE / 10));
        until_load_ran(&ratings, RATE as usize).await;
        Self { ran: ratings.now(), ratings, control }
    }

    /// No request failed, and none took a second longer than the control suffered: the requests, and that.
    async fn finish_unharmed(self, story: &str) -> (Vec<Sample>, Duration) {
        let (mut ratings, control) = (self.ratings.finish().await, self.control.finish().await);
        ratings.retain(|sample| sample.due >= self.ran);
        let failed: Vec<_> = ratings.iter().filter(|sample| sample.failed()).collect();
        let stall = slowest(&control);
        println!(
            "{story}: {} requests, {} failed, slowest {:?} (control {stall:?}), {:?}",
            ratings.len(),
            failed.len(),
            slowest(&ratings),
            count_by(&ratings, |sample| &sample.cluster),
        );
        assert!(
            failed.is_empty(),
            "{story}: {} of {} failed, such as {:?}",
            failed.len(),
            ratings.len(),
            failed.first()
        );
        assert!(slowest(&ratings) < LIMIT + stall, "{story}: slowest {:?}", slowest(&ratings));
        (ratings, stall)
    }
}

/// The cluster that serves ratings to us-west now.
async fn serving(mesh: &Raised) -> &'static str {
    let got = get(mesh.curl("us-west"), &url("ratings", "/ratings/0")).await.expect("ratings answer");
    match got.cluster.as_str() {
        "us-east" => "us-east",
        "eu-west" => "eu-west",
        other => panic!("ratings answered from {other:?}: {got:?}"),
    }
}

async fn until_load_ran(load: &Load, requests: usize) {
    let since = load.now();
    eventually("the load runs", PATIENCE, || async {
        let ran = load.since(since).len();
        anyhow::ensure!(ran >= requests, "{ran} of {requests}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_cluster_costs_no_request_and_what_is_not_dead_is_not_left() {
    let mesh = Raised::up(40).await;
    for name in ["us-east", "eu-west"] {
        mesh.wait_standing("us-west", name, "alive", PATIENCE).await;
        mesh.wait_near("us-west", name, PATIENCE).await;
        let view = mesh.view("us-west", name).await.expect("control answers");
        assert_eq!(view["release"], RELEASE, "a cluster says of which release it is: {view}");
    }
    only_the_member_dies(&mesh).await;
    only_the_gateway_dies(&mesh).await;
    every_process_dies_and_comes_back(&mesh).await;
    two_of_three_members_die(&mesh).await;
}

/// When the answers came from another cluster than before, in order of what was due.
fn moves(samples: &[Sample]) -> Vec<(Duration, &str)> {
    let mut order: Vec<_> = samples.iter().map(|sample| (sample.due, sample.cluster.as_str())).collect();
    order.sort();
    order.dedup_by_key(|(_, cluster)| *cluster);
    order
}

async fn only_the_member_dies(mesh: &Raised) {
    let victim = serving(mesh).await;
    let both = Both::start(mesh).await;
    mesh.kill(victim, &["federation"]).await;
    mesh.wait_standing("us-west", victim, "memberDown", PATIENCE).await;
    until_load_ran(&both.ratings, RATE as usize).await;
    mesh.start(victim, &["federation"]);
    mesh.wait_standing("us-west", victim, "alive", PATIENCE).await;
    let (samples, stall) = both.finish_unharmed("only the member dies").await;
    let elsewhere = samples.iter().filter(|sample| sample.cluster != victim).count();
    assert!(
        elsewhere <= passed_by(stall, RATE),
        "nothing may move: {elsewhere} were answered elsewhere: {:?}",
        moves(&samples)
    );
}

async fn only_the_gateway_dies(mesh: &Raised) {
    let victim = serving(mesh).await;
    let both = Both::start(mesh).await;
    mesh.kill(victim, &["gateway"]).await;
    mesh.wait_standing("us-west", victim, "cutOff", PATIENCE).await;
    until_load_ran(&both.ratings, RATE as usize).await;
    mesh.start(victim, &["gateway"]);
    mesh.wait_standing("us-west", victim, "alive", PATIENCE).await;
    let (samples, _) = both.finish_unharmed("only the gateway dies").await;
    assert_eq!(count_by(&samples, |sample| &sample.cluster).len(), 2);
}

async fn every_process_dies_and_comes_back(mesh: &Raised) {
    let victim = serving(mesh).await;
    let both = Both::start(mesh).await;
    mesh.kill(victim, &[]).await;
    mesh.wait_standing("us-west", victim, "dead", PATIENCE).await;
    until_load_ran(&both.ratings, RATE as usize).await;
    let started = both.ratings.now();
    mesh.start(victim, &[]);
    mesh.wait_standing("us-west", victim, "returning", PATIENCE).await;
    let returning = both.ratings.now();
    mesh.wait_standing("us-west", victim, "alive", PATIENCE).await;
    let whole = both.ratings.now();
    until_load_ran(&both.ratings, 7 * RATE as usize).await;
    let (samples, stall) = both.finish_unharmed("every process dies").await;
    // Who looks may be held up, and then a request tells it first.
    let of = samples.iter().filter(|sample| sample.cluster == victim && sample.due >= started);
    let returning = of.map(|sample| sample.due).min().map_or(returning, |first| first.min(returning));
    let share = |from: Duration, to: Duration| {
        let all: Vec<_> = samples.iter().filter(|sample| sample.due >= from && sample.due < to).collect();
        all.iter().filter(|sample| sample.cluster == victim).count() as f64 / all.len().max(1) as f64
    };
    let second = Duration::from_secs(1);
    let ramp = (share(returning, returning + 4 * second), share(whole + second, whole + 6 * second), whole - returning);
    println!("return of {victim}: first part {:.2}, then {:.2}, whole after {:?}", ramp.0, ramp.1, ramp.2);
    assert!(ramp.0 <= 0.25, "at most a fifth in the first 5 s: {:.2}", ramp.0);
    let least = 0.9 - passed_by(stall, RATE) as f64 / f64::from(5 * RATE);
    assert!(ramp.1 > least, "all of it in the end: {:.2}, at least {least:.2}", ramp.1);
    assert!(ramp.2 <= 30 * second, "within 30 s: {:?}", ramp.2);
}

async fn two_of_three_members_die(mesh: &Raised) {
    let both = Both::start(mesh).await;
    for victim in ["us-east", "eu-west"] {
        mesh.kill(victim, &["federation"]).await;
    }
    let token = json!({ "cluster": "ap-south", "ttl_seconds": 60 });
    let refused = admin::send(mesh.member("us-west"), "/tokens", &token, Duration::from_secs(20)).await;
    let refusal = format!("{:#}", refused.expect_err("a write needs a quorum"));
    println!("without a quorum: {refusal}");
    assert!(refusal.contains("quorum"), "{refusal}");
    until_load_ran(&both.ratings, RATE as usize).await;
    for victim in ["us-east", "eu-west"] {
        mesh.start(victim, &["federation"]);
    }
    eventually("a write is taken again", PATIENCE, || async {
        admin::send(mesh.member("us-west"), "/tokens", &token, Duration::from_secs(10)).await.map(drop)
    })
    .await;
    both.finish_unharmed("two of three members die").await;
}
