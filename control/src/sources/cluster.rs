//! The API server of a cluster as a source: each object is a file by itself, so a bad one is refused by itself while the last
//! good one of its name stays in force.
//!
//! The last good state is on disk, pods included: a control that starts without an API server goes on with it. One that has
//! nothing on disk says nothing until each kind was listed once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use isthmus_core::name::ClusterName;
use isthmus_kubernetes::{
    self as kubernetes, Access, Facts, Seen, events,
    leader::{self, Candidacy, Election},
    seen::{Kept, Told},
    status::{self, Said},
};
use isthmus_runtime::{
    disk::{self, Keeper},
    drain::Drain,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Sources,
    book::{Book, Fault},
    verdicts,
};
use crate::{
    compiler::{self, Compiled, Objects},
    error::Error,
    handle::{Handle, Message},
    replicas::siblings::Replicas,
};

/// Version of the file of the last good state.
const DISK_VERSION: u32 = 1;
/// A burst of changes is over after so long without one.
const QUIET: Duration = Duration::from_millis(20);
/// The longest a burst is waited for: a pod that ends must not wait for others to begin.
const BURST: Duration = Duration::from_millis(200);
/// Pods change all the time where there are many; the disk takes what they came to once in so long.
const KEEP: Duration = Duration::from_secs(3);

/// The last good state on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct OnDisk {
    texts: BTreeMap<String, String>,
    seen: Kept,
}

/// What is told to others than the desk.
pub struct Tells {
    /// How this process stands in elections.
    pub candidacy: watch::Sender<Candidacy>,
    /// Where the replicas are.
    pub replicas: watch::Sender<Option<Replicas>>,
}

/// The API server as a source.
pub struct Source {
    access: Access,
    cluster: ClusterName,
    /// This process, in elections.
    name: String,
    file: Arc<Keeper>,
    desk: Handle,
    seen: Seen,
    book: Book<Arc<Objects>>,
    known: bool,
    /// What was told last, and its number.
    files: Vec<(String, bool, Vec<Fault>)>,
    revision: u64,
    /// What came of it.
    compiled: watch::Receiver<Option<Arc<Compiled>>>,
    /// Who hears how this process stands in elections, and where the replicas are.
    tells: Tells,
    /// When what is in force is to be put on disk; `None`: it is there.
    keep_at: Option<Instant>,
}

impl Source {
    /// With the last good state of an earlier run, kept in `file`.
    ///
    /// # Errors
    /// When that file is there but cannot be read.
    pub fn open(
        access: Access,
        (cluster, name): (ClusterName, String),
        file: PathBuf,
        desk: Handle,
        compiled: watch::Receiver<Option<Arc<Compiled>>>,
        tells: Tells,
    ) -> Result<Self, disk::DiskError> {
        let on_disk = disk::load_versioned::<OnDisk>(&file, DISK_VERSION)?;
        let known = on_disk.is_some();
        let OnDisk { texts, seen } = on_disk.unwrap_or_default();
        let seen = Seen::restored(&texts, seen);
        let book = Book::restored(texts, parse);
        let file = Arc::new(Keeper::new(file, "the last good state of the cluster"));
        let (files, revision, keep_at) = (vec![], 0, None);
        Ok(Self { access, cluster, name, file, desk, seen, book, known, files, revision, compiled, tells, keep_at })
    }

    /// Begins to watch, and tells the desk what is in force, now and whenever it changes, until the drain.
    ///
    /// # Errors
    /// When there is no way to an API server; that it does not answer is none.
    pub async fn start(self, tasks: &mut JoinSet<()>, drain: &Drain) -> Result<(), Error> {
        let client = self.access.client().await?;
        let told = kubernetes::watch::start(&client, tasks, drain);
        let (candidacy, writes) = (self.tells.candidacy.clone(), self.tells.candidacy.subscribe());
        let election = Election::new(client.clone(), &self.access.namespace, leader::CONTROL, &self.name);
        tasks.spawn(election.run(candidacy, drain.clone()));
        let (say, said) = watch::channel(Arc::default());
        let tell = events::start(&client, &self.name, tasks, drain);
        tasks.spawn(status::run(client.clone(), said, writes.clone(), tell, drain.clone()));
        let (offer, offered) = watch::channel(None);
        tasks.spawn(super::imports::follow(self.cluster.clone(), self.compiled.clone(), offer));
        tasks.spawn(kubernetes::imports::run(client, offered, writes, drain.clone()));
        tasks.spawn(self.run(told, say, drain.clone()));
        Ok(())
    }

