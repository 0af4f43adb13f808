//! What is observed of each remote cluster, and what is decided from it (DESIGN.md decisions 25 and 26).
//!
//! Two signals: paths, as own gateways report them, and leases, counted on the own monotonic clock whichever way they
//! came. The machine that judges them is `isthmus_core::failover`; here its inputs are gathered, its outputs made
//! calm (the round trip is the least of a window, rounded) and its moves remembered.

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{
    distance::Distance,
    failover::{Judge, Path},
    model::{RemoteCluster, Standing},
    name::ClusterName,
    statement::{Content, Version},
};
use isthmus_wire::feed::{ClusterEvidence, PathReport};
use serde::{Deserialize, Serialize};

use crate::{
    heard::World,
    view::{ClusterRow, EvidenceRow, PathRow},
};

/// The endpoints of a cluster that is dead for so long are dropped, unless its own MeshCluster says otherwise.
pub const STALE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// A gateway that reported nothing in so long is not asked any more, milliseconds.
const REPORT_COUNTS: u64 = 5_000;
/// Why nothing of a cluster can be reached that others cannot dial.
const NO_WAY: &str = "it names no gateway and has dialled none of ours: nothing there can be reached";

/// How a lease came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the own member.
    Member,
    /// By a tunnel, reported by an own gateway.
    Tunnel,
}

impl Way {
    /// As people and metrics read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Tunnel => "tunnel",
        }
    }
}

/// What was decided of a cluster, as the feed carries it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The part of its traffic it shall get.
    pub share: f64,
    /// How it stands.
    pub standing: Standing,
    /// Round trip as [`Distance`] has it, microseconds.
    pub rtt_us: u64,
    /// It is dead for so long that its endpoints count no more.
    #[serde(default)]
    pub stale: bool,
}

impl Default for Verdict {
    /// Nothing is known against it.
    fn default() -> Self {
        Self { share: 1.0, standing: Standing::Unknown, rtt_us: 0, stale: false }
    }
}

/// What a beat changed.
#[derive(Debug, Default)]
pub struct Beat {
    /// Whether any verdict changed.
    pub changed: bool,
    /// Standings that moved.
    pub moved: Vec<Move>,
}

/// A standing that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whose.
    pub cluster: ClusterName,
    /// From.
    pub from: Standing,
    /// To.
    pub to: Standing,
    /// Why.
    pub why: &'static str,
}

/// What is kept on disk: a restarted control goes on where it was.
pub type OnDisk = BTreeMap<ClusterName, Verdict>;

#[derive(Debug, Default)]
struct Lease {
    version: Version,
    heard_at: u64,
    way: Option<Way>,
}

#[derive(Debug)]
struct Observed {
    judge: Judge,
    lease: Lease,
    /// By own gateway: when it reported, and what.
    paths: BTreeMap<String, (u64, PathReport)>,
    verdict: Verdict,
    distance: Distance,
    evidence: EvidenceRow,
}

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

    /// A cluster as people see it.
    #[must_use]
    pub fn row(&self, cluster: &RemoteCluster, world: Option<&World>, now: u64) -> ClusterRow {
        let observed = self.clusters.get(&cluster.name);
        let paths: Vec<_> = observed.map(|observed| observed.path_rows(now)).unwrap_or_default();
        let lease = observed.map(|observed| &observed.lease).filter(|lease| lease.way.is_some());
        let card = world.and_then(|world| world.contents.get(&cluster.name)?.get("card"));
        let zones = match card.map(AsRef::as_ref) {
            Some(Content::Card(card)) => card.zones.clone(),
            _ => vec![],
        };
        ClusterRow {
            name: cluster.name.to_string(),
            own: false,
            region: cluster.region.clone(),
            zones,
            standing: cluster.standing,
            share: cluster.share,
            rtt_us: cluster.rtt_us,
            loss_ppm: paths.iter().map(|path| path.loss_ppm).max().unwrap_or(0),
            transport: paths.first().map(|path| path.transport.clone()).unwrap_or_default(),
            tunnels: paths.iter().map(|path| path.tunnels).sum(),
            lease_age_ms: lease.map(|lease| now.saturating_sub(lease.heard_at)),
            lease_by: lease.and_then(|lease| lease.way).map(|way| way.word().to_owned()).unwrap_or_default(),
            paths,
            why: match observed {
                _ if cluster.gateways.is_empty() && !observed.is_some_and(Observed::has_tunnel) => NO_WAY.into(),
                Some(observed) => observed.judge.decision().why.to_owned(),
                None => String::new(),
            },
            since_seconds: observed.map_or(0, |observed| observed.since_seconds(now)),
            gateways: cluster.gateways.rows(),
            trust_domain: cluster.trust_domain.to_string(),
            bound_by: world.map(|world| world.bound_by(&cluster.name)).unwrap_or_default(),
            requests: observed.map(|observed| observed.evidence.clone()).unwrap_or_default(),
        }
    }
}

impl Observed {
    fn new(now: u64) -> Self {
        Self::with(Judge::new(Duration::from_millis(now)))
    }

