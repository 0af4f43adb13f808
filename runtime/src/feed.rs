//! The client half of the feed: what proxies and gateways run on, and what they report back.
//!
//! The last good version of each resource is on disk and delivered first, so that a process runs without control. A
//! resource that cannot be read or is refused is told to control by key and reason, and the last good one stays. Roots
//! are applied to the identity here, before anybody sees the update.

mod cache;
mod stream;

use std::path::PathBuf;

use isthmus_core::model;
use isthmus_wire::feed as wire;
use tokio::sync::{mpsc, oneshot, watch};

pub use wire::{ClusterEvidence, PathReport, Registration, Report, Role, ServiceEvidence};

use crate::{drain::Drain, identity::Identity};

/// Updates that wait for the receiver: the next is made only when one is answered.
const UPDATES: usize = 2;
/// Reports that wait for the stream; more are dropped, for only fresh evidence counts.
const REPORTS: usize = 64;

/// Who subscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it is.
    pub role: Role,
    /// The workload's or the gateway's name, unique in the cluster.
    pub name: String,
    /// Of a proxy in a pod: its node; else nothing.
    pub node: String,
}

/// A change, to be answered by [`AckHandle`].
#[derive(Debug)]
pub struct Update {
    /// Resources that are new or changed: key, version, content.
    pub upserts: Vec<(String, u64, model::Resource)>,
    /// Keys that are gone.
    pub removals: Vec<String>,
    /// With this the receiver has everything there is.
    pub synced: bool,
    /// The last good from the own disk; control was not asked yet.
    pub from_disk: bool,
    /// The answer.
    pub ack: AckHandle,
}

/// Answers an update. Dropped without an answer, the whole update counts as refused.
#[derive(Debug)]
pub struct AckHandle(oneshot::Sender<Vec<(String, String)>>);

impl AckHandle {
    /// All of it is in force.
    pub fn accept(self) {
        self.refuse(Vec::new());
    }

    /// These keys are not in force, each with the reason; the rest is.
    pub fn refuse(self, refusals: Vec<(String, String)>) {
        let _ = self.0.send(refusals);
    }
}

/// What changes, one update after the other.
#[derive(Debug)]
pub struct Updates(mpsc::Receiver<Update>);

impl Updates {
    /// The next update; `None` when the process closes.
    pub async fn next(&mut self) -> Option<Update> {
        self.0.recv().await
    }
}

/// What goes back to control. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    registration: watch::Sender<Option<Registration>>,
    reports: mpsc::Sender<Report>,
    connected: watch::Receiver<bool>,
}

impl Reporter {
    /// What this workload offers; told again on every new stream, until it is replaced.
    pub fn register(&self, registration: Registration) {
        self.registration.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&registration);
            *current = Some(registration);
            changed
        });
    }

    /// What was seen since the last report. Dropped while control is away.
    pub fn report(&self, report: Report) {
        if *self.connected.borrow() {
            let _ = self.reports.try_send(report);
        }
    }

    /// Whether a stream to control is open.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

/// Subscribes to control at `control` (`host:15012`), from a task on the current Tokio runtime, until everything closes.
#[must_use]
pub fn subscribe(
    identity: &Identity,
    control: impl ToString,
    hello: Hello,
    cache_dir: PathBuf,
    drain: Drain,
) -> (Updates, Reporter) {
    let (updates, received) = mpsc::channel(UPDATES);
    let (reports, outgoing) = mpsc::channel(REPORTS);
    let (connected, is_connected) = watch::channel(false);
    let registration = watch::Sender::new(None);
    let links = stream::Links { updates, reports: outgoing, registrations: registration.subscribe(), connected };
    let subscriber = stream::Subscriber::new(identity.clone(), control.to_string(), hello, cache_dir, links);
    tokio::spawn(subscriber.run(drain));
    (Updates(received), Reporter { registration, reports, connected: is_connected })
}
