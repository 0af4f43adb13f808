//! A row's eyes: a load on the service in question, a control load on a local one, and what came of both.

use std::time::Duration;

use crate::{
    row::{Figures, Ground},
    stage::{HERE, Stage},
    support::{
        eventually,
        load::{Load, Sample, Target, slowest},
        url,
    },
};

/// Requests a second: an unoptimised build of every hop leaves two cores no room for more.
pub const RATE: u32 = if cfg!(debug_assertions) { 100 } else { 500 };
/// What the slowest request may take, beyond what the control suffered. Without optimisation every handshake and hop of
/// a move costs some ten times as much.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
/// On the emulated network a move to the farther cluster opens connections over three round trips of 140 ms.
const FARTHER: Duration = Duration::from_millis(420);
/// A request is slow that takes longer than this, and longer than the control's slowest.
const SLOW: Duration = Duration::from_millis(250);
/// Disturbance is counted in pieces of this length.
const PIECE: Duration = Duration::from_millis(50);

/// Both loads.
pub struct Watch {
    pub asked: Load,
    control: Load,
    ground: Ground,
}

/// What came of both.
pub struct Seen {
    pub samples: Vec<Sample>,
    control: Duration,
    ground: Ground,
}

impl Watch {
    /// On ratings, which is not to be had here.
    pub async fn ratings(stage: &Stage) -> Self {
        Self::on(stage, "ratings").await
    }

    /// On a service, one path a service as Bookinfo has it.
    pub async fn on(stage: &Stage, service: &str) -> Self {
        let to = |service: &str, rate| {
            let url = url(service, &format!("/{service}/0"));
            Load::start(Target { proxy: stage.mesh.curl(HERE), url, rate })
        };
        let watch = Self { asked: to(service, RATE), control: to("details", RATE / 10), ground: stage.ground };
        watch.goes_on(1).await;
        watch
    }

    /// Waits until so many seconds' worth of requests more were answered.
    pub async fn goes_on(&self, seconds: u32) {
        let since = self.asked.now();
        eventually("the load runs", Duration::from_secs(120), || async {
            let ran = self.asked.since(since).len();
            anyhow::ensure!(ran >= (RATE * seconds) as usize, "{ran} of {}", RATE * seconds);
            Ok(())
        })
        .await;
    }

    /// Time since it began.
    pub fn now(&self) -> Duration {
        self.asked.now()
    }

    pub async fn finish(self) -> Seen {
        let (samples, control) = (self.asked.finish().await, self.control.finish().await);
        Seen { samples, control: slowest(&control), ground: self.ground }
    }
}

impl Seen {
    /// No request failed.
    pub fn answered(self) -> Self {
        let failed: Vec<_> = self.samples.iter().filter(|sample| sample.failed()).collect();
        assert!(failed.is_empty(), "{} of {} failed, such as {:?}", failed.len(), self.samples.len(), failed.first());
        self
    }

    /// No request failed and none took a second longer than the control suffered.
    pub fn unharmed(self) -> Self {
        let seen = self.answered();
        let (slowest, control) = (slowest(&seen.samples), seen.control);
        let limit = LIMIT + if seen.ground == Ground::Network { FARTHER } else { Duration::ZERO };
        assert!(slowest < limit + control, "slowest {slowest:?}, of the control {control:?}");
        seen
    }

    /// The figures, without when it was left and returned to.
    pub fn figures(&self) -> Figures {
        Figures {
            requests: self.samples.len(),
            failed: self.samples.iter().filter(|sample| sample.failed()).count(),
            slowest: slowest(&self.samples),
            control: self.control,
            disturbed: self.disturbed(),
            ..Figures::default()
        }
    }

    /// With when a cluster was left after an event, and returned to after its end.
    pub fn left(&self, cluster: &str, event: Duration, end: Option<Duration>) -> Figures {
        let served = |from: Duration, to: Duration| {
            let within = move |at: &Duration| *at >= from && *at < to;
            let of = self.samples.iter().filter(move |sample| sample.cluster == cluster && !sample.failed());
            of.map(|sample| sample.due).filter(within)
        };
        let (whole, until) = (Duration::MAX, end.unwrap_or(Duration::MAX));
        Figures {
            left: Some(served(event, until).max().map_or(Duration::ZERO, |last| last - event)),
            back: end.and_then(|end| served(end, whole).min().map(|first| first - end)),
            ..self.figures()
        }
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

    /// For how long requests that were due failed or were slow.
    fn disturbed(&self) -> Duration {
        let slow = SLOW.max(self.control);
        let bad = self.samples.iter().filter(|sample| sample.failed() || sample.took > slow);
        let mut pieces: Vec<_> = bad.map(|sample| sample.due.as_millis() / PIECE.as_millis()).collect();
        pieces.sort_unstable();
        pieces.dedup();
        PIECE * u32::try_from(pieces.len()).unwrap_or(u32::MAX)
    }
}
