//! The running member: Raft, sessions and view joined.

mod conversing;
pub(crate) mod keeper;
mod moving;
mod shunning;
mod standing;
mod writing;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use isthmus_runtime::{disk, drain::Drain, identity::Identity, trust::TrustRoots};
use isthmus_wire::{
    federation::{MemberRecord, SignedStatement},
    signing::FederationKey,
};
use parking_lot::Mutex;
use prost::Message;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub(crate) use self::shunning::Ejected;
use crate::{
    config::Config,
    error::{Error, Refusal},
    raft::{
        Node, Raft, TypeConfig,
        log::Log,
        machine::{Machine, News},
        network::Network,
    },
    session::Sessions,
    state::{Blob, Change, Command, Deed, State, version},
    view::{BUNDLE, Heard, View},
};

/// Version of the file that says which member this is.
const DISK_VERSION: u32 = 2;

/// Who this member is, fixed when it bootstrapped or joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Itself {
    /// Its Raft id.
    pub raft_id: u64,
    /// The mesh.
    pub mesh: String,
    /// The members it knew then, as `MemberRecord`s: how it finds the others before its log says.
    pub members: Vec<Blob>,
    /// What had happened to the membership then: no log that begins otherwise is this mesh's.
    pub deeds: Vec<Command>,
}

/// What every part of a member shares.
pub struct Member {
    /// Its configuration.
    pub config: Config,
    /// Its leaf and whom it believes.
    pub identity: Identity,
    /// The cluster's key.
    pub key: FederationKey,
    /// Sessions with other members.
    pub sessions: Sessions,
    /// What it knows.
    pub view: View,
    /// Where other members reach it, when its configuration does not say.
    advertise: Mutex<Vec<String>>,
    /// What is still to go into the log, by cluster and key.
    pending: Mutex<BTreeMap<(String, String), SignedStatement>>,
    /// Who is out for this cluster before the log has it.
    shunned: Mutex<shunning::Shunned>,
    /// Who votes is changed by one at a time: a change has two steps, and nothing may come between.
    changing: tokio::sync::Mutex<()>,
    raft: tokio::sync::OnceCell<(Raft, Machine, Itself)>,
    running: tokio::sync::Notify,
    drain: Drain,
}

impl Member {
    /// A member that is of no mesh yet, or of the one its disk says.
    ///
    /// # Errors
    /// When its disk is damaged.
    pub async fn open(
        config: Config,
        identity: Identity,
        key: FederationKey,
        drain: Drain,
    ) -> Result<Arc<Self>, Error> {
        let member = Arc::new(Self {
            config,
            identity,
            key,
            sessions: Sessions::default(),
            view: View::default(),
            advertise: Mutex::default(),
            pending: Mutex::default(),
            shunned: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            raft: tokio::sync::OnceCell::new(),
            running: tokio::sync::Notify::new(),
            drain,
        });
        member.shun_kept()?;
        if let Some(itself) = disk::load_versioned::<Itself>(&member.file("member.json"), DISK_VERSION)? {
            member.begin(itself, false).await?;
        }
        Ok(member)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.config.common.state_dir.join(name)
    }

