//! One remote cluster: what is observed of it, and the machine that judges that.

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{
    distance::Distance,
    failover::{Judge, Path},
    model::Standing,
    statement::Version,
};
use isthmus_wire::feed::PathReport;

use super::{Verdict, Way};
use crate::view::EvidenceRow;

/// A gateway that reported nothing in so long is not asked any more, milliseconds.
const REPORT_COUNTS: u64 = 5_000;

/// The last lease that was news.
#[derive(Debug, Default)]
pub(super) struct Lease {
    pub(super) version: Version,
    /// Milliseconds since this control began.
    pub(super) heard_at: u64,
    pub(super) way: Option<Way>,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) judge: Judge,
    pub(super) lease: Lease,
    /// By own gateway: when it reported, and what.
    pub(super) paths: BTreeMap<String, (u64, PathReport)>,
    pub(super) verdict: Verdict,
    pub(super) distance: Distance,
    pub(super) evidence: EvidenceRow,
}

impl Observed {
    /// Of which nothing is known yet.
    pub(super) fn new(now: u64) -> Self {
        Self::with(Judge::new(Duration::from_millis(now)))
    }

    /// With what is known of it.
    pub(super) fn with(judge: Judge) -> Self {
        Self {
            judge,
            lease: Lease::default(),
            paths: BTreeMap::new(),
            verdict: Verdict::default(),
            distance: Distance::default(),
            evidence: EvidenceRow::default(),
        }
    }

    /// How long it stands as it does.
    pub(super) fn since_seconds(&self, now: u64) -> u64 {
        Duration::from_millis(now).saturating_sub(self.judge.decision().since).as_secs()
    }

    /// The best of the paths that own gateways reported lately; `None`: no gateway reports, which says nothing of the
    /// other cluster. A suspect path counts as lost: its answer is overdue.
    fn best_path(&self, now: u64) -> Option<(Path, u64)> {
        let path = |report: &PathReport| match report.state.as_str() {
            "up" => (Path::Up, report.rtt_us),
            _ => (Path::Lost, 0),
        };
        self.reports(now).map(path).min_by_key(|(path, rtt_us)| (*path == Path::Lost, *rtt_us))
    }

    fn reports(&self, now: u64) -> impl Iterator<Item = &PathReport> {
        let is_fresh = move |(at, _): &&(u64, PathReport)| now.saturating_sub(*at) < REPORT_COUNTS;
        self.paths.values().filter(is_fresh).map(|(_, report)| report)
    }

    /// Why there is no path, as the first gateway that knows says it; for people, nothing is decided by it.
    pub(super) fn trouble(&self, now: u64) -> Option<&str> {
        self.best_path(now).filter(|(path, _)| *path == Path::Lost)?;
        self.reports(now).map(|report| report.why.as_str()).find(|why| !why.is_empty())
    }

    /// Judges it; whether the verdict is another one.
    pub(super) fn judge(&mut self, now: u64, stale_after: Duration) -> bool {
        if let Some((path, rtt_us)) = self.best_path(now) {
            self.judge.path(Duration::from_millis(now), path);
            self.distance.measured(Duration::from_millis(now), rtt_us);
        }
        let decision = self.judge.decide(Duration::from_millis(now));
        let verdict = Verdict {
            share: (decision.share * 1000.0).round() / 1000.0,
            standing: decision.standing,
            rtt_us: self.distance.us(),
            stale: decision.standing == Standing::Dead
                && Duration::from_millis(now).saturating_sub(decision.since) >= stale_after,
        };
        std::mem::replace(&mut self.verdict, verdict) != verdict
    }
}
