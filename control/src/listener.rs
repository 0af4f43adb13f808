//! The listener's async shell: one Watch stream from the own member, resumed from the last revision.
//!
//! What it learns is verified by [`Heard`] whatever way it came, kept on disk (the last known good of the other
//! clusters), and handed to the desk as one value.

use std::{sync::Arc, time::Duration};

use isthmus_runtime::{
    backoff::Backoff,
    disk::{self, Keeper},
    drain::Drain,
};
use isthmus_wire::federation::{WatchEvent, WatchRequest, member_client::MemberClient, watch_event::Event};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    handle::{Handle, Message},
    heard::{Heard, HeardOnDisk},
    metrics::Metrics,
    voice::Found,
};

/// Version of the file of what was heard.
const DISK_VERSION: u32 = 1;
/// What changes within so long reaches the desk at once.
const COALESCE: Duration = Duration::from_millis(5);
/// Disk is written at most once in so long: what is lost by a crash comes again by the watch.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// What the listener is made of.
pub struct Listener {
    /// What was heard so far.
    pub heard: Heard,
    /// Where it is kept.
    pub file: Arc<Keeper>,
    /// To the own member.
    pub channel: Channel,
    /// What is found under the own name goes here.
    pub found: mpsc::Sender<Found>,
    /// The desk.
    pub desk: Handle,
    /// Counters.
    pub metrics: Metrics,
}

/// What an earlier run of control heard, if anything.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn last_heard(file: &std::path::Path) -> Result<Option<HeardOnDisk>, disk::DiskError> {
    disk::load_versioned(file, DISK_VERSION)
}

/// What still has to be done about changes.
#[derive(Default)]
struct Due {
    desk: Option<Instant>,
    disk: Option<Instant>,
}

impl Listener {
    /// Listens until the drain.
    pub async fn run(mut self, drain: Drain) {
        let mut due = Due::default();
        if self.heard.is_known() {
            self.desk.tell(Message::World(Arc::new(self.heard.world()))).await;
        }
        let listening = async {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
            loop {
                let ended = self.session(&mut due, &mut backoff).await;
                tracing::debug!(reason = ?ended.err(), "the own member's watch ended");
                self.settle(&mut due).await;
                tokio::time::sleep(backoff.next()).await;
            }
        };
        tokio::select! {
            () = drain.draining() => {}
            () = listening => {}
        }
        self.keep().await;
    }

    async fn session(&mut self, due: &mut Due, backoff: &mut Backoff) -> Result<(), Status> {
        let (revision, history) = self.heard.resume();
        let request = WatchRequest { revision, history };
        let mut events: Streaming<WatchEvent> =
            MemberClient::new(self.channel.clone()).watch(request).await?.into_inner();
        loop {
            let next = [due.desk, due.disk].into_iter().flatten().min();
            tokio::select! {
                event = events.message() => match event? {
                    Some(event) => {
                        backoff.reset();
                        self.take(event, due).await;
                    }
                    None => return Ok(()),
                },
                () = async { match next { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {
                    self.settle(due).await;
                }
            }
        }
    }

    async fn take(&mut self, event: WatchEvent, due: &mut Due) {
        match event.event {
            Some(Event::Standing(standing)) => self.desk.tell(Message::Federation(standing)).await,
            Some(Event::Lease(lease)) => {
                if self.count(self.heard.check(&lease).map(|_| "lease")) {
                    self.desk.tell(Message::Lease(lease)).await;
                }
            }
            _ => {
                let effect = self.heard.take(event, &self.metrics);
                for found in effect.found {
                    let _ = self.found.send(found).await;
                }
                if effect.changed {
                    due.desk.get_or_insert_with(|| Instant::now() + COALESCE);
                }
                due.disk.get_or_insert_with(|| Instant::now() + KEEP_EVERY);
            }
        }
    }

    fn count<E: std::fmt::Display>(&self, outcome: Result<&'static str, E>) -> bool {
        if let Err(error) = &outcome {
            tracing::warn!(%error, "a lease is not taken");
            self.metrics.heard.with_label_values(&["forged"]).inc();
        }
        outcome.is_ok()
    }

    /// Does what is due now.
    async fn settle(&mut self, due: &mut Due) {
        let now = Instant::now();
        if due.desk.is_some_and(|at| at <= now) {
            due.desk = None;
            self.desk.tell(Message::World(Arc::new(self.heard.world()))).await;
        }
        if due.disk.is_some_and(|at| at <= now) {
            // What could not be kept is tried again, whether or not anything is heard.
            due.disk = (!self.keep().await).then(|| now + KEEP_EVERY);
        }
    }

    async fn keep(&self) -> bool {
        let (file, on_disk) = (Arc::clone(&self.file), self.heard.on_disk());
        tokio::task::spawn_blocking(move || file.keep(DISK_VERSION, &on_disk)).await.unwrap_or(false)
    }
}
