//! How the rest of control talks to the desk: messages in, snapshots out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use isthmus_core::{
    failover::verb::{Deed, Verb},
    name::{ClusterName, SpiffeId},
    resource::duration,
    statement::Version,
};
use isthmus_wire::{federation::SignedStatement, feed::Report};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clients::Role,
    failover::simulation::Simulated,
    heard::World,
    registry::Registered,
    replicas::{Deeds, Hub, Memory},
    sources::Sources,
    table::Snapshot,
    view::View,
    whereabouts::Resolved,
};

/// What the desk is told.
#[derive(Debug)]
pub enum Message {
    /// What the sources have in force now.
    Sources(Sources),
    /// Addresses of what the configuration names.
    Resolved(Resolved),
    /// The roots of the own trust domain, DER in base64.
    Roots(Vec<String>),
    /// A client's stream said hello.
    Opened {
        /// The stream.
        stream: u64,
        /// What the client is.
        role: Role,
        /// Its name.
        name: String,
        /// Who it proved to be.
        identity: SpiffeId,
    },
    /// A message went out to a client.
    Sent {
        /// The stream.
        stream: u64,
        /// The message.
        nonce: u64,
        /// The table's version it brings the client to.
        version: u64,
        /// Keys in it.
        keys: Vec<String>,
    },
    /// A client answered a message.
    Answered {
        /// The stream.
        stream: u64,
        /// The message.
        nonce: u64,
        /// (key, reason); none: all of it is in force.
        refusals: Vec<(String, String)>,
    },
    /// A sidecar registers its workload.
    Register {
        /// The stream.
        stream: u64,
        /// What it says, checked against its identity.
        registered: Box<Registered>,
        /// Whether it is taken; else the reason.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// A registration was refused before it came to the desk.
    RegistrationRefused {
        /// The stream.
        stream: u64,
        /// Why.
        reason: String,
    },
    /// A client tells what it saw.
    Report {
        /// The stream.
        stream: u64,
        /// What the client is.
        role: Role,
        /// What it saw.
        report: Report,
    },
    /// A stream ended.
    Closed {
        /// The stream.
        stream: u64,
    },
    /// What the other clusters say, all of it.
    World(Arc<World>),
    /// A lease came by the member, verified.
    Lease(SignedStatement),
    /// The own lease, to be sent by gateways.
    OwnLease(SignedStatement),
    /// How the federation stands.
    Federation(isthmus_wire::federation::Standing),
    /// How the speaker stands.
    Speaker(SpeakerView),
    /// What another replica decided; `None`: there is no other one.
    Memory(Option<Box<Memory>>),
    /// What the replica that speaks keeps for the cluster.
    Deeds(Box<Deeds>),
    /// Another replica asks what this one decided.
    Remember(oneshot::Sender<Memory>),
    /// Somebody looks.
    Look(oneshot::Sender<View>),
    /// An operator does something for a while.
    Do(Wish, oneshot::Sender<Result<Done, String>>),
    /// An operator takes a verb back, by its name.
    TakeBack(String, Back, oneshot::Sender<Result<TakenBack, String>>),
    /// Somebody waits until the own verb of this name, or its end, is in the federation's log.
    Written(String, oneshot::Sender<()>),
    /// Somebody asks what would go where if these clusters were gone.
    Simulate(BTreeSet<ClusterName>, oneshot::Sender<Vec<Simulated>>),
}

/// What an operator wants done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Wish {
    /// What.
    pub deed: Deed,
    /// For how long; not said: [`isthmus_core::failover::verb::DEFAULT_FOR`].
    #[serde(default, rename = "for", with = "duration::optional_text", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The verb's name.
    pub name: String,
    /// In force here already, and not in the log.
    pub local: bool,
    /// Whether there is a quorum that would write it, as far as this control knows.
    #[serde(default)]
    pub quorum: bool,
    /// Clusters that it binds.
    pub binds: Vec<ClusterName>,
    /// Members that it does not bind, because they do not list this cluster among their operators.
    pub free: Vec<ClusterName>,
    /// What it will not do, and why.
    #[serde(default)]
    pub doubts: Vec<String>,
}

