//! The desk: the single owner of all inputs. It compiles them, versions the result, and decides every 500 ms.
//!
//! Inputs change in bursts, so a change waits [`COALESCE`] for others. Nothing is handed out before the
//! objects were read once and the other clusters' words are known, from disk, from another replica or from the member, or [`GRACE`]
//! has passed: a control that just started must not tell its proxies that the rest of the world is gone. In a pod it has no disk of
//! an earlier one, so there it waits for its member for [`PATIENCE`], and as long for the sidecars of pods that are ready: that there
//! are no endpoints is not its to say before. It is ready before that, because member and sidecars come to it.

mod compiling;
mod keeping;
mod messages;
mod replicas;
mod reports;
pub mod shown;
mod steering;
mod wishes;

pub use keeping::Disk;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use isthmus_core::{
    compile,
    statement::{Content, Lease},
};
use isthmus_runtime::{disk, drain::Drain, readiness::Part};
use isthmus_wire::federation::Standing as FederationStanding;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    clients::Clients,
    compiler::{Compiled, Indexes, Setting},
    decider::{self, Decider},
    failover::{self, Failover},
    handle::{Message, SpeakerView},
    heard::World,
    metrics::Metrics,
    registry::{Registered, Registry, pods},
    replicas::Deeds,
    sources::Sources,
    table::{Snapshot, Table},
    whereabouts::{self, Resolved},
};

/// What changes within so long is compiled at once.
pub const COALESCE: Duration = Duration::from_millis(10);
/// The beat of decisions (DESIGN.md decision 26).
pub const BEAT: Duration = Duration::from_millis(500);
/// How long a control without any memory of other clusters waits for its member before it speaks to its proxies.
pub const GRACE: Duration = Duration::from_secs(2);
/// The same in a cluster of Kubernetes, whose member may be replaced at the same time.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Messages that wait for the desk.
pub const QUEUE: usize = 1024;

/// Where the desk hands out what it makes.
pub struct Outputs {
    /// To feed streams.
    pub snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// To the speaker.
    pub contents: watch::Sender<Option<Vec<Content>>>,
    /// What goes with each lease, to the speaker.
    pub lease: watch::Sender<Lease>,
    /// To DNS.
    pub compiled: watch::Sender<Option<Arc<Compiled>>>,
    /// To the other replicas, where this one speaks.
    pub deeds: watch::Sender<Option<Arc<Deeds>>>,
    /// Ready once objects were read, and the member answered or had its time.
    pub ready: Part,
}

/// The desk.
pub struct Desk {
    /// What holds of the own cluster now.
    setting: Setting,
    /// What the configuration says of it.
    configured: compile::Setting,
    /// Addresses of what the configuration names.
    resolved: Resolved,
    disk: Disk,
    outputs: Outputs,
    metrics: Metrics,
    began: Instant,
    table: Table,
    sources: Option<Sources>,
    world: Option<Arc<World>>,
    registry: Registry,
    clients: Clients,
    decider: Decider,
    failover: Failover,
    /// Whether there may be other replicas.
    replicated: bool,
    /// Whether it begins without a memory that another replica may have.
    forgetful: bool,
    compiled: Arc<Compiled>,
    indexes: Indexes,
    /// Whether they are on disk as they are.
    indexes_kept: bool,
    speaker: SpeakerView,
    federation: FederationStanding,
    /// Streams of gateways that reported paths, by name.
    gateways: BTreeMap<u64, String>,
    compile_at: Option<Instant>,
    /// Who waits until an own verb is in the log.
    waiting: Vec<(String, oneshot::Sender<()>)>,
    /// What was compiled last of registrations, to see whether time alone changed them.
    standing: Vec<Registered>,
}

