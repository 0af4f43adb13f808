//! Two gateways a cluster: one that dies costs no safe request, one that is restarted for an upgrade costs none at all,
//! on either side of a link. Only us-east has what us-west asks for: there is no other cluster to go to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

#[path = "gateways/held.rs"]
mod held;
mod support;

use std::time::Duration;

use held::{Held, Stream, Streams};
use isthmus_scenarios::plan::bookinfo;
use support::{
    Raised, eventually,
    load::{ANSWER, Load, Sample, Target, disturbed, slowest},
    url,
};

/// For whatever must come about sooner or later.
const PATIENCE: Duration = Duration::from_secs(90);
/// Requests a second: an unoptimised build of every hop leaves two cores no room for more.
const RATE: u32 = if cfg!(debug_assertions) { 100 } else { 500 };
/// POSTs and new streams a second.
const FEW: u32 = if cfg!(debug_assertions) { 20 } else { 50 };
/// Without optimisation every handshake and hop costs some ten times as much.
const SLOWER: u32 = if cfg!(debug_assertions) { 3 } else { 1 };
/// New streams are elsewhere within so long, beyond what the control suffered.
const ELSEWHERE: Duration = Duration::from_millis(500 * SLOWER as u64);
/// What the slowest request may take, beyond what the control suffered.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
/// What is held open lives so long at a gateway that drains.
const DEADLINE: Duration = Duration::from_secs(5);
/// Of each kind, held open: so many that some lead over the gateway that is restarted.
const HELD: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_gateways_dies_or_is_restarted_and_no_request_is_lost() {
    let mut plan = bookinfo::with_gateways(bookinfo::plan(2, 151).expect("the demo's plan"), 2);
    plan.tuning.gateway_drain_seconds = Some(u32::try_from(DEADLINE.as_secs()).unwrap());
    let mesh = Raised::up_as(plan).await;
    mesh.wait_standing("us-west", "us-east", "alive", PATIENCE).await;
    mesh.wait_near("us-west", "us-east", PATIENCE).await;
    for (cluster, side) in [("us-east", "the other side"), ("us-west", "the own side")] {
        one_dies(&mesh, cluster, side).await;
        one_is_restarted(&mesh, cluster, side).await;
        both_are_restarted(&mesh, cluster, side).await;
    }
}

/// GETs, POSTs and new streams from us-west to us-east, and beside them a local service as the control of the machine.
struct Traffic {
    gets: Load,
    posts: Load,
    streams: Streams,
    control: Load,
    /// Since when it ran: what it takes to begin is no part of the story.
    ran: Duration,
}

struct Came {
    gets: Vec<Sample>,
    posts: Vec<Sample>,
    streams: Vec<Stream>,
    stall: Duration,
}

impl Traffic {
    async fn start(mesh: &Raised) -> Self {
        let proxy = mesh.curl("us-west");
        let to = |service: &str, path: &str, rate| Target { proxy, url: url(service, path), rate };
        let mut traffic = Self {
            gets: Load::start(to("ratings", "/ratings/0", RATE)),
            posts: Load::post(to("echo", "/delay/100", FEW), "some words"),
            streams: Streams::start(proxy, FEW),
            control: Load::start(to("details", "/details/0", RATE / 10)),
            ran: Duration::ZERO,
        };
        traffic.until_it_ran(2).await;
        traffic.ran = traffic.gets.now();
        traffic
    }

    async fn until_it_ran(&self, seconds: u32) {
        let (since, want) = (self.gets.now(), (RATE * seconds) as usize);
        eventually("the load runs", PATIENCE, || async {
            let ran = self.gets.since(since).len();
            anyhow::ensure!(ran >= want, "{ran} of {want}");
            Ok(())
        })
        .await;
    }

    async fn finish(self) -> Came {
        let (mut gets, mut posts) = (self.gets.finish().await, self.posts.finish().await);
        let (mut streams, control) = (self.streams.finish().await, self.control.finish().await);
        [&mut gets, &mut posts].into_iter().for_each(|all| all.retain(|sample| sample.due >= self.ran));
        streams.retain(|(due, _)| *due >= self.ran);
        Came { gets, posts, streams, stall: slowest(&control) }
    }
}