    fn with(judge: Judge) -> Self {
        Self {
            judge,
            lease: Lease::default(),
            paths: BTreeMap::new(),
            verdict: Verdict::default(),
            distance: Distance::default(),
            evidence: EvidenceRow::default(),
        }
    }

    fn since_seconds(&self, now: u64) -> u64 {
        Duration::from_millis(now).saturating_sub(self.judge.decision().since).as_secs()
    }

    fn has_tunnel(&self) -> bool {
        self.paths.values().any(|(_, path)| path.tunnels > 0)
    }

    /// The best of the paths that own gateways reported lately; `None`: no gateway reports, which says nothing of the
    /// other cluster. A suspect path counts as lost: its answer is overdue.
    fn best_path(&self, now: u64) -> Option<(Path, u64)> {
        let fresh = self.paths.values().filter(|(at, _)| now.saturating_sub(*at) < REPORT_COUNTS);
        let path = |(_, report): &(u64, PathReport)| match report.state.as_str() {
            "up" => (Path::Up, report.rtt_us),
            _ => (Path::Lost, 0),
        };
        fresh.map(path).min_by_key(|(path, rtt_us)| (*path == Path::Lost, *rtt_us))
    }

    fn judge(&mut self, now: u64, stale_after: Duration) -> bool {
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

    fn path_rows(&self, now: u64) -> Vec<PathRow> {
        let row = |(gateway, (at, path)): (&String, &(u64, PathReport))| PathRow {
            gateway: gateway.clone(),
            state: path.state.clone(),
            rtt_us: path.rtt_us,
            loss_ppm: path.loss_ppm,
            silent_ms: path.silent_ms.saturating_add(now.saturating_sub(*at)),
            tunnels: path.tunnels,
            transport: path.transport.clone(),
        };
        self.paths.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::Member;

    fn west() -> ClusterName {
        "west".parse().unwrap()
    }

    fn world() -> World {
        let member = Member {
            trust_domain: "west.mesh.test".parse().unwrap(),
            roots: vec![],
            key: vec![],
            addresses: vec![],
            operator: false,
        };
        World { members: [(west(), member)].into(), ..World::default() }
    }

    fn report(state: &str, rtt_us: u64) -> PathReport {
        PathReport { cluster: "west".into(), state: state.into(), rtt_us, tunnels: 2, ..PathReport::default() }
    }

    /// Plays beats of 500 ms; each with this path of the one gateway and a lease by tunnel.
    fn play(decider: &mut Decider, from: u64, beats: u64, path: &str) -> (u64, Verdict) {
        for beat in 1..=beats {
            let now = from + beat * 500;
            decider.path("gw", report(path, 1000), now);
            decider.lease(&west(), Version { epoch: 1, number: now }, true, Way::Tunnel, now);
            decider.decide(&world(), now);
        }
        (from + beats * 500, decider.verdicts()[&west()])
    }

    #[test]
    fn a_lost_path_is_left_and_the_move_is_remembered_and_kept_over_a_restart() {
        let mut decider = Decider::restored("east".parse().unwrap(), OnDisk::new());
        let (now, verdict) = play(&mut decider, 0, 4, "up");
        assert_eq!((verdict.share, verdict.standing, verdict.rtt_us), (1.0, Standing::Alive, 1000));
        let (now, verdict) = play(&mut decider, now, 6, "suspect");
        assert_eq!((verdict.share, verdict.standing), (0.0, Standing::CutOff));
        let mut again = Decider::restored("east".parse().unwrap(), decider.take_changed().unwrap());
        again.decide(&world(), now);
        assert_eq!(again.verdicts()[&west()].share, 0.0, "a restarted control returns no traffic by itself");
    }

    #[test]
    fn a_silent_gateway_of_our_own_says_nothing_of_another_cluster() {
        let mut decider = Decider::restored("east".parse().unwrap(), OnDisk::new());
        let (now, _) = play(&mut decider, 0, 4, "up");
        decider.gateway_lost("gw");
        for beat in 1..20 {
            let at = now + beat * 500;
            decider.lease(&west(), Version { epoch: 1, number: at }, true, Way::Member, at);
            decider.decide(&world(), at);
        }
        assert_eq!(decider.verdicts()[&west()].standing, Standing::Alive);
    }

    #[test]
    fn an_old_lease_is_no_news_whichever_way_it_comes() {
        let mut decider = Decider::restored("east".parse().unwrap(), OnDisk::new());
        assert!(decider.lease(&west(), Version { epoch: 2, number: 5 }, true, Way::Member, 0));
        assert!(!decider.lease(&west(), Version { epoch: 2, number: 5 }, true, Way::Tunnel, 9));
        assert!(!decider.lease(&west(), Version { epoch: 1, number: 99 }, true, Way::Tunnel, 9));
        decider.rekeyed(&west());
        assert!(decider.lease(&west(), Version { epoch: 1, number: 1 }, true, Way::Tunnel, 9), "reinstalled");
    }
}
