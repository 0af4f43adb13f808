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

use isthmus_kubernetes::{
    Access, Facts, Seen,
    seen::{Kept, Told},
    watch,
};
use isthmus_runtime::{
    disk::{self, Keeper},
    drain::Drain,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{
    Sources,
    book::{Book, Fault},
};
use crate::{
    compiler::{self, Objects},
    error::Error,
    handle::{Handle, Message},
};

/// Version of the file of the last good state.
const DISK_VERSION: u32 = 1;
/// A burst of changes is over after so long without one.
const QUIET: Duration = Duration::from_millis(20);
/// The longest a burst is waited for: a pod that ends must not wait for others to begin.
const BURST: Duration = Duration::from_millis(200);
/// Pods change all the time where there are many; the disk takes what they came to once in so long.
const KEEP: Duration = Duration::from_secs(1);

/// The last good state on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct OnDisk {
    texts: BTreeMap<String, String>,
    seen: Kept,
}

/// The API server as a source.
pub struct Source {
    access: Access,
    file: Arc<Keeper>,
    desk: Handle,
    seen: Seen,
    book: Book<Arc<Objects>>,
    known: bool,
    /// Faults that were said.
    said: BTreeSet<Fault>,
    /// When what is in force is to be put on disk; `None`: it is there.
    keep_at: Option<Instant>,
}

impl Source {
    /// With the last good state of an earlier run, kept in `file`.
    ///
    /// # Errors
    /// When that file is there but cannot be read.
    pub fn open(access: Access, file: PathBuf, desk: Handle) -> Result<Self, disk::DiskError> {
        let on_disk = disk::load_versioned::<OnDisk>(&file, DISK_VERSION)?;
        let known = on_disk.is_some();
        let OnDisk { texts, seen } = on_disk.unwrap_or_default();
        let seen = Seen::restored(&texts, seen);
        let book = Book::restored(texts, parse);
        let file = Arc::new(Keeper::new(file, "the last good state of the cluster"));
        Ok(Self { access, file, desk, seen, book, known, said: BTreeSet::new(), keep_at: None })
    }

    /// Begins to watch, and tells the desk what is in force, now and whenever it changes, until the drain.
    ///
    /// # Errors
    /// When there is no way to an API server; that it does not answer is none.
    pub async fn start(self, tasks: &mut JoinSet<()>, drain: &Drain) -> Result<(), Error> {
        let client = self.access.client().await?;
        let told = watch::start(&client, tasks, drain);
        tasks.spawn(self.run(told, drain.clone()));
        Ok(())
    }

    async fn run(mut self, mut told: mpsc::Receiver<Told>, drain: Drain) {
        self.publish().await;
        loop {
            let keep_at = self.keep_at;
            tokio::select! {
                () = drain.draining() => break,
                first = told.recv() => match first {
                    Some(first) => if self.take(first, &mut told).await { self.publish().await },
                    None => break,
                },
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
        let faults: BTreeSet<Fault> = files.iter().flat_map(|(_, _, faults)| faults).cloned().collect();
        for fault in faults.difference(&self.said) {
            tracing::error!(%fault, "an object is refused; the last good one of its name stays in force");
        }
        self.said = faults;
        let in_force = self.book.in_force().map(|(file, objects)| (file.to_owned(), objects.clone())).collect();
        let facts = Some(Arc::new(Facts::of(&self.seen, &self.access.namespace)));
        self.desk.tell(Message::Sources(Sources { known: true, in_force, files, facts })).await;
        self.keep_at.get_or_insert_with(|| Instant::now() + KEEP);
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
