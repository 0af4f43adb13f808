//! A running member of a story. The log, the state, the view, Raft's calls, the choice of voters and the checks of a
//! join are production's; what binds them is `federation::member` again, in virtual time and on the simulated network.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use isthmus_federation::{
    Refusal, Timing, join,
    raft::{
        self,
        log::Log,
        machine::{Machine, News},
        network::{Network as Calls, answer},
    },
    state::{Answer, Change, Command, version},
    view::{Heard, View},
};
use isthmus_wire::{
    federation::{
        JoinRequest, JoinResponse, MemberRecord, ProposeAnswer, RaftAnswer, SignedStatement, session_frame::Body,
    },
    signing::FederationKey,
};
use openraft::{
    SnapshotPolicy,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, RaftError},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    keeper,
    log::Kept,
    machine::Watched,
    network::{Ear, Letter},
    place::{Place, Wire},
    plant::Plant,
    types::{Raft, Virtual, millis, now, spawn, within},
    witness::Seen,
    words::{self, MESH},
};

/// Raft's clock as `up` sets it.
const TIMING: Timing = Timing { heartbeat_ms: 150, election_min_ms: 600, election_max_ms: 1200 };
/// Few, so that snapshots are taken and sent in every story.
const SNAPSHOT_EVERY: u64 = 25;
/// As long as in production.
const WRITE_LIMIT: Duration = Duration::from_secs(4);

/// Which member it is, as `member.json` says in production.
#[derive(Clone)]
pub struct Itself {
    /// Its Raft id.
    pub raft_id: u64,
    /// The members it knew when it joined.
    pub members: Vec<MemberRecord>,
    /// How the membership's history began, as it was told when it joined.
    pub deeds: Vec<Command>,
}

/// The member.
pub struct Member {
    /// Where it is.
    pub place: Place,
    life: u64,
    /// Its cluster's key.
    pub key: Arc<FederationKey>,
    /// What it knows.
    pub view: View,
    /// What is still to go into the log, by key.
    pub pending: Mutex<BTreeMap<String, SignedStatement>>,
    /// With [`Plant::ViewUnversioned`]: old statements that its watcher is shown.
    pub stale: Mutex<Vec<SignedStatement>>,
    /// What it applied.
    pub machine: Machine,
    raft: OnceLock<Raft>,
}

