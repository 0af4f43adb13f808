//! What control and gateway here say of the other clusters, looked at again and again while a row is played: how each
//! stands, its share, how many tries of requests were meant for it, and how many bytes of requests went there.
//!
//! Tries are no measure of when it was left: until it is decided a sidecar looks each time whether an own gateway has a way there,
//! and counts that none has; nothing leaves it. Bytes are; a gateway counts them each half second. So the last one is seen that
//! much late, and what is told of it is never less than what was.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use isthmus_scenarios::{admin, plan::roles::METRICS_PORT};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// After a share is nothing, sidecars have heard of it, given up what was under way, and told of it.
const SETTLED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 4_000 } else { 1_500 });

/// So long nobody may look before it is returned to.
const UNSEEN: Duration = Duration::from_secs(1);

/// A cluster at one look.
#[derive(Clone, Debug)]
struct Seen {
    standing: String,
    share: f64,
    /// Tries of own clients, however they ended.
    tries: u64,
    /// Bytes that the own gateway carried there.
    sent: u64,
}

/// All clusters at one look: when the answer came, and what it was.
type Look = (Duration, BTreeMap<String, Seen>);

/// Looks until it is finished.
pub struct Ledger {
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

/// What was seen.
pub struct Looks(Vec<Look>);

impl Ledger {
    /// Of this control and this gateway, in times since `begun`.
    pub fn open(control: SocketAddr, gateway: IpAddr, begun: Instant) -> Self {
        let looks = Arc::new(Mutex::new(vec![]));
        let written = Arc::clone(&looks);
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(LOOK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let metrics = SocketAddr::new(gateway, METRICS_PORT);
                if let (Ok(rows), Ok(Value::String(metrics))) =
                    (admin::read(control, "/api/clusters").await, admin::read(metrics, "/metrics").await)
                {
                    written.lock().push((begun.elapsed(), clusters(&rows, &metrics)));
                }
            }
        });
        Self { looks, task }
    }

    pub fn finish(self) -> Looks {
        Looks(std::mem::take(&mut *self.looks.lock()))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn clusters(rows: &Value, metrics: &str) -> BTreeMap<String, Seen> {
    let seen = |row: &Value| {
        let name = row["name"].as_str().unwrap_or_default();
        let bytes = format!("isthmus_gateway_bytes_total{{cluster=\"{name}\",direction=\"out\",way=\"sent\"}} ");
        let count = |what: &str| row["requests"][what].as_u64().expect("control counts requests");
        Seen {
            standing: row["standing"].as_str().unwrap_or_default().to_owned(),
            share: row["share"].as_f64().unwrap_or(1.0),
            tries: count("succeeded") + count("failed") + count("unanswered"),
            sent: metrics.lines().find_map(|line| line.strip_prefix(&bytes)?.parse().ok()).unwrap_or(0),
        }
    };
    let others = rows.as_array().into_iter().flatten().filter(|row| row["own"] != true);
    others.map(|row| (row["name"].as_str().unwrap_or_default().to_owned(), seen(row))).collect()
}

impl Looks {
    fn of<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = (Duration, &'a Seen)> + Clone {
        self.0.iter().filter_map(move |(at, clusters)| Some((*at, clusters.get(cluster)?)))
    }

    /// Whether anybody was left.
    pub fn anybody_was_left(&self) -> bool {
        self.0.iter().any(|(_, clusters)| clusters.values().any(|seen| seen.share <= 0.0))
    }

    /// When a cluster's share was nothing, first after an event.
    pub fn decided(&self, cluster: &str, event: Duration) -> Option<Duration> {
        self.of(cluster).find(|(at, seen)| *at >= event && seen.share <= 0.0).map(|(at, _)| at)
    }

    /// When it was returning, first after the end of an event.
    pub fn returning(&self, cluster: &str, end: Duration) -> Option<Duration> {
        self.of(cluster).find(|(at, seen)| *at >= end && seen.standing == "returning").map(|(at, _)| at)
    }

    /// When bytes there were last seen to grow in a while.
    pub fn last_sent(&self, cluster: &str, from: Duration, to: Duration) -> Option<Duration> {
        let grew = self.of(cluster).zip(self.of(cluster).skip(1)).filter(|((_, one), (_, next))| next.sent > one.sent);
        grew.map(|(_, (at, _))| at).filter(|at| *at >= from && *at <= to).last()
    }

    /// From when it was left until it was returned to no request went there, not even to find out whether it is back. A
    /// machine that stalled so long told of the last ones that much later, and was not looked at meanwhile.
    pub fn assert_unasked(&self, cluster: &str, event: Duration, stall: Duration) {
        let decided = self.decided(cluster, event).expect("it is left");
        let returning = self.returning(cluster, decided).expect("it is returned to");
        let from = decided + SETTLED + stall;
        let dead: Vec<_> = self.of(cluster).filter(|(at, _)| *at >= from && *at < returning).collect();
        let [(_, first), .., (last_at, last)] = dead.as_slice() else {
            let waited = returning - decided;
            assert!(
                waited < SETTLED + stall + UNSEEN && stall > UNSEEN,
                "returned to after {waited:?}: too early to tell"
            );
            println!("returned to {waited:?} after it was left, and the machine stalled for {stall:?}: not to be told");
            return;
        };
        assert_eq!(last.tries - first.tries, 0, "live requests were spent on {cluster} while it was left");
        assert!(returning - *last_at <= UNSEEN + stall, "not looked at from {last_at:?} to {returning:?}");
    }
}

/// A cluster that is left at 3 s and returned to at 9 s, each second a look; it is sent to until 2 s, and has so many
/// tries more at this second.
fn story(at: u64, more: u64) -> Looks {
    let look = |second: u64| {
        let standing = if (3..9).contains(&second) { "dead" } else { "returning" }.to_owned();
        let share = if (3..9).contains(&second) { 0.0 } else { 0.5 };
        let tries = second.min(3) * 500 + if second >= at { more } else { 0 };
        let seen = Seen { standing, share, tries, sent: second.min(2) * 1000 };
        (Duration::from_secs(second), BTreeMap::from([("eu".to_owned(), seen)]))
    };
    Looks((0..12).map(look).collect())
}

#[test]
fn a_cluster_is_left_when_the_last_byte_went_there() {
    let looks = story(0, 0);
    let second = Duration::from_secs;
    assert_eq!(looks.last_sent("eu", second(1), Duration::MAX), Some(second(2)));
    assert_eq!(looks.last_sent("eu", second(3), Duration::MAX), None);
    assert_eq!((looks.decided("eu", second(1)), looks.returning("eu", second(4))), (Some(second(3)), Some(second(9))));
    looks.assert_unasked("eu", second(1), Duration::ZERO);
}

#[test]
#[should_panic(expected = "live requests were spent on eu")]
fn one_request_that_finds_out_whether_it_is_back_is_seen() {
    story(8, 1).assert_unasked("eu", Duration::from_secs(1), Duration::ZERO);
}