/// Who takes a verb back, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Back {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A verb that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// Its name.
    pub name: String,
    /// Over here, and its end is not in the log.
    pub local: bool,
    /// Whether there is a quorum that would write it, as far as this control knows.
    pub quorum: bool,
    /// Clusters that it bound: until they hear of the end they keep it.
    pub still: Vec<ClusterName>,
    /// They end it by their own count after so long.
    pub ends_in_seconds: u64,
}

/// How the speaker stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SpeakerView {
    /// Whether it is this replica that speaks for the cluster.
    pub speaks: bool,
    /// Whether the own member takes statements.
    pub member: bool,
    /// The epoch in use.
    pub epoch: u64,
    /// Statements the member has not taken yet.
    pub open: usize,
    /// What the member refused and why, by key.
    pub refused: std::collections::BTreeMap<String, String>,
    /// Own verbs that the member has taken, each with its version.
    #[serde(skip)]
    pub verbs: Vec<(Verb, Version)>,
}

/// A cheap handle to the desk.
#[derive(Clone)]
pub struct Handle {
    tell: mpsc::Sender<Message>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    streams: Arc<AtomicU64>,
    hub: Arc<Hub>,
}

impl Handle {
    /// From the desk's ends.
    #[must_use]
    pub fn new(tell: mpsc::Sender<Message>, snapshots: watch::Receiver<Option<Arc<Snapshot>>>) -> Self {
        Self { tell, snapshots, streams: Arc::new(AtomicU64::new(1)), hub: Arc::default() }
    }

    /// Tells the desk, and the other replicas what is for them; waits while the desk has much to do. A desk that stopped
    /// hears nothing.
    pub async fn tell(&self, message: Message) {
        self.hub.hear(&message);
        self.pass(message).await;
    }

    /// Tells the desk what another replica told: it goes no further.
    pub async fn pass(&self, message: Message) {
        let _ = self.tell.send(message).await;
    }

    /// What the own clients said.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What this replica decided; `None`: its desk stopped.
    pub async fn memory(&self) -> Option<Memory> {
        let (reply, answer) = oneshot::channel();
        self.pass(Message::Remember(reply)).await;
        answer.await.ok()
    }

    /// What is in force, and its changes; `None` until the first compilation.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut snapshots = self.snapshots.clone();
        snapshots.mark_changed();
        snapshots
    }

    /// A number for a new stream.
    #[must_use]
    pub fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a workload.
    ///
    /// # Errors
    /// The reason it is refused.
    pub async fn register(&self, stream: u64, registered: Registered) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.pass(Message::Register { stream, registered: Box::new(registered.clone()), reply }).await;
        let taken = answer.await.unwrap_or_else(|_| Err("this control stops".into()));
        self.hub.registered(stream, &registered, taken.as_ref().err().map(String::as_str));
        taken
    }

    /// Does something for a while.
    ///
    /// # Errors
    /// The reason it is refused.
    pub async fn wish(&self, wish: Wish) -> Result<Done, String> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Do(wish, reply)).await;
        answer.await.unwrap_or_else(|_| Err("this control stops".into()))
    }

    /// Takes a verb back.
    ///
    /// # Errors
    /// When there is none of this name here, with where it is.
    pub async fn take_back(&self, name: String, back: Back) -> Result<TakenBack, String> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::TakeBack(name, back, reply)).await;
        answer.await.unwrap_or_else(|_| Err("this control stops".into()))
    }

    /// Waits until the own verb of this name, or its end, is in the federation's log; `false`: it was not within `limit`.
    pub async fn written(&self, name: String, limit: Duration) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Written(name, reply)).await;
        matches!(tokio::time::timeout(limit, answer).await, Ok(Ok(())))
    }

    /// What would go where if these clusters were gone.
    pub async fn simulate(&self, down: BTreeSet<ClusterName>) -> Option<Vec<Simulated>> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Simulate(down, reply)).await;
        answer.await.ok()
    }

    /// Everything there is to see.
    pub async fn look(&self) -> Option<View> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Look(reply)).await;
        answer.await.ok()
    }
}