impl Member {
    /// Begins, with what its disk holds.
    pub async fn open(place: Place, key: Arc<FederationKey>, itself: &Itself) -> Result<Arc<Self>, String> {
        let life = place.disk.life();
        let database = |name: &'static str| {
            let opened = redb::Builder::new().create_with_backend(place.disk.open(name));
            opened.map_err(|error| format!("{name}: {error}"))
        };
        let said = |error: isthmus_federation::Error| error.to_string();
        let log = Log::on(database("log.redb")?, Path::new("log.redb")).map_err(said)?;
        let (news, changes) = mpsc::unbounded_channel();
        let machine =
            Machine::on(database("state.redb")?, Path::new("state.redb"), itself.deeds.clone(), news).map_err(said)?;
        let settings = raft::settings(MESH, TIMING).map_err(said)?;
        let settings = openraft::Config {
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
            max_in_snapshot_log_to_keep: 5,
            ..openraft::Config::clone(&settings)
        };
        let watched = Watched {
            machine: machine.clone(),
            cluster: place.cluster.clone(),
            disk: place.disk.clone(),
            life,
            witness: place.witness.clone(),
            plant: place.plant,
            keys: Arc::clone(&place.keys),
            old: BTreeMap::new(),
        };
        let kept = Kept { log, plant: place.plant, late: Arc::default() };
        let calls = Calls(Wire(place.clone(), life));
        let (view, pending, stale, raft) = (View::default(), Mutex::default(), Mutex::default(), OnceLock::new());
        let member = Arc::new(Self { place, life, key, view, pending, stale, machine, raft });
        let raft = Raft::new(itself.raft_id, Arc::new(settings), calls, kept, watched).await;
        let _ = member.raft.set(raft.map_err(|error| error.to_string())?);
        itself.members.iter().for_each(|record| member.view.member(MESH, record.clone()));
        member.machine.look(|state| member.view.replace(state));
        keeper::spawn(&member);
        spawn(Arc::clone(&member).heed(changes));
        Ok(member)
    }

    /// Its Raft.
    pub fn raft(&self) -> &Raft {
        self.raft.get().expect("it is set before anyone has the member")
    }

    /// Its cluster.
    pub fn cluster(&self) -> &str {
        &self.place.cluster
    }

    /// Raft's numbers of this moment.
    pub fn metrics(&self) -> openraft::RaftMetrics<Virtual> {
        self.raft().metrics().borrow_watched().clone()
    }

    async fn heed(self: Arc<Self>, mut changes: mpsc::UnboundedReceiver<News>) {
        while let Some(news) = changes.recv().await {
            match news {
                _ if !self.is_up() => return,
                News::Replaced => self.machine.look(|state| self.view.replace(state)),
                News::Changed(Change::Member(record)) => self.view.member(MESH, record),
                News::Changed(Change::Token(_)) => {}
                News::Changed(Change::Statement(statement)) => {
                    self.pending.lock().retain(|_, waiting| *waiting != statement);
                    self.view.hear(&statement);
                }
            }
        }
    }

    /// The own control says something: to the others at once, into the log with the next batch.
    pub fn publish(&self, statement: &SignedStatement) {
        if self.view.hear(statement) == Heard::Applied {
            for record in self.view.members() {
                if record.cluster != self.cluster() && self.place.network.has(self.cluster(), &record.cluster) {
                    let delta = Letter::Frame(Body::Delta(statement.clone()));
                    self.place.network.post(self.cluster(), &record.cluster, delta);
                }
            }
        }
        if !self.machine.look(|state| state.has(statement)) {
            let mut pending = self.pending.lock();
            if pending.get(&statement.key).is_none_or(|waiting| version(waiting) < version(statement)) {
                pending.insert(statement.key.clone(), statement.clone());
            }
        }
    }

    /// A delta came.
    fn delta(&self, statement: &mut SignedStatement) {
        if self.place.plant == Some(Plant::Unverified)
            && let Some(key) = self.place.keys.lock().get(&statement.cluster)
        {
            // As if the signature did not matter: whatever came has a good one now.
            key.sign(statement);
        }
        let statement = &*statement;
        let heard = self.view.hear(statement);
        if self.place.plant == Some(Plant::ViewUnversioned) && heard == Heard::Stale {
            // As if there were no version to compare: its watcher is shown it all the same.
            self.stale.lock().push(statement.clone());
        }
    }

    /// Proposes a command, wherever the leader is; the reason when it is refused or nobody takes it.
    pub async fn write(&self, command: &Command) -> Result<(), String> {
        let until = now() + WRITE_LIMIT;
        while now() < until && self.is_up() {
            let left = until.saturating_sub(now());
            match within(left, self.try_write(command, left)).await {
                Some(Some(answer)) => return answer,
                Some(None) => millis(50).await,
                None => break,
            }
        }
        Err("no quorum".into())
    }

    async fn try_write(&self, command: &Command, limit: Duration) -> Option<Result<(), String>> {
        let to = match self.raft().client_write(command.clone()).await {
            Ok(written) => return Some(self.acknowledged(command, written.log_id.index, written.data)),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => to.leader_node?,
            Err(_) => return None,
        };
        let bytes = serde_json::to_vec(command).expect("a command is JSON");
        let letter = Letter::Frame(Body::Propose(bytes));
        match self.place.network.call(self.cluster(), &to.cluster, letter, limit).await? {
            Letter::Frame(Body::ProposeAnswer(ProposeAnswer { revision, error, .. })) if error.is_empty() => {
                Some(self.acknowledged(command, revision, Answer::Done))
            }
            Letter::Frame(Body::ProposeAnswer(ProposeAnswer { error, leader, .. })) if leader.is_empty() => {
                Some(Err(error))
            }
            _ => None,
        }
    }

    fn acknowledged(&self, command: &Command, index: u64, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Refused(reason) => Err(reason),
            Answer::Done if self.is_up() => {
                self.place.witness.tell(&Seen::Acknowledged { index, command });
                Ok(())
            }
            Answer::Done => Err("the power is cut".into()),
        }
    }

    async fn propose(&self, bytes: &[u8]) -> ProposeAnswer {
        let command = serde_json::from_slice(bytes).expect("a command is JSON");
        match self.raft().client_write(command).await {
            Ok(written) => match written.data {
                Answer::Done => ProposeAnswer { revision: written.log_id.index, ..ProposeAnswer::default() },
                Answer::Refused(error) => ProposeAnswer { error, ..ProposeAnswer::default() },
            },
            Err(_) => ProposeAnswer { error: "not the leader".into(), leader: "?".into(), revision: 0 },
        }
    }

    /// The issuer's side of a join.
    async fn admit(&self, request: JoinRequest) -> Result<JoinResponse, Refusal> {
        let refused = |error: String| Refusal { error, remedy: String::new() };
        self.machine.look(|state| join::check(state, self.cluster(), MESH, &request, 0))?;
        let next = self.machine.look(|state| state.next_id());
        let join = words::join(&request, self.cluster(), &self.key, next);
        self.write(&join).await.map_err(refused)?;
        for _ in 0..200 {
            if let Some(response) = self.machine.look(|state| join::admitted(state, &request)) {
                return Ok(response);
            }
            millis(10).await;
        }
        Err(refused("the join is written but not seen here yet".into()))
    }

    async fn answer(self: Arc<Self>, letter: Letter) -> Option<Letter> {
        match letter {
            Letter::Join(request) => Some(Letter::Joined(self.admit(request).await)),
            Letter::Frame(Body::Delta(mut statement)) => {
                self.delta(&mut statement);
                None
            }
            Letter::Frame(Body::Propose(bytes)) => Some(Letter::Frame(Body::ProposeAnswer(self.propose(&bytes).await))),
            Letter::Frame(Body::Raft(call)) => {
                let answered = answer(self.raft(), &call.method, &call.body).await;
                let (body, error) = answered.map_or_else(|error| (vec![], error), |body| (body, String::new()));
                Some(Letter::Frame(Body::RaftAnswer(RaftAnswer { body, error })))
            }
            _ => None,
        }
    }
}

impl Ear for Member {
    fn hear(self: Arc<Self>, _from: String, letter: Letter) -> BoxFuture<'static, Option<Letter>> {
        self.answer(letter).boxed()
    }

    fn is_up(&self) -> bool {
        self.place.disk.life() == self.life
    }
}
