//! What is observed of each remote cluster, and what is decided from it (DESIGN.md decisions 25 and 26).
//!
//! Two signals: paths, as own gateways report them, and leases, counted on the own monotonic clock whichever way they
//! came. The machine that judges them is `isthmus_core::failover`; here its inputs are gathered, its outputs made
//! calm (the round trip is the least of a window, rounded) and its moves remembered.

mod observed;
mod row;
mod verdict;

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{distance::Distance, failover::Judge, model::Standing, name::ClusterName, statement::Version};
use isthmus_wire::feed::{ClusterEvidence, PathReport};

use self::observed::{Lease, Observed};
pub use self::verdict::{Beat, Move, OnDisk, Verdict, Way};
use crate::heard::World;

/// The endpoints of a cluster that is dead for so long are dropped, unless its own MeshCluster says otherwise.
pub const STALE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Everything observed and decided.
#[derive(Debug)]
pub struct Decider {
    own: ClusterName,
    clusters: BTreeMap<ClusterName, Observed>,
    changed: bool,
    stale_after: Duration,
}

impl Decider {
    /// With what an earlier run decided: it stands until something new is seen.
    #[must_use]
    pub fn restored(own: ClusterName, on_disk: OnDisk) -> Self {
        let observed = |(name, verdict): (ClusterName, Verdict)| {
            let judge = Judge::restored(Duration::ZERO, verdict.standing, verdict.share);
            (name, Observed { verdict, distance: Distance::restored(verdict.rtt_us), ..Observed::with(judge) })
        };
        let clusters = on_disk.into_iter().map(observed).collect();
        Self { own, clusters, changed: false, stale_after: STALE_AFTER }
    }

    /// How long the endpoints of a dead cluster are kept; `None`: [`STALE_AFTER`].
    pub fn set_stale_after(&mut self, after: Option<Duration>) {
        self.stale_after = after.unwrap_or(STALE_AFTER);
    }

    /// Whether a cluster was left, how it stands, and why; `None`: it is no member.
    #[must_use]
    pub fn sight(&self, cluster: &ClusterName) -> Option<(bool, Standing, &'static str)> {
        let observed = self.clusters.get(cluster)?;
        Some((observed.verdict.share <= 0.0, observed.verdict.standing, observed.judge.decision().why))
    }

    /// How many other clusters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// What to keep on disk, if it changed since it was asked for last.
    pub fn take_changed(&mut self) -> Option<OnDisk> {
        std::mem::take(&mut self.changed).then(|| self.verdicts())
    }

    /// What was taken could not be kept: it is to be asked for again.
    pub fn not_kept(&mut self) {
        self.changed = true;
    }

    /// A gateway reports a path.
    pub fn path(&mut self, gateway: &str, report: PathReport, now: u64) {
        if let Some(observed) = self.known(&report.cluster, now) {
            observed.paths.insert(gateway.to_owned(), (now, report));
        }
    }

    /// A gateway left the feed: what it reported says nothing any more.
    pub fn gateway_lost(&mut self, gateway: &str) {
        self.clusters.values_mut().for_each(|observed| {
            observed.paths.remove(gateway);
        });
    }

    /// A verified lease; `false` when it is no news.
    pub fn lease(&mut self, cluster: &ClusterName, version: Version, member: bool, way: Way, now: u64) -> bool {
        if *cluster == self.own {
            return false;
        }
        let observed = self.clusters.entry(cluster.clone()).or_insert_with(|| Observed::new(now));
        let fresh = version > observed.lease.version;
        if fresh {
            observed.lease = Lease { version, heard_at: now, way: Some(way) };
            observed.judge.lease(Duration::from_millis(now), member);
        }
        fresh
    }

    /// The cluster speaks with another key now: its old versions say nothing of its new ones.
    pub fn rekeyed(&mut self, cluster: &ClusterName) {
        if let Some(observed) = self.clusters.get_mut(cluster) {
            observed.lease.version = Version::default();
        }
    }

    /// What a proxy's requests showed. Proxies act on it themselves, at once; here it is added up for people.
    pub fn evidence(&mut self, evidence: &ClusterEvidence, now: u64) {
        if let Some(observed) = self.known(&evidence.cluster, now) {
            let sum = &mut observed.evidence;
            sum.succeeded = sum.succeeded.saturating_add(evidence.succeeded);
            sum.failed = sum.failed.saturating_add(evidence.failed);
            sum.unanswered = sum.unanswered.saturating_add(evidence.unanswered);
        }
    }

    /// Judges every member.
    pub fn decide(&mut self, world: &World, now: u64) -> Beat {
        self.clusters.retain(|name, _| world.members.contains_key(name));
        let mut beat = Beat::default();
        for name in world.members.keys() {
            let observed = self.clusters.entry(name.clone()).or_insert_with(|| Observed::new(now));
            let from = observed.verdict.standing;
            beat.changed |= observed.judge(now, self.stale_after);
            let (to, why) = (observed.verdict.standing, observed.judge.decision().why);
            if from != to {
                beat.moved.push(Move { cluster: name.clone(), from, to, why });
            }
        }
        self.changed |= beat.changed;
        beat
    }

    /// What is in force of every cluster.
    #[must_use]
    pub fn verdicts(&self) -> OnDisk {
        self.clusters.iter().map(|(name, observed)| (name.clone(), observed.verdict)).collect()
    }

    fn known(&mut self, cluster: &str, now: u64) -> Option<&mut Observed> {
        let name: ClusterName = cluster.parse().ok().filter(|name| *name != self.own)?;
        Some(self.clusters.entry(name).or_insert_with(|| Observed::new(now)))
    }
}

#[cfg(test)]
mod tests;
