//! The directory as a source: read again whenever it changes.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use isthmus_core::compile::finding;
use isthmus_runtime::{
    disk::{self, Keeper},
    drain::Drain,
};
use serde::{Deserialize, Serialize};

use super::{
    Sources,
    book::{Book, Fault},
    directory,
};
use crate::{
    compiler::{self, Objects},
    handle::{Handle, Message},
};

/// Version of the file of last good texts.
const DISK_VERSION: u32 = 1;

/// Last good texts on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct OnDisk {
    texts: BTreeMap<String, String>,
}

/// The directory as a source.
pub struct Source {
    directory: PathBuf,
    file: Arc<Keeper>,
    /// Whether what is in force is on disk.
    kept: bool,
    desk: Handle,
    book: Book<Arc<Objects>>,
    /// Why the directory cannot be listed, if it cannot.
    unlisted: Option<String>,
    known: bool,
}

impl Source {
    /// With the last good texts of an earlier run, kept in `file`.
    ///
    /// # Errors
    /// When that file is there but cannot be read.
    pub fn open(directory: PathBuf, file: PathBuf, desk: Handle) -> Result<Self, disk::DiskError> {
        let on_disk = disk::load_versioned::<OnDisk>(&file, DISK_VERSION)?;
        let known = on_disk.is_some();
        let book = Book::restored(on_disk.unwrap_or_default().texts, parse);
        let file = Arc::new(Keeper::new(file, "the last good configuration"));
        Ok(Self { directory, file, kept: true, desk, book, unlisted: None, known })
    }

    /// Tells the desk what is in force, now and whenever it changes, until the drain.
    pub async fn run(mut self, drain: Drain) {
        let mut hints = directory::Hints::of(&self.directory);
        self.look().await;
        self.publish().await;
        loop {
            tokio::select! {
                () = drain.draining() => return,
                () = hints.next() => {
                    if self.look().await {
                        self.publish().await;
                    } else if !self.kept {
                        self.keep().await;
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> bool {
        let directory = self.directory.clone();
        let listed = tokio::task::spawn_blocking(move || directory::list(&directory)).await;
        match listed {
            Ok(Ok(listing)) => {
                self.known = true;
                let was_unlisted = self.unlisted.take().is_some();
                self.book.see(listing, parse) || was_unlisted
            }
            Ok(Err(error)) => {
                let reason = format!("the directory cannot be listed: {error}; what was in force stays");
                self.unlisted.replace(reason.clone()) != Some(reason)
            }
            Err(_cancelled) => false,
        }
    }

    async fn publish(&mut self) {
        let mut files: Vec<_> =
            self.book.files().map(|(file, good, faults)| (file.to_owned(), good, faults.to_vec())).collect();
        if let Some(reason) = self.unlisted.clone() {
            let file = self.directory.display().to_string();
            let fault =
                Fault { file: file.clone(), line: 0, field: String::new(), kind: finding::Kind::Invalid, reason };
            files.push((file, false, vec![fault]));
        }
        for fault in files.iter().flat_map(|(_, _, faults)| faults) {
            tracing::error!(%fault, "configuration is refused; the last good content of the file stays in force");
        }
        let in_force = self.book.in_force().map(|(file, objects)| (file.to_owned(), objects.clone())).collect();
        self.desk
            .tell(Message::Sources(Sources { known: self.known, revision: 0, in_force, files, facts: None }))
            .await;
        if self.known {
            self.keep().await;
        }
    }

    async fn keep(&mut self) {
        let (file, on_disk) = (Arc::clone(&self.file), OnDisk { texts: self.book.texts() });
        let kept = tokio::task::spawn_blocking(move || file.keep(DISK_VERSION, &on_disk)).await;
        self.kept = kept.unwrap_or(false);
    }
}

fn parse(file: &str, text: &str) -> Result<Arc<Objects>, Vec<Fault>> {
    compiler::parse(file, text).map(Arc::new)
}