    /// The own cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        self.config.common.cluster.as_str()
    }

    /// Whether it is of a mesh.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.raft.initialized()
    }

    pub(crate) fn machine(&self) -> Option<&Machine> {
        self.raft.get().map(|(_, machine, _)| machine)
    }

    pub(crate) fn raft(&self) -> Option<&Raft> {
        self.raft.get().map(|(raft, _, _)| raft)
    }

    pub(crate) fn mesh(&self) -> String {
        self.raft.get().map_or_else(String::new, |(_, _, itself)| itself.mesh.clone())
    }

    /// Becomes this member for good: remembered before anything else, then Raft begins.
    pub(crate) async fn become_member(self: &Arc<Self>, itself: Itself) -> Result<(), Error> {
        disk::store_versioned(self.file("member.json"), DISK_VERSION, &itself)?;
        self.begin(itself, true).await
    }

    async fn begin(self: &Arc<Self>, itself: Itself, fresh: bool) -> Result<(), Error> {
        let (news, changes) = mpsc::unbounded_channel();
        let log = Log::open(&self.file("log.redb"), fresh)?;
        let machine = Machine::open(&self.file("state.redb"), itself.deeds.clone(), news)?;
        let config = crate::raft::settings(&itself.mesh, self.config.timing)?;
        let network = Network(self.sessions.clone());
        let raft = Raft::new(itself.raft_id, config, network, log, machine.clone()).await;
        let raft = raft.map_err(|error| Error::Raft(error.to_string()))?;
        for blob in &itself.members {
            if let Ok(record) = MemberRecord::decode(blob.0.as_slice()) {
                self.view.member(&itself.mesh, record);
            }
        }
        machine.look(|state| self.view.replace(state));
        self.believe();
        let _ = self.raft.set((raft, machine, itself));
        keeper::spawn(self, changes);
        self.running.notify_waiters();
        Ok(())
    }

    /// Believes the roots of all members, and of none besides.
    pub(crate) fn believe(&self) {
        let mut trust = TrustRoots::new();
        for record in self.view.members().into_iter().filter(|record| !record.ejected) {
            let Ok(domain) = record.trust_domain.parse() else { continue };
            if record.cluster == self.cluster() {
                // What the own CA gave stays: it may sign with something that the own control could not say yet.
                let given = self.identity.trust();
                given.roots(&domain).iter().for_each(|root| trust.add(&domain, root.clone()));
            }
            self.view.roots(&record).into_iter().for_each(|root| trust.add(&domain, CertificateDer::from(root)));
        }
        self.identity.set_trust(trust);
    }

    /// Something of Raft's changed.
    fn heed(&self, news: News) {
        let Some(machine) = self.machine() else { return };
        match news {
            News::Replaced => machine.look(|state| self.view.replace(state)),
            News::Changed(Change::Member(record)) => {
                if record.ejected {
                    self.sessions.close(&record.cluster);
                    self.is_ejected(&record.cluster);
                }
                self.view.member(&self.mesh(), record);
            }
            News::Changed(Change::Token(_)) => return,
            News::Changed(Change::Statement(statement)) => {
                let is_last = {
                    let mut pending = self.pending.lock();
                    let before = pending.len();
                    pending.retain(|_, waiting| *waiting != statement);
                    before > 0 && pending.is_empty()
                };
                self.view.hear(&statement);
                // Who waits for what it said to be in the log is told at once.
                if is_last {
                    self.view.standing(self.standing());
                }
            }
        }
        self.believe();
    }

    /// A cluster may have said its roots anew.
    pub(crate) fn heed_roots(&self, statement: &SignedStatement) {
        if statement.key == BUNDLE {
            self.believe();
        }
    }

    /// The own control says something: to the others at once, into the log with the next batch.
    pub(crate) fn publish(&self, statement: SignedStatement) -> Heard {
        let heard = self.view.hear(&statement);
        if heard == Heard::Applied {
            self.sessions.broadcast(&statement);
            self.heed_roots(&statement);
        }
        // What is stale here may still be missing in the log: another member relayed it back to one that began anew.
        let missing = || self.machine().is_some_and(|machine| !machine.look(|state| state.has(&statement)));
        if heard != Heard::Forged && statement.key != "lease" && missing() {
            let mut pending = self.pending.lock();
            let place = (statement.cluster.clone(), statement.key.clone());
            if pending.get(&place).is_none_or(|waiting| version(waiting) < version(&statement)) {
                pending.insert(place, statement);
            }
        }
        heard
    }

    /// Looks at what the log made.
    ///
    /// # Errors
    /// When this member is of no mesh.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&State) -> T) -> Result<T, Refusal> {
        self.machine().ok_or_else(Refusal::of_no_mesh).map(|machine| machine.look(at))
    }

    /// Does something to the membership, in this cluster's name.
    ///
    /// # Errors
    /// As [`Member::write`].
    pub(crate) async fn act(&self, deed: Deed) -> Result<(), Refusal> {
        self.write(deed.signed(&self.mesh(), self.cluster(), &self.key)).await
    }

    /// Comes when Raft stopped of itself, with the reason: a disk that failed, or a leader that sent what is not this
    /// mesh's history.
    pub(crate) async fn stopped(&self) -> String {
        use openraft::async_runtime::WatchReceiver;
        let raft = loop {
            let begun = self.running.notified();
            match self.raft() {
                Some(raft) => break raft,
                None => begun.await,
            }
        };
        let mut metrics = raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return root_cause(fatal);
            }
            if metrics.changed().await.is_err() {
                return "raft ended".into();
            }
        }
    }

    /// The first of a new mesh.
    ///
    /// # Errors
    /// When it is of a mesh already, or its disk fails.
    pub async fn bootstrap(self: &Arc<Self>) -> Result<(), Refusal> {
        if self.is_joined() {
            let remedy = "join others to it with `isthmus token create`";
            return Err(Refusal::new(format!("this member is of mesh {} already", self.mesh()), remedy));
        }
        let failed = |error: String| Refusal::new(format!("the mesh does not begin: {error}"), "see the member's log");
        let mut record = self.own_record(self.cluster(), 1);
        record.operator = true;
        self.key.countersign(&mut record);
        let mesh = self.config.common.mesh.to_string();
        let blob = Blob(record.encode_to_vec());
        let founded = Command::Bootstrap { mesh: mesh.clone(), record: blob.clone() };
        let itself = Itself { raft_id: 1, mesh, members: vec![blob], deeds: vec![founded.clone()] };
        self.become_member(itself).await.map_err(|error| failed(error.to_string()))?;
        let raft = self.raft().ok_or_else(|| failed("raft did not begin".into()))?;
        let nodes = BTreeMap::from([(1, Node { cluster: self.cluster().to_owned() })]);
        raft.initialize(nodes).await.map_err(|error| failed(error.to_string()))?;
        self.write(founded).await
    }

    /// Where other members reach this one: what the configuration says, else what its cluster says now, else what was said
    /// when it began, else what its join entry has.
    fn advertised(&self) -> Vec<String> {
        let (said, given) = (self.view.reached(self.cluster()), self.advertise.lock().clone());
        let known = [self.config.advertise.clone(), said, given].into_iter().find(|addresses| !addresses.is_empty());
        let entered = || self.view.members().into_iter().find(|record| record.cluster == self.cluster());
        known.or_else(|| entered().map(|record| record.addresses)).unwrap_or_default()
    }

    /// Where a member is dialled: where its cluster says now that its gateways take TCP, then as its join entry has it, in
    /// which an address stays that a load balancer or a node once had.
    fn dialled(&self, record: &MemberRecord) -> Vec<String> {
        let mut addresses = self.view.reached(&record.cluster);
        for entered in &record.addresses {
            if !addresses.contains(entered) {
                addresses.push(entered.clone());
            }
        }
        addresses
    }

    /// Other members reach it here.
    pub(crate) fn advertise(&self, addresses: Vec<String>) {
        *self.advertise.lock() = addresses;
    }

    /// This cluster's join entry.
    pub(crate) fn own_record(&self, issuer: &str, raft_id: u64) -> MemberRecord {
        let domain = self.config.common.cluster.trust_domain(&self.config.common.mesh);
        let roots = self.identity.trust().roots(&domain).iter().map(|root| root.to_vec()).collect();
        MemberRecord {
            cluster: self.cluster().to_owned(),
            federation_key: self.key.public(),
            roots,
            addresses: self.advertised(),
            raft_id,
            issuer: issuer.to_owned(),
            trust_domain: domain.to_string(),
            ..MemberRecord::default()
        }
    }
}

/// The innermost error: what openraft wraps around it is its own affair.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

/// Raft's numbers of this moment.
fn metrics_of(raft: &Raft) -> openraft::RaftMetrics<TypeConfig> {
    use openraft::async_runtime::WatchReceiver;
    raft.metrics().borrow_watched().clone()
}
