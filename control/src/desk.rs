//! The desk: the single owner of all inputs. It compiles them, versions the result, and decides every 500 ms.
//!
//! Inputs change in bursts, so a change waits [`COALESCE`] for others. Nothing is handed out before the files were
//! read once and the other clusters' words are known, from disk or from the member, or [`GRACE`] has passed: a control
//! that just started must not tell its proxies that the rest of the world is gone.

mod reports;
pub mod shown;
mod steering;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use isthmus_core::statement::{Content, Lease};
use isthmus_runtime::{
    disk::{self, Keeper},
    drain::Drain,
};
use isthmus_wire::federation::Standing as FederationStanding;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    clients::{Clients, Role},
    compiler::{self, Compiled, Indexes, Input, Setting},
    decider::{Decider, Way},
    failover::Failover,
    handle::{Message, SpeakerView},
    heard::World,
    metrics::Metrics,
    registry::{Registered, Registry},
    sources::Files,
    table::{Snapshot, Table},
};

/// What changes within so long is compiled at once.
pub const COALESCE: Duration = Duration::from_millis(10);
/// The beat of decisions (DESIGN.md decision 26).
pub const BEAT: Duration = Duration::from_millis(500);
/// How long a control without any memory of other clusters waits for its member before it speaks to its proxies.
pub const GRACE: Duration = Duration::from_secs(2);
/// Messages that wait for the desk.
pub const QUEUE: usize = 1024;
/// Version of the files of registrations and decisions.
const DISK_VERSION: u32 = 1;

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
}

/// Files of the desk.
#[derive(Debug)]
pub struct Disk {
    /// Registrations.
    pub registrations: Keeper,
    /// Decisions.
    pub decisions: Keeper,
    /// Address indexes of services.
    pub indexes: Keeper,
    /// Verbs, shares, history.
    pub failover: Keeper,
}

/// The desk.
pub struct Desk {
    setting: Setting,
    disk: Disk,
    outputs: Outputs,
    metrics: Metrics,
    began: Instant,
    table: Table,
    files: Option<Files>,
    world: Option<Arc<World>>,
    registry: Registry,
    clients: Clients,
    decider: Decider,
    failover: Failover,
    compiled: Arc<Compiled>,
    indexes: Indexes,
    /// Whether they are on disk as they are.
    indexes_kept: bool,
    speaker: SpeakerView,
    federation: FederationStanding,
    /// Streams of gateways that reported paths, by name.
    gateways: BTreeMap<u64, String>,
    compile_at: Option<Instant>,
    /// What was compiled last of registrations, to see whether time alone changed them.
    standing: Vec<Registered>,
}

