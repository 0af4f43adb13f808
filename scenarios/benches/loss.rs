//! `cargo bench -p isthmus-scenarios --bench loss`: what loss on a link costs small requests (as root: the network is
//! emulated, see `isthmus_scenarios::wan`).
//!
//! The promise: at 1 % loss each way and 50 ms, with a queue of one bandwidth-delay product and 300 requests a second or
//! more, p50 and p90 are at most 1.1 times those without loss, and p99 at most 2.3 times. Turns with and without loss
//! alternate, so that what else the machine does falls on both. It only ever adds to a latency: so beside the median of its
//! turns each figure has the least of them, which is nearest to what the network alone costs.
//!
//! A median beyond what is promised ends this with an error, once all is told.
//!
//! Requests come in open loop: each is due at its own time, and its latency counts from then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a measurement that fails says so by a panic"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use isthmus_scenarios::{
    plan::bookinfo,
    wan::{links::Scope, settings::Change},
};
use support::{
    Raised, eventually,
    load::{Load, Sample, Target, get},
    url,
};

/// Half a round trip.
const DELAY_US: u64 = 25_000;
/// So that the queue of one bandwidth-delay product is 625 kB.
const RATE: u64 = 100_000_000;
/// Each way.
const LOSS: f64 = 0.01;
/// Requests a second.
const RATES: [u32; 2] = [300, 1000];
/// Turns of each kind, and how long one is.
const TURNS: usize = 7;
const TURN: Duration = Duration::from_secs(12);
/// What is due at the beginning of a turn still meets the network of the turn before.
const SETTLE: Duration = Duration::from_secs(2);

/// Of p50, p90 and p99: at most so many times that without loss.
const PROMISED: [f64; 3] = [1.1, 1.1, 2.3];

/// Percentiles of a turn, milliseconds.
#[derive(Clone, Copy, Debug)]
struct Turn {
    p50: f64,
    p90: f64,
    p99: f64,
    slowest: f64,
    failed: usize,
    lost: u64,
}

fn main() {
    // `cargo test --benches` and others ask every target for its list; this is none of tests.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let mesh = Raised::up_as(bookinfo::apart(bookinfo::plan(2, 176).expect("the demo's plan"))).await;
    let link = Change { delay_us: Some(DELAY_US), rate: Some(RATE), ..Change::default() };
    mesh.links().change(&Scope::default(), &link).expect("a link can be like this");
    eventually("the link is as long as it was made", Duration::from_secs(60), || async {
        let view = mesh.view("us-east", "us-west").await?;
        anyhow::ensure!(view["rtt_us"].as_u64().is_some_and(|rtt| (48_000..56_000).contains(&rtt)), "{view}");
        get(mesh.curl("us-east"), &url("details", "/details/0")).await.map(drop)
    })
    .await;
    println!(
        "| requests a second | loss each way | of the turns | p50 ms | p90 ms | p99 ms | slowest ms | failed | lost packets |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let (mut verdicts, mut missed) = (Vec::new(), Vec::new());
    for rate in RATES {
        let (mut clean, mut lossy) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            clean.push(turn(&mesh, rate, 0.0).await);
            lossy.push(turn(&mesh, rate, LOSS).await);
        }
        for (name, place) in [("median", TURNS / 2), ("least", 0)] {
            let (clean, lossy) = (at(&clean, place), at(&lossy, place));
            println!("| {rate} | 0 % | {name} {}", row(&clean));
            println!("| {rate} | {:.0} % | {name} {}", LOSS * 100.0, row(&lossy));
            let [p50, p90, p99] = [lossy.p50 / clean.p50, lossy.p90 / clean.p90, lossy.p99 / clean.p99];
            let hard = lossy.p99 / clean.p50;
            let holds = [p50, p90, p99].iter().zip(PROMISED).all(|(part, most)| *part <= most) && lossy.failed == 0;
            if name == "median" && !holds {
                missed.push(rate);
            }
            verdicts.push(format!(
                "{rate} requests a second, {name}: p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2} times that without loss; p99 \
                 {hard:.2} times the p50 without loss"
            ));
        }
    }
    println!("\n{}\n(promised: at most {PROMISED:?}, and no failure)", verdicts.join("\n"));
    mesh.mesh.supervisor.stop().await;
    assert!(missed.is_empty(), "the promise is not kept at {missed:?} requests a second");
}

/// One turn of load at this loss.
async fn turn(mesh: &Raised, rate: u32, loss: f64) -> Turn {
    mesh.links().change(&Scope::default(), &Change { loss: Some(loss), ..Change::default() }).unwrap();
    let lost = || mesh.links().rows().iter().map(|row| row.counts.lost).sum::<u64>();
    let load = Load::start(Target { proxy: mesh.curl("us-east"), url: url("details", "/details/0"), rate });
    tokio::time::sleep(SETTLE).await;
    let before = lost();
    tokio::time::sleep(TURN).await;
    let lost = lost() - before;
    let until = load.now();
    let samples = load.finish().await;
    let counted = samples.into_iter().filter(|sample| sample.due >= SETTLE && sample.due < until);
    let turn = percentiles(counted.collect(), lost);
    eprintln!("{rate} a second at {:.0} %: {turn:?}", loss * 100.0);
    turn
}

fn percentiles(mut samples: Vec<Sample>, lost: u64) -> Turn {
    samples.sort_by_key(|sample| sample.took);
    let ms = |sample: &Sample| sample.took.as_secs_f64() * 1000.0;
    let at = |part: f64| ms(&samples[((samples.len() - 1) as f64 * part) as usize]);
    let failed = samples.iter().filter(|sample| sample.failed()).count();
    Turn { p50: at(0.5), p90: at(0.9), p99: at(0.99), slowest: at(1.0), failed, lost }
}

/// Each figure at this place of its turns in their order; failures and losses are summed up.
fn at(turns: &[Turn], place: usize) -> Turn {
    let figure = |of: fn(&Turn) -> f64| {
        let mut all: Vec<_> = turns.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[place]
    };
    Turn {
        p50: figure(|turn| turn.p50),
        p90: figure(|turn| turn.p90),
        p99: figure(|turn| turn.p99),
        slowest: figure(|turn| turn.slowest),
        failed: turns.iter().map(|turn| turn.failed).sum(),
        lost: turns.iter().map(|turn| turn.lost).sum(),
    }
}

fn row(turn: &Turn) -> String {
    let Turn { p50, p90, p99, slowest, failed, lost } = turn;
    format!("| {p50:.1} | {p90:.1} | {p99:.1} | {slowest:.0} | {failed} | {lost} |")
}
