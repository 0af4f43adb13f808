//! A service that east sends to, over what its requests show, what is written of it, and restarts of control.

use isthmus_core::failover::{
    order::{Member, Order, Tier},
    policy::FailoverPolicy,
};

use isthmus_wire::feed::PathReport;

use super::*;
use crate::decider::Verdict;

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn service() -> ServiceName {
    ServiceName::new("shop", "cart").unwrap()
}

fn member(cluster: &str, weight: u32) -> Member {
    Member { cluster: name(cluster), weight, healthy: 2, total: 2, capacity: None, cap: None }
}

/// Tiers of clusters with their weights, by a policy of this name that says this.
fn ordered(tiers: &[&[(&str, u32)]], policy: Option<&str>, says: &str) -> Ordered {
    let tier = |(nth, members): (usize, &&[(&str, u32)])| Tier {
        name: format!("tier {}", nth + 1),
        members: members.iter().map(|(cluster, weight)| member(cluster, *weight)).collect(),
    };
    let policy_says: FailoverPolicy = serde_json::from_str(says).unwrap();
    Ordered {
        order: Order { tiers: tiers.iter().enumerate().map(tier).collect(), ..Order::default() },
        policy: policy_says.into(),
        policies: policy.into_iter().map(ToOwned::to_owned).collect(),
        own_cap: None,
    }
}

/// East's control in virtual time.
struct Story {
    failover: Failover,
    now: Duration,
}

impl Story {
    fn new() -> Self {
        Self { failover: Failover::restored(name("east"), OnDisk::default()), now: Duration::ZERO }
    }

    /// Beats in which so many of ten requests to west fail.
    fn run(&mut self, beats: u32, ordered: &Ordered, errors: u64) {
        self.run_by(&Decider::restored(name("east"), BTreeMap::new()), beats, ordered, errors);
    }

    /// The same while other clusters stand like this.
    fn run_by(&mut self, decider: &Decider, beats: u32, ordered: &Ordered, errors: u64) {
        let orders = [(service(), ordered.clone())].into();
        for _ in 0..beats {
            self.now += isthmus_core::failover::BEAT;
            let latency = [10].into();
            let of = ServiceEvidence { service: service().to_string(), cluster: "west".into(), ..Default::default() };
            let evidence = ServiceEvidence { requests: 10, errors, latency, ..of };
            self.failover.evidence("proxy", &evidence, self.now);
            let at = Moment { now: self.now, unix_ms: 1 };
            let seen = Seen { at, orders: &orders, decider, proxies: &BTreeSet::new() };
            self.failover.steer(&seen);
        }
    }

    /// Another run of control reads what this one kept.
    fn restart(&mut self) {
        let kept = serde_json::to_string(&self.failover.memory()).unwrap();
        self.failover = Failover::restored(name("east"), serde_json::from_str(&kept).unwrap());
        self.now = Duration::from_secs(2);
    }

    fn row(&self, ordered: &Ordered) -> rows::FailoverRow {
        let others = ["west", "north", "south"].map(|other| (name(other), Verdict::default())).into();
        self.row_of(ordered, &Decider::restored(name("east"), others))
    }

    fn row_of(&self, ordered: &Ordered, decider: &Decider) -> rows::FailoverRow {
        self.failover.rows(&[(service(), ordered.clone())].into(), decider, self.now).remove(0)
    }

    /// Why it moved last.
    fn moved(&self) -> (String, String) {
        let last = self.failover.history.all().last().unwrap();
        (last.what.clone(), last.why.clone())
    }
}

const STRICT: &str = r#"{"leave": {"errorRate": {"above": 0.2}}, "failback": {"after": "2m"}}"#;

