//! A row's eyes: a load on the service in question, a control load on a local one, what control here says meanwhile; and
//! what came of it.

use std::time::Duration;

use isthmus_core::failover::{BEAT, LEAVE_AFTER};
use tokio::time::Instant;

use crate::{
    ledger::{Ledger, Looks},
    row::Figures,
    stage::{HERE, Stage},
    support::{
        eventually,
        load::{self, Load, Sample, Target, disturbed, slowest},
        url,
    },
};

/// Requests a second: an unoptimised build of every hop leaves two cores no room for more.
pub const RATE: u32 = if cfg!(debug_assertions) { 100 } else { 500 };
/// What the slowest request may take, beyond what the control suffered. Without optimisation every handshake and hop of
/// a move costs some ten times as much.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
/// Beyond this no request is sent to a cluster that is gone, decision or not; and what the control suffered.
pub const LEFT_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 2 });
/// Its path is found out by a probe each 250 ms whose answer is overdue after 400 ms, lost for [`LEAVE_AFTER`], and decided
/// on at the next beat; then it is told and looked at.
const DECIDED_WITHIN: Duration = Duration::from_millis(250 + 400)
    .saturating_add(LEAVE_AFTER)
    .saturating_add(BEAT)
    .saturating_add(Duration::from_millis(if cfg!(debug_assertions) { 7_000 } else { 300 }));
/// From when it is back until it is returned to.
const RETURNED_TO_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 8 });
/// Who answers in less has nothing of the beginning under way; it is waited for so long at most.
const CALM: Duration = Duration::from_millis(400);
const CALM_WITHIN: Duration = Duration::from_secs(30);

/// Both loads, and the ledger.
pub struct Watch<'a> {
    asked: Load,
    rate: u32,
    control: Load,
    ledger: Ledger,
    stage: &'a Stage,
    /// Since when nothing of the beginning is under way: what it takes to begin is no part of a row.
    calm: Duration,
}

/// What came of them.
pub struct Seen {
    pub samples: Vec<Sample>,
    pub looks: Looks,
    control: Duration,
}

impl<'a> Watch<'a> {
    /// On ratings, which is not to be had here.
    pub async fn ratings(stage: &'a Stage) -> Self {
        Self::on(stage, "ratings").await
    }

    /// On a service, one path a service as Bookinfo has it.
    pub async fn on(stage: &'a Stage, service: &str) -> Self {
        let to = |service: &str, rate| {
            let url = url(service, &format!("/{service}/0"));
            Load::start(Target { proxy: stage.mesh.curl(HERE), url, rate })
        };
        // Reviews ask ratings in turn, which costs an unoptimised build twice as much.
        let rate = if cfg!(debug_assertions) && service == "reviews" { RATE / 2 } else { RATE };
        let (asked, control) = (to(service, rate), to("details", RATE / 10));
        let gateway = stage.mesh.gateway(HERE, "gateway");
        let ledger = Ledger::open(stage.mesh.control(HERE), gateway, Instant::now() - asked.now());
        let mut watch = Self { asked, rate, control, ledger, stage, calm: Duration::ZERO };
        watch.calms_down().await;
        watch.calm = watch.now();
        watch
    }

    /// Waits until a second's requests are answered as they come: nothing of the beginning is under way. A machine that does
    /// not get there is taken as it is.
    async fn calms_down(&self) {
        while self.now() < CALM_WITHIN {
            let since = self.now();
            self.goes_on(1).await;
            if self.asked.since(since).iter().all(|sample| sample.took < CALM) {
                return;
            }
        }
    }

    /// Waits until so many seconds' worth of requests more were answered.
    pub async fn goes_on(&self, seconds: u32) {
        let since = self.asked.now();
        eventually("the load runs", Duration::from_secs(120), || async {
            let ran = self.asked.since(since).len();
            anyhow::ensure!(ran >= (self.rate * seconds) as usize, "{ran} of {}", self.rate * seconds);
            Ok(())
        })
        .await;
    }

    /// Time since it began.
    pub fn now(&self) -> Duration {
        self.asked.now()
    }

    pub async fn finish(self) -> Seen {
        let (mut samples, control) = (self.asked.finish().await, self.control.finish().await);
        samples.retain(|sample| sample.due >= self.calm);
        let looks = self.ledger.finish();
        self.stage.remember(looks.anybody_was_left());
        Seen { samples, looks, control: slowest(&control) }
    }
}

impl Seen {
    /// No request failed.
    pub fn answered(self) -> Self {
        let failed: Vec<_> = self.samples.iter().filter(|sample| sample.failed()).collect();
        let when = (failed.first().map(|one| one.due), failed.last().map(|one| one.due));
        assert!(
            failed.is_empty(),
            "{} of {} failed, {when:?}, such as {:?}",
            failed.len(),
            self.samples.len(),
            failed[0]
        );
        self
    }

