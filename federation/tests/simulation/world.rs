//! The clusters of a story: how a member begins, falls, comes back, and is installed anew.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join;
use isthmus_federation::state::Command;
use isthmus_wire::{federation::JoinResponse, signing::FederationKey};
use parking_lot::Mutex;

use crate::{
    control::Said,
    disk::Disk,
    member::{Itself, Member},
    network::{Ear, Letter, Network},
    place::Place,
    plant::Plant,
    trickery::Trickery,
    types::{millis, spawn},
    witness::{Seen, Witness},
    words::{self, Ticket},
};

/// The cluster that begins the mesh: its operator.
pub const FIRST: &str = "us-east";
/// Names, in the order in which they join.
const NAMES: [&str; 5] = [FIRST, "us-west", "eu-west", "ap-south", "sa-east"];

/// A cluster.
pub struct Cluster {
    /// Where its member is.
    pub place: Place,
    seat: Mutex<Seat>,
    /// What its control says.
    pub said: Mutex<Said>,
}

#[derive(Default)]
struct Seat {
    member: Option<Arc<Member>>,
    installed: Option<(Itself, Arc<FederationKey>)>,
    /// Somebody is bringing it back.
    busy: bool,
    ejected: bool,
}

/// All of them.
pub struct World {
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// What is between them.
    pub network: Network,
    /// Who is told.
    pub witness: Witness,
    /// What everything that is left to chance is drawn from.
    pub dice: Mutex<fastrand::Rng>,
    /// The tokens that were issued, and the commands that did it.
    pub tickets: Mutex<Vec<(Ticket, Command)>>,
    /// No more trouble: the end is near.
    pub calm: AtomicBool,
    /// Nothing more happens.
    pub over: AtomicBool,
}

impl World {
    /// So many clusters, none of which is a member of anything.
    pub fn new(seed: u64, count: usize, plant: Option<Plant>) -> Arc<Self> {
        let (network, witness) = (Network::new(seed ^ 0x6e65), Witness::default());
        let (keys, trickery) = (Arc::new(Mutex::new(BTreeMap::new())), Trickery::default());
        let clusters = NAMES.iter().take(count).enumerate().map(|(at, name)| {
            let disk = Disk::new(seed ^ (at as u64) << 8);
            let (network, witness, keys, trickery) =
                (network.clone(), witness.clone(), Arc::clone(&keys), trickery.clone());
            let place = Place { cluster: (*name).to_owned(), disk, network, witness, plant, keys, trickery };
            Cluster { place, seat: Mutex::default(), said: Mutex::default() }
        });
        let (dice, calm, over) =
            (Mutex::new(fastrand::Rng::with_seed(seed)), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { clusters: clusters.collect(), network, witness, dice, tickets: Mutex::default(), calm, over })
    }

    /// A number below `end`.
    pub fn roll(&self, end: u64) -> u64 {
        self.dice.lock().u64(..end)
    }

    /// The name of a cluster.
    pub fn name(&self, at: usize) -> &str {
        &self.clusters[at].place.cluster
    }

    /// Its member, if it is up.
    pub fn member(&self, at: usize) -> Option<Arc<Member>> {
        self.clusters[at].seat.lock().member.clone().filter(|member| member.is_up())
    }

    /// Whether it was ejected.
    pub fn is_ejected(&self, at: usize) -> bool {
        self.clusters[at].seat.lock().ejected
    }

    /// It is ejected.
    pub fn set_ejected(&self, at: usize) {
        self.clusters[at].seat.lock().ejected = true;
    }

    /// Clusters that belong to the mesh.
    pub fn belonging(&self) -> Vec<usize> {
        (0..self.clusters.len()).filter(|at| !self.is_ejected(*at)).collect()
    }

    /// The member that leads, as far as it knows.
    pub fn leader(&self) -> Option<usize> {
        self.belonging().into_iter().find(|at| self.member(*at).is_some_and(|member| member.raft().is_leader()))
    }