#[test]
fn a_restart_goes_on_with_what_errors_left_and_a_file_of_before_is_read() {
    let two = ordered(&[&[("west", 1)], &[("north", 1)]], Some("p"), STRICT);
    let mut story = Story::new();
    story.run(4, &two, 9);
    let before = story.row(&two);
    assert_eq!((before.in_use.as_str(), before.places[0].share), ("north", 0.0), "{before:?}");
    story.restart();
    story.run(4, &two, 0);
    let after = story.row(&two);
    assert_eq!((after.in_use.as_str(), &after.why), ("north", &before.why), "{after:?}");
    assert!(after.next.starts_with("it is tried again in 11"), "{after:?}");
    let of_before: OnDisk = serde_json::from_str(r#"{"shares": {"shop/cart": {"west": 0.0, "north": 1.0}}}"#).unwrap();
    let mut story = Story { failover: Failover::restored(name("east"), of_before), ..Story::new() };
    story.run(1, &two, 0);
    let row = story.row(&two);
    assert!(row.places[0].share <= 0.02, "it returns along the ramp: {row:?}");
}

#[test]
fn what_waits_is_kept_on_disk_and_not_written_anew_when_nothing_does() {
    let two = ordered(&[&[("west", 1)], &[("north", 1)]], Some("p"), STRICT);
    let mut story = Story::new();
    story.run(1, &two, 0);
    let kept = story.failover.to_keep().unwrap();
    story.failover.kept(kept);
    story.run(20, &two, 0);
    assert_eq!(story.failover.to_keep(), None);
    story.run(20, &two, 9);
    assert!(story.failover.to_keep().is_some());
}

#[test]
fn a_weighted_tier_says_by_weight_and_what_is_wrong_only_of_what_would_get_more() {
    let weighted = ordered(&[&[("west", 1), ("north", 3)], &[("south", 1)]], Some("p"), STRICT);
    let mut story = Story::new();
    story.run(4, &weighted, 0);
    let row = story.row(&weighted);
    assert_eq!((row.in_use.as_str(), row.why.as_str()), ("north", "by weight; 2 of 2 endpoints healthy"));
    story.run(8, &weighted, 9);
    let row = story.row(&weighted);
    assert_eq!((row.in_use.as_str(), row.why.as_str()), ("north", "2 of 2 endpoints healthy"), "{row:?}");
    let other = ordered(&[&[("west", 3), ("north", 1)], &[("south", 1)]], Some("p"), STRICT);
    story.run(1, &other, 9);
    let row = story.row(&other);
    assert!(row.why.starts_with("west: 22 % of its requests fail"), "{row:?}");
}

#[test]
fn why_there_is_no_path_to_a_cluster_is_told_with_what_is_sent_elsewhere_because_of_it() {
    let two = ordered(&[&[("west", 1)], &[("north", 1)]], None, "{}");
    let cut_off = Verdict { share: 0.0, standing: model::Standing::CutOff, ..Verdict::default() };
    let mut decider = Decider::restored(name("east"), [(name("west"), cut_off)].into());
    let mut story = Story::new();
    story.run_by(&decider, 1, &two, 0);
    let before = story.row_of(&two, &decider);
    let why = "is a clock wrong?".to_owned();
    let report = PathReport { cluster: "west".into(), state: "lost".into(), why, ..PathReport::default() };
    decider.path("gw", report, 0);
    story.run_by(&decider, 1, &two, 0);
    let row = story.row_of(&two, &decider);
    assert_eq!((row.in_use.as_str(), &row.why), ("north", &format!("{} (is a clock wrong?)", before.why)));
    assert_eq!(row.places[0].why, format!("{} (is a clock wrong?)", before.places[0].why));
    assert_eq!(
        (&row.places[1].why, &row.places[0].since_seconds),
        (&before.places[1].why, &0),
        "nothing else is told of it"
    );
}

#[test]
fn a_move_says_what_it_comes_of() {
    let first = |policy, says| ordered(&[&[("west", 1)], &[("north", 1)]], policy, says);
    let mut story = Story::new();
    story.run(2, &first(None, "{}"), 0);
    story.run(1, &ordered(&[&[("north", 1)], &[("west", 1)]], Some("shop/p of east"), "{}"), 0);
    assert_eq!(story.moved(), ("west → north".into(), "policy shop/p of east binds now".into()));
    story.run(1, &first(Some("shop/p of east"), STRICT), 0);
    assert_eq!(story.moved(), ("north → west".into(), "policy shop/p of east was changed".into()));
    story.run(8, &first(Some("shop/p of east"), STRICT), 9);
    assert_eq!(story.moved(), ("west → north".into(), "22 % of its requests fail, more than 20 %".into()));
    let swapped = ordered(&[&[("south", 1)], &[("north", 1)]], Some("shop/p of east"), STRICT);
    story.run(1, &swapped, 0);
    assert_eq!(story.moved(), ("north → south".into(), "the order changed: south comes before north now".into()));
    let weights = ordered(&[&[("south", 1), ("north", 9)]], Some("shop/p of east"), STRICT);
    story.run(1, &weights, 0);
    assert_eq!(story.moved().0, "south → north");
    let mut gone = ordered(&[&[("south", 1)]], Some("shop/p of east"), STRICT);
    gone.order.excluded.insert(name("north"), "the policy never uses it".into());
    story.run(1, &gone, 0);
    assert_eq!(story.moved(), ("north → south".into(), "the policy never uses it".into()));
    story.run(1, &first(None, "{}"), 0);
    assert_eq!(story.moved().1, "no policy binds any more: the default does");
}

#[test]
fn a_part_of_a_capacity_that_nobody_says_is_said_to_be_no_limit() {
    let capped = ordered(&[&[("east", 1)], &[("west", 1)]], Some("p"), r#"{"caps": [{"shareOfCapacity": 0.8}]}"#);
    let mut story = Story::new();
    story.run(1, &capped, 0);
    let notes = story.row(&capped).notes;
    assert_eq!(
        notes,
        ["80 % of the capacity of west is no limit: the Service there says nothing in isthmus.dev/capacity"]
    );
}