impl Came {
    fn broken(&self) -> Vec<&Stream> {
        self.streams.iter().filter(|(_, took)| took.is_err()).collect()
    }

    fn slowest_stream(&self) -> Duration {
        self.streams.iter().filter_map(|(_, took)| took.as_ref().ok()).max().copied().unwrap_or_default()
    }

    fn tell(&self, story: &str) {
        let disturbed = disturbed(&self.gets, self.stall);
        let failed = |samples: &[Sample]| samples.iter().filter(|sample| sample.failed()).count();
        // As the rows of the matrix are told, for `scenarios/rehearse`.
        println!(
            "ROW|{story}|{}|{}|{}|{}|{}|-|-|-|{} POSTs, {} failed; {} new streams, slowest {:.2} s",
            self.gets.len(),
            failed(&self.gets),
            slowest(&self.gets).as_millis(),
            self.stall.as_millis(),
            disturbed.as_millis(),
            self.posts.len(),
            failed(&self.posts),
            self.streams.len(),
            self.slowest_stream().as_secs_f64(),
        );
        println!(
            "{story}: {} GETs, {} failed, slowest {:?}, disturbed for {:?}; {} POSTs, {} failed, slowest {:?}; {} new \
             streams, {} failed, slowest {:?}; control {:?}",
            self.gets.len(),
            failed(&self.gets),
            slowest(&self.gets),
            disturbed,
            self.posts.len(),
            failed(&self.posts),
            slowest(&self.posts),
            self.streams.len(),
            self.broken().len(),
            self.slowest_stream(),
            self.stall,
        );
    }

    /// No safe request failed, none took long, and every new stream was there in time.
    fn assert_unharmed(&self, story: &str) {
        no_failure(story, "GETs", &self.gets);
        assert!(slowest(&self.gets) < LIMIT + self.stall, "{story}: slowest {:?}", slowest(&self.gets));
        // A stream has so long to be answered: a machine that stalls for longer breaks it, whatever gateways do.
        let excused = self.stall > ANSWER;
        assert!(excused || self.broken().is_empty(), "{story}: new streams broke: {:?}", self.broken());
        assert!(self.slowest_stream() < ELSEWHERE + self.stall, "{story}: slowest {:?}", self.slowest_stream());
    }
}

fn no_failure(story: &str, what: &str, samples: &[Sample]) {
    let failed: Vec<_> = samples.iter().filter(|sample| sample.failed()).collect();
    assert!(failed.is_empty(), "{story}: {} of {} {what} failed, such as {:?}", failed.len(), samples.len(), failed[0]);
}

async fn one_dies(mesh: &Raised, cluster: &str, side: &str) {
    let story = format!("a gateway of {side} dies");
    let traffic = Traffic::start(mesh).await;
    mesh.kill(cluster, &["gateway-2"]).await;
    let killed = traffic.streams.now();
    traffic.until_it_ran(6).await;
    mesh.start(cluster, &["gateway-2"]);
    mesh.wait_ready(cluster, "gateway-2").await;
    both_are_used(mesh, cluster).await;
    let mut came = traffic.finish().await;
    came.tell(&story);
    // What was open when it died is lost with it; only what came later is new.
    came.streams.retain(|(due, took)| *due >= killed || took.is_ok());
    came.assert_unharmed(&story);
}