    /// Whether the story goes on.
    pub fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && self.witness.violation().is_none()
    }

    /// Whether it is past the time of troubles.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// The first member.
    pub async fn bootstrap(&self) {
        let key = Arc::new(self.new_key(0));
        let (command, record) = words::bootstrap(self.name(0), &key);
        let record = prost::Message::decode(record.0.as_slice()).expect("it was just encoded");
        let member = self
            .install(0, Itself { raft_id: 1, members: vec![record], deeds: vec![command.clone()] }, key)
            .await
            .expect("it is the first");
        let nodes = BTreeMap::from([(1, isthmus_federation::raft::Node { cluster: self.name(0).to_owned() })]);
        member.raft().initialize(nodes).await.expect("it is alone");
        member.write(&command).await.expect("it is alone");
    }

    fn new_key(&self, at: usize) -> FederationKey {
        let key = words::key(self.roll(u64::MAX));
        self.witness.tell(&Seen::Keyed { cluster: self.name(at), key: &key.public() });
        key
    }

    async fn install(&self, at: usize, itself: Itself, key: Arc<FederationKey>) -> Option<Arc<Member>> {
        let cluster = &self.clusters[at];
        cluster.place.keys.lock().insert(self.name(at).to_owned(), Arc::clone(&key));
        *cluster.said.lock() = Said::default();
        cluster.seat.lock().installed = Some((itself, key));
        self.start(at).await
    }

    /// Begins with what is on the disk.
    async fn start(&self, at: usize) -> Option<Arc<Member>> {
        let cluster = &self.clusters[at];
        let (itself, key) = cluster.seat.lock().installed.clone()?;
        let name = self.name(at);
        match Member::open(cluster.place.clone(), key, &itself).await {
            Ok(member) => {
                self.witness.note(&format!("{name} begins, as {}", itself.raft_id));
                self.network.attach(name, Arc::clone(&member) as Arc<dyn Ear>);
                cluster.seat.lock().member = Some(Arc::clone(&member));
                Some(member)
            }
            // The power was cut again before it began.
            Err(reason) if reason.contains("the power is cut") => None,
            Err(reason) => {
                self.witness.tell(&Seen::Failed(&format!("{name} cannot begin: {reason}")));
                None
            }
        }
    }

    /// Brings back members whose power was cut, after a while each.
    pub async fn nurse(self: Arc<Self>) {
        while self.goes_on() {
            for at in 0..self.clusters.len() {
                self.examine(at);
                let mut seat = self.clusters[at].seat.lock();
                if seat.busy || seat.installed.is_none() || seat.member.as_ref().is_some_and(|member| member.is_up()) {
                    continue;
                }
                seat.busy = true;
                drop(seat);
                self.witness.note(&format!("{} has no power", self.name(at)));
                let (world, wait) = (Arc::clone(&self), if self.is_calm() { 50 } else { 50 + self.roll(1500) });
                spawn(async move {
                    millis(wait).await;
                    world.start(at).await;
                    world.clusters[at].seat.lock().busy = false;
                });
            }
            millis(50).await;
        }
    }

    /// A Raft that stopped by itself is a defect, unless its member was sent what it must not take.
    fn examine(&self, at: usize) {
        let Some(Err(reason)) = self.member(at).map(|member| member.metrics().running_state) else { return };
        if self.clusters[at].place.trickery.tricked(self.name(at)) {
            self.clusters[at].place.disk.cut();
        } else {
            self.witness.tell(&Seen::Failed(&format!("the Raft of {} stopped: {reason}", self.name(at))));
        }
    }

    /// Joins with a token of `issuer`; with `race`, two installations hold the token, and one of them gets in.
    pub async fn enter(&self, at: usize, issuer: usize, race: bool) -> bool {
        let Some(member) = self.member(issuer) else { return false };
        let (id, secret) = (format!("t{:x}", self.roll(1 << 32)), self.roll(u64::MAX).to_be_bytes().to_vec());
        let ticket = Ticket { id, cluster: self.name(at).to_owned(), issuer: self.name(issuer).to_owned(), secret };
        let command = words::token(&ticket, &member.key);
        self.tickets.lock().push((ticket.clone(), command.clone()));
        if member.write(&command).await.is_err() {
            return false;
        }
        let (one, other) = (Arc::new(self.new_key(at)), race.then(|| Arc::new(self.new_key(at))));
        let second = async {
            match &other {
                Some(key) => self.redeem(&ticket, key).await,
                None => None,
            }
        };
        let (first, second) = join(self.redeem(&ticket, &one), second).await;
        let (response, key) = match (first, second, other) {
            (Some(response), ..) => (response, one),
            (None, Some(response), Some(key)) => (response, key),
            _ => return false,
        };
        let deeds = isthmus_federation::join::told_deeds(&response).expect("it is one build");
        let itself = Itself { raft_id: response.raft_id, members: response.members, deeds };
        self.install(at, itself, key).await.is_some()
    }

    /// The joiner's side: asks until it is in or refused.
    async fn redeem(&self, ticket: &Ticket, key: &FederationKey) -> Option<JoinResponse> {
        let request = words::request(ticket, key);
        for _ in 0..12 {
            let letter = Letter::Join(request.clone());
            match self.network.call(&ticket.cluster, &ticket.issuer, letter, Duration::from_secs(3)).await {
                Some(Letter::Joined(Ok(response))) => {
                    self.witness.tell(&Seen::Joined { token: &ticket.id, key: &key.public() });
                    return Some(response);
                }
                Some(Letter::Joined(Err(refusal))) => {
                    self.witness.note(&format!("{} is refused: {}", ticket.cluster, refusal.error));
                    if refusal.error.contains("used already") {
                        return None;
                    }
                }
                _ => {}
            }
            millis(200).await;
        }
        None
    }

    /// Wipes a cluster's disk and lets it join again with a new key and a token of an operator.
    pub async fn reinstall(&self, at: usize, race: bool) {
        let cluster = &self.clusters[at];
        cluster.seat.lock().busy = true;
        cluster.seat.lock().installed = None;
        cluster.place.disk.wipe();
        self.witness.note(&format!("{} is wiped", self.name(at)));
        millis(self.roll(800)).await;
        while self.goes_on() && !self.enter(at, 0, race).await {
            millis(100).await;
        }
        cluster.seat.lock().busy = false;
    }
}