    async fn run(mut self, mut told: mpsc::Receiver<Told>, say: watch::Sender<Arc<Vec<Said>>>, drain: Drain) {
        self.publish().await;
        loop {
            let keep_at = self.keep_at;
            tokio::select! {
                () = drain.draining() => break,
                first = told.recv() => match first {
                    Some(first) => if self.take(first, &mut told).await { self.publish().await } else { self.judge(&say) },
                    None => break,
                },
                Ok(()) = self.compiled.changed() => self.judge(&say),
                () = async { match keep_at { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {
                    self.keep().await;
                }
            }
        }
        if self.keep_at.is_some() {
            self.keep().await;
        }
    }

    /// Takes a burst; whether anything is other than before.
    async fn take(&mut self, first: Told, told: &mut mpsc::Receiver<Told>) -> bool {
        let ends = Instant::now() + BURST;
        let (mut changed, mut documents) = (false, false);
        let mut next = Some(first);
        while let Some(now) = next {
            let is_document = now.kind().is_document();
            let differs = self.seen.take(now);
            changed |= differs;
            documents |= differs && is_document;
            let quiet = (Instant::now() + QUIET).min(ends);
            next = tokio::time::timeout_at(quiet, told.recv()).await.ok().flatten();
        }
        if documents {
            let listing = self.seen.documents().map(|(file, text)| (file.to_owned(), Ok(text.to_owned())));
            self.book.see(listing.collect(), parse);
        }
        self.known |= self.seen.is_complete();
        changed
    }

    async fn publish(&mut self) {
        if !self.known {
            return;
        }
        let files: Vec<_> =
            self.book.files().map(|(file, good, faults)| (file.to_owned(), good, faults.to_vec())).collect();
        let all = |files: &[(String, bool, Vec<Fault>)]| -> BTreeSet<Fault> {
            files.iter().flat_map(|(_, _, faults)| faults).cloned().collect()
        };
        for fault in all(&files).difference(&all(&self.files)) {
            tracing::error!(%fault, "an object is refused; the last good one of its name stays in force");
        }
        self.files.clone_from(&files);
        self.revision += 1;
        let in_force = self.book.in_force().map(|(file, objects)| (file.to_owned(), objects.clone())).collect();
        let facts = Some(Arc::new(Facts::of(&self.seen, &self.access.namespace)));
        let replicas = facts.as_ref().map(|facts| facts.controls.clone());
        self.tells.replicas.send_if_modified(|before| {
            let differs = *before != replicas;
            *before = replicas;
            differs
        });
        self.desk
            .tell(Message::Sources(Sources { known: true, revision: self.revision, in_force, files, facts }))
            .await;
        self.keep_at.get_or_insert_with(|| Instant::now() + KEEP);
    }

    /// What there is to say of objects, once what was told last is compiled: not before, since a verdict is on a generation, and
    /// with all that other clusters offer, since objects name it.
    fn judge(&mut self, say: &watch::Sender<Arc<Vec<Said>>>) {
        let compiled = self.compiled.borrow_and_update().clone();
        let is_whole = |compiled: &Arc<Compiled>| compiled.revision == self.revision && !compiled.partial;
        let Some(compiled) = compiled.filter(is_whole) else { return };
        let said = verdicts::of(self.seen.standings(), &self.files, &compiled.faults, &self.cluster);
        say.send_if_modified(|before| {
            let differs = **before != said;
            if differs {
                *before = Arc::new(said);
            }
            differs
        });
    }

    async fn keep(&mut self) {
        let (file, on_disk) = (Arc::clone(&self.file), OnDisk { texts: self.book.texts(), seen: self.seen.kept() });
        let kept = tokio::task::spawn_blocking(move || file.keep(DISK_VERSION, &on_disk)).await;
        self.keep_at = if kept.unwrap_or(false) { None } else { Some(Instant::now() + KEEP) };
    }
}

/// As files are parsed; but nobody wrote the lines of an object that came from an API server.
fn parse(file: &str, text: &str) -> Result<Arc<Objects>, Vec<Fault>> {
    let lineless = |fault: Fault| Fault { line: 0, ..fault };
    let mut objects =
        compiler::parse(file, text).map_err(|faults| faults.into_iter().map(lineless).collect::<Vec<_>>())?;
    objects.iter_mut().for_each(|object| object.line = 0);
    Ok(Arc::new(objects))
}

#[cfg(test)]
mod tests;