async fn one_is_restarted(mesh: &Raised, cluster: &str, side: &str) {
    let story = format!("a gateway of {side} is restarted");
    let held = Held::open(mesh.curl("us-west"), HELD).await;
    let traffic = Traffic::start(mesh).await;
    let (asked, before) = (held.now(), closed(mesh, other(cluster)).await);
    mesh.restart(cluster, &["gateway-2"]).await;
    let took = held.now() - asked;
    both_are_used(mesh, cluster).await;
    traffic.until_it_ran(2).await;
    let (came, ended) = (traffic.finish().await, held.finish().await);
    let after = counted(mesh, other(cluster), before + ended.closed.len()).await;
    came.tell(&story);
    let times: Vec<_> = ended.closed.iter().map(|(_, at)| at.saturating_sub(asked)).collect();
    println!(
        "{story}: back after {took:?}; {} held lived on, {} were closed after {:?} to {:?}, {} counted by peers",
        ended.lived.len(),
        ended.closed.len(),
        times.iter().min().unwrap_or(&Duration::ZERO),
        times.iter().max().unwrap_or(&Duration::ZERO),
        after - before,
    );
    came.assert_unharmed(&story);
    no_failure(&story, "POSTs", &came.posts);
    assert!(times.iter().all(|at| *at >= DEADLINE), "{story}: what is held lives until the deadline: {times:?}");
    for kind in ["tcp", "websocket"] {
        assert!(ended.closed.iter().any(|(closed, _)| *closed == kind), "{story}: none was closed: {ended:?}");
    }
    // More would be HTTP connections that were not handed over.
    assert_eq!(after - before, ended.closed.len(), "{story}: counted by the peers");
    let said = format!("streams={}", ended.closed.len());
    assert!(last_words(mesh, cluster).contains(&said), "{story}: {said} in {}", last_words(mesh, cluster));
}

/// One after the other, as an upgrade does it, and with nothing held.
async fn both_are_restarted(mesh: &Raised, cluster: &str, side: &str) {
    let story = format!("both gateways of {side} are restarted, one after the other");
    let traffic = Traffic::start(mesh).await;
    let before = closed(mesh, other(cluster)).await;
    let asked = std::time::Instant::now();
    mesh.restart(cluster, &["gateway", "gateway-2"]).await;
    let took = asked.elapsed();
    both_are_used(mesh, cluster).await;
    let came = traffic.finish().await;
    came.tell(&story);
    println!("{story}: back after {took:?}");
    came.assert_unharmed(&story);
    no_failure(&story, "POSTs", &came.posts);
    assert_eq!(closed(mesh, other(cluster)).await, before, "{story}: nothing was left to be closed");
    assert!(took < 2 * DEADLINE + came.stall, "{story}: each ends as soon as nothing is open, not after {took:?}");
}

fn other(cluster: &str) -> &'static str {
    if cluster == "us-east" { "us-west" } else { "us-east" }
}

/// Waits until tunnels between all gateways are up again.
async fn both_are_used(mesh: &Raised, cluster: &str) {
    for (from, to) in [(cluster, other(cluster)), (other(cluster), cluster)] {
        for gateway in ["gateway", "gateway-2"] {
            eventually(&format!("{gateway} of {from} has all tunnels"), PATIENCE, || async {
                let metrics = mesh.metrics(from, gateway).await;
                let line = format!("isthmus_gateway_tunnels{{cluster=\"{to}\"}} 4");
                anyhow::ensure!(metrics.lines().any(|have| have == line), "no line {line}");
                Ok(())
            })
            .await;
        }
    }
}

/// Streams that a cluster's gateways saw closed by the drain of a peer.
async fn closed(mesh: &Raised, cluster: &str) -> usize {
    let mut sum = 0;
    for gateway in ["gateway", "gateway-2"] {
        let metrics = mesh.metrics(cluster, gateway).await;
        let of = |line: &&str| line.starts_with("isthmus_gateway_streams_closed_at_drain_total{");
        let counts = metrics.lines().filter(of).filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok());
        sum += counts.sum::<usize>();
    }
    sum
}

/// As [`closed`], once it is so many: the peers count what they see closed, which may be later than its client sees it.
async fn counted(mesh: &Raised, cluster: &str, least: usize) -> usize {
    eventually(&format!("the gateways of {cluster} have counted"), PATIENCE, || async {
        let count = closed(mesh, cluster).await;
        anyhow::ensure!(count >= least, "{count} of {least}");
        Ok(())
    })
    .await;
    closed(mesh, cluster).await
}

/// What a cluster's second gateway said last of the end of its drain.
fn last_words(mesh: &Raised, cluster: &str) -> String {
    let log = mesh.mesh.state.log(&mesh.cluster(cluster).name, "gateway-2");
    let text = std::fs::read_to_string(log).expect("the gateway has a log");
    let words = text.lines().rfind(|line| line.contains("streams still open are closed"));
    words.unwrap_or("no such line").to_owned()
}