    /// No request failed and none took a second longer than the control suffered.
    pub fn unharmed(self) -> Self {
        let seen = self.answered();
        let (slowest, control) = (slowest(&seen.samples), seen.control);
        assert!(slowest < LIMIT + control, "slowest {slowest:?}, of the control {control:?}");
        seen
    }

    /// Only requests that were due in a while.
    pub fn within(mut self, from: Duration, to: Duration) -> Self {
        self.samples.retain(|sample| sample.due >= from && sample.due < to);
        self
    }

    /// The figures, without when it was left and returned to.
    pub fn figures(&self) -> Figures {
        Figures {
            requests: self.samples.len(),
            failed: self.samples.iter().filter(|sample| sample.failed()).count(),
            slowest: slowest(&self.samples),
            control: self.control,
            disturbed: disturbed(&self.samples, self.control),
            ..Figures::default()
        }
    }

    /// With when a cluster was left after an event, and returned to after its end.
    pub fn left(&self, cluster: &str, event: Duration, end: Option<Duration>) -> Figures {
        let last = self.looks.last_sent(cluster, event, end.unwrap_or(Duration::MAX));
        Figures {
            left: Some(last.map_or(Duration::ZERO, |last| last - event)),
            decided: self.looks.decided(cluster, event).map(|decided| decided - event),
            back: end.and_then(|end| self.first_of(cluster, end).map(|first| first - end)),
            ..self.figures()
        }
    }

    /// As [`Seen::left`], of a cluster whose path is gone: both within what was promised, and what the control suffered.
    pub fn left_in_time(&self, cluster: &str, event: Duration, end: Option<Duration>) -> Figures {
        let figures = self.left(cluster, event, end);
        assert!(self.looks.last_sent(cluster, Duration::ZERO, event).is_some(), "nothing went there before");
        let (left, decided) =
            (figures.left.expect("it was left"), figures.decided.expect("it was decided to leave it"));
        assert!(left < LEFT_WITHIN + self.control, "requests went there for {left:?}; decided after {decided:?}");
        assert!(decided < DECIDED_WITHIN + self.control, "decided after {decided:?}, left after {left:?}");
        figures
    }

    /// When the ramp back began after the end of an event: in time, and no request was spent on finding out.
    pub fn returned_to_unasked(&self, cluster: &str, event: Duration, end: Duration) -> Duration {
        let seen = self.looks.returning(cluster, end).expect("it was returned to");
        // Who looks may be held up, and then a request tells it first.
        let begun = self.first_of(cluster, end).map_or(seen, |first| first.min(seen));
        let took = begun - end;
        assert!(took < RETURNED_TO_WITHIN + self.control, "returned to {took:?} after it was back");
        self.looks.assert_unasked(cluster, event, self.control);
        begun
    }

    /// When the first request was due that a cluster answered, from some time on.
    fn first_of(&self, cluster: &str, from: Duration) -> Option<Duration> {
        let of = self.samples.iter().filter(|sample| sample.cluster == cluster && !sample.failed());
        of.map(|sample| sample.due).filter(|due| *due >= from).min()
    }

    /// What the machine itself did to requests, as far as the control suffered it.
    pub fn stall(&self) -> Duration {
        self.control
    }

    /// How many requests may have been answered elsewhere though nothing moved.
    pub fn passed_by(&self) -> usize {
        load::passed_by(self.control, RATE)
    }

    /// The part of the requests due in a while that a cluster answered.
    pub fn part(&self, cluster: &str, from: Duration, to: Duration) -> f64 {
        let all: Vec<_> = self.samples.iter().filter(|sample| sample.due >= from && sample.due < to).collect();
        let of = all.iter().filter(|sample| sample.cluster == cluster && !sample.failed()).count();
        of as f64 / all.len().max(1) as f64
    }

    /// Requests a second that a cluster answered in a while.
    pub fn rate(&self, cluster: &str, from: Duration, to: Duration) -> f64 {
        let within = |sample: &&Sample| sample.due >= from && sample.due < to && sample.cluster == cluster;
        self.samples.iter().filter(within).filter(|sample| !sample.failed()).count() as f64 / (to - from).as_secs_f64()
    }

    /// How often, in order of what was due, the answering cluster changed.
    pub fn moves(&self, from: Duration) -> Vec<(Duration, String)> {
        let mut order: Vec<_> = self
            .samples
            .iter()
            .filter(|sample| sample.due >= from && !sample.failed())
            .map(|sample| (sample.due, sample.cluster.clone()))
            .collect();
        order.sort();
        order.dedup_by(|(_, later), (_, earlier)| later == earlier);
        order
    }
}