impl Desk {
    /// With what an earlier run knew.
    ///
    /// # Errors
    /// When a file is there but cannot be read.
    pub fn open(setting: Setting, disk: Disk, outputs: Outputs, metrics: Metrics) -> Result<Self, disk::DiskError> {
        let registered = disk::load_versioned(disk.registrations.path(), DISK_VERSION)?.unwrap_or_default();
        let decided = disk::load_versioned(disk.decisions.path(), DISK_VERSION)?.unwrap_or_default();
        let indexes = disk::load_versioned(disk.indexes.path(), DISK_VERSION)?.unwrap_or_default();
        let failover = disk::load_versioned(disk.failover.path(), DISK_VERSION)?.unwrap_or_default();
        let run = format!("{:016x}", fastrand::u64(..));
        Ok(Self {
            decider: Decider::restored(setting.cluster.clone(), decided),
            failover: Failover::restored(setting.cluster.clone(), failover),
            setting,
            disk,
            outputs,
            metrics,
            began: Instant::now(),
            table: Table::new(&run),
            files: None,
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
            standing: vec![],
        })
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

    fn take(&mut self, message: Message) {
        match message {
            Message::Files(files) => {
                self.files = Some(files);
                self.changed();
            }
            Message::World(world) => {
                if self.world.as_ref() != Some(&world) {
                    self.rekey(&world);
                    self.world = Some(world);
                    self.look_at_verbs();
                    self.changed();
                }
            }
            Message::Lease(lease) => self.lease(&lease, Way::Member),
            Message::OwnLease(lease) => self.own_lease(&lease),
            Message::Federation(standing) => self.federation = standing,
            Message::Speaker(view) => self.speaker = view,
            Message::Look(reply) => {
                let _ = reply.send(self.view());
            }
            Message::Do(wish, reply) => {
                let _ = reply.send(self.wish(wish));
            }
            Message::TakeBack(name, reply) => {
                let _ = reply.send(self.take_back(&name));
            }
            Message::Simulate(down, reply) => {
                let _ = reply.send(self.simulate(&down));
            }
            client => self.client(client),
        }
    }

    fn client(&mut self, message: Message) {
        match message {
            Message::Opened { stream, role, name, identity } => {
                self.metrics.clients.inc();
                if role == Role::Gateway {
                    self.gateways.insert(stream, name.clone());
                }
                self.clients.opened(stream, role, &name, identity);
            }
            Message::Sent { stream, nonce, version, keys } => self.clients.sent(stream, nonce, version, keys),
            Message::Answered { stream, nonce, refusals } => {
                self.metrics.nacks.inc_by(refusals.len() as u64);
                self.clients.answered(stream, nonce, refusals);
            }
            Message::Register { stream, registered, reply } => {
                let _ = reply.send(self.register(stream, *registered));
            }
            Message::RegistrationRefused { stream, reason } => {
                self.metrics.registrations_refused.inc();
                self.clients.registered(stream, "", Some(reason));
            }
            Message::Report { stream, role, report } => self.report(stream, role, report),
            Message::Closed { stream } => self.closed(stream),
            _ => {}
        }
    }

    fn register(&mut self, stream: u64, registered: Registered) -> Result<(), String> {
        let zone = registered.locality.zone.clone();
        let taken = self.registry.register(stream, registered).map_err(|refused| refused.to_string());
        if taken.is_err() {
            self.metrics.registrations_refused.inc();
        }
        self.clients.registered(stream, &zone, taken.clone().err());
        self.changed();
        taken
    }

    fn closed(&mut self, stream: u64) {
        let now = self.now();
        self.metrics.clients.dec();
        self.registry.lost(stream, now);
        self.clients.closed(stream, now);
        if let Some(gateway) = self.gateways.remove(&stream)
            && !self.gateways.values().any(|other| *other == gateway)
        {
            self.decider.gateway_lost(&gateway);
        }
    }

    /// Every 500 ms: decide, and see what time alone changed.
    fn beat(&mut self) {
        let now = self.now();
        self.registry.tick(now);
        self.clients.tick(now);
        // Before the other clusters are known, what an earlier run decided of them stands.
        let world = self.world.clone();
        let moves = world.map(|world| self.decider.decide(&world, now)).unwrap_or_default();
        moves.moved.iter().for_each(|moved| self.remember(moved));
        self.look_at_verbs();
        self.prepare_lease();
        if moves.changed || self.registry.standing(now) != self.standing || self.compile_is_overdue() {
            self.changed();
        }
        self.steer_on();
        self.keep();
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

    fn may_hand_out(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.known) && (self.world.is_some() || self.began.elapsed() >= GRACE)
    }

    fn compile_is_overdue(&self) -> bool {
        self.outputs.snapshots.borrow().is_none() && self.may_hand_out()
    }

    fn compile(&mut self) {
        self.compile_at = None;
        if !self.may_hand_out() {
            return;
        }
        let timer = self.metrics.compile_seconds.start_timer();
        self.standing = self.registry.standing(self.now());
        let world = self.world.clone().unwrap_or_default();
        let files = self.files.clone().unwrap_or_default();
        let pins = self.failover.verbs.pins(Duration::from_millis(self.now()));
        let born = self.failover.born(compiler::policies(&files), unix_ms()).clone();
        let mut compiled = compiler::compile(&Input {
            setting: &self.setting,
            files: &files,
            registered: &self.standing,
            world: &world,
            verdicts: &self.decider.verdicts(),
            indexes: &self.indexes,
            born: &born,
            pins: &pins,
        });
        self.decider.set_stale_after(compiled.stale_after);
        compiled.contents.extend(self.failover.contents());
        let decided = self.steer(&compiled.orders);
        compiled.resources.extend(decided);
        timer.observe_duration();
        match self.table.replace(compiled.resources.clone(), "lease") {
            Ok(changed) => self.metrics.resource_changes.inc_by(changed.len() as u64),
            Err(error) => tracing::error!(%error, "a compiled resource has no JSON; what was in force stays"),
        }
        self.tell_faults(&files, &compiled);
        self.keep_indexes(&compiled);
        self.compiled = Arc::new(compiled);
        self.hand_out();
        self.outputs.contents.send_if_modified(|contents| {
            let differs = contents.as_ref() != Some(&self.compiled.contents);
            *contents = Some(self.compiled.contents.clone());
            differs
        });
        self.outputs.compiled.send_replace(Some(self.compiled.clone()));
    }

    /// An address that was told to anybody must not move: indexes are on disk before they are handed out, and where the
    /// disk takes nothing, as soon as it does.
    fn keep_indexes(&mut self, compiled: &Compiled) {
        if self.indexes != compiled.indexes {
            self.indexes.clone_from(&compiled.indexes);
            self.indexes_kept = self.disk.indexes.keep(DISK_VERSION, &self.indexes);
        }
    }

    fn tell_faults(&self, files: &Files, compiled: &Compiled) {
        for fault in compiled.faults.iter().filter(|fault| !self.compiled.faults.contains(fault)) {
            tracing::error!(%fault, "an object is refused; the rest is in force");
        }
        let in_files: usize = files.files.iter().map(|(_, _, faults)| faults.len()).sum();
        self.metrics.faults.set(i64::try_from(in_files + compiled.faults.len()).unwrap_or(i64::MAX));
    }

    fn hand_out(&self) {
        let snapshot = self.table.snapshot();
        self.metrics.resources.set(i64::try_from(snapshot.entries.len()).unwrap_or(i64::MAX));
        if self.may_hand_out() && self.table.snapshot().entries.contains_key("mesh") {
            self.outputs.snapshots.send_replace(Some(Arc::new(snapshot.clone())));
        }
    }

    /// Puts on disk what changed; what cannot be kept is tried again at the next beat.
    fn keep(&mut self) {
        if !self.indexes_kept {
            self.indexes_kept = self.disk.indexes.keep(DISK_VERSION, &self.indexes);
        }
        if let Some(registered) = self.registry.take_changed()
            && !self.disk.registrations.keep(DISK_VERSION, &registered)
        {
            self.registry.not_kept();
        }
        if let Some(fresh) = self.failover.to_keep()
            && self.disk.failover.keep(DISK_VERSION, &fresh)
        {
            self.failover.kept(fresh);
        }
        if let Some(decided) = self.decider.take_changed()
            && !self.disk.decisions.keep(DISK_VERSION, &decided)
        {
            self.decider.not_kept();
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