impl Desk {
    /// With what an earlier run knew.
    ///
    /// # Errors
    /// When a file is there but cannot be read.
    pub fn open(setting: Setting, disk: Disk, outputs: Outputs, metrics: Metrics) -> Result<Self, disk::DiskError> {
        let registered = disk::load_versioned(disk.registrations.path(), keeping::DISK_VERSION)?.unwrap_or_default();
        let decided: Option<decider::OnDisk> = disk::load_versioned(disk.decisions.path(), keeping::DISK_VERSION)?;
        let indexes = disk::load_versioned(disk.indexes.path(), keeping::DISK_VERSION)?.unwrap_or_default();
        let failover: Option<failover::OnDisk> = disk::load_versioned(disk.failover.path(), keeping::DISK_VERSION)?;
        let run = format!("{:016x}", fastrand::u64(..));
        Ok(Self {
            replicated: false,
            forgetful: decided.is_none() && failover.is_none(),
            decider: Decider::restored(setting.cluster.clone(), decided.unwrap_or_default()),
            failover: Failover::restored(setting.cluster.clone(), failover.unwrap_or_default()),
            configured: setting.core.clone(),
            resolved: Resolved::default(),
            setting,
            disk,
            outputs,
            metrics,
            began: Instant::now(),
            table: Table::new(&run),
            sources: None,
            world: None,
            registry: Registry::restored(registered, 0),
            clients: Clients::default(),
            compiled: Arc::default(),
            indexes,
            indexes_kept: true,
            speaker: SpeakerView::default(),
            federation: FederationStanding::default(),
            gateways: BTreeMap::new(),
            compile_at: None,
            waiting: vec![],
            standing: vec![],
        })
    }

    /// It may be one of several replicas: a memory that it lacks it gets from another one, and only who speaks may act.
    #[must_use]
    pub fn replicated(self) -> Self {
        Self { replicated: true, ..self }
    }

    /// Works until the drain.
    pub async fn run(mut self, mut messages: mpsc::Receiver<Message>, drain: Drain) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let compile_at = self.compile_at;
            tokio::select! {
                () = drain.draining() => break,
                message = messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                _ = beat.tick() => self.beat(),
                () = async { match compile_at { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {
                    self.compile();
                }
            }
        }
        self.keep();
    }

    /// Milliseconds since this control began.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn changed(&mut self) {
        self.compile_at.get_or_insert_with(|| Instant::now() + COALESCE);
    }

    /// Every 500 ms: decide, and see what time alone changed.
    fn beat(&mut self) {
        let now = self.now();
        self.look_ready();
        self.registry.tick(now);
        if let Some(facts) = self.sources.as_ref().and_then(|sources| sources.facts.as_deref()) {
            self.registry.forget(|registered| pods::pod(registered, &facts.workloads).is_some());
        }
        self.clients.tick(now);
        // Before the other clusters are known, what an earlier run decided of them stands.
        let world = self.world.clone();
        let moves = world.map(|world| self.decider.decide(&world, now)).unwrap_or_default();
        moves.moved.iter().for_each(|moved| self.remember(moved));
        self.look_at_verbs();
        self.prepare_lease();
        if moves.changed || self.endpoints() != self.standing || self.compile_is_overdue() {
            self.changed();
        }
        self.steer_on();
        self.keep();
        self.tell_deeds();
    }

    /// What is known of where things are changed.
    fn settle(&mut self) {
        let facts = self.sources.as_ref().and_then(|sources| sources.facts.as_deref());
        self.setting.core = whereabouts::settle(&self.configured, &self.resolved, facts);
        self.changed();
    }

    /// Endpoints as they stand now.
    fn endpoints(&self) -> Vec<Registered> {
        let registered = self.registry.standing(self.now());
        match self.sources.as_ref().and_then(|sources| sources.facts.as_deref()) {
            Some(facts) => pods::standing(registered, &facts.workloads),
            None => registered,
        }
    }

    /// A cluster that joined again with another key counts its versions anew.
    fn rekey(&mut self, world: &World) {
        let Some(before) = &self.world else { return };
        for (name, member) in &world.members {
            if before.members.get(name).is_some_and(|old| old.key != member.key) {
                self.decider.rekeyed(name);
            }
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
