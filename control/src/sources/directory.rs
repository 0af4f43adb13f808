//! Reads and watches the directory of YAML objects.
//!
//! The *directory* is watched, not its files: editors replace files, and a ConfigMap volume swaps its `..data` link.
//! Events are only a hint to look again; a slow poll finds what no event told of.

use std::{path::Path, time::Duration};

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::book::Listing;

/// Files larger than this are refused: etcd takes objects of at most 1.5 MiB.
const MAX_FILE: u64 = 4 << 20;
/// A burst of events is over after so long without one.
const QUIET: Duration = Duration::from_millis(50);
/// The longest a burst is waited for.
const BURST: Duration = Duration::from_millis(500);
/// The poll that finds what no event told of.
const POLL: Duration = Duration::from_secs(3);

/// Every `.yaml` and `.yml` file of the directory, links followed, hidden ones (`..data`) left out.
///
/// # Errors
/// When the directory itself cannot be listed.
pub fn list(directory: &Path) -> std::io::Result<Listing> {
    let mut listing = Listing::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_yaml = Path::new(&name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if is_yaml && !name.starts_with('.') {
            match read(&entry.path()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                content => {
                    listing.insert(name, content.map_err(|error| error.to_string()));
                }
            }
        }
    }
    Ok(listing)
}

fn read(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE {
        let reason = format!("the file has {size} bytes; at most {MAX_FILE} are read");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason));
    }
    std::fs::read_to_string(path)
}

fn wrote(event: &notify::Event) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

/// Tells when to look again.
pub struct Hints {
    events: mpsc::Receiver<()>,
    /// Dropping it ends the watch.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Hints {
    /// Watches a directory; where the system cannot, only the poll is left, and that is said.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let (tell, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading makes access events; they would wake us for ever.
            if event.map_or(true, |event| !event.kind.is_access() || wrote(&event)) {
                // A full channel means a look is due already.
                let _ = tell.try_send(());
            }
        })
        .and_then(|mut watcher| watcher.watch(directory, RecursiveMode::NonRecursive).map(|()| watcher));
        if let Err(error) = &watcher {
            tracing::warn!(directory = %directory.display(), %error, "configuration is polled: it cannot be watched");
        }
        Self { events, _watcher: watcher.ok() }
    }

    /// Returns when the directory may have changed and its burst of changes is over, or when the poll is due.
    pub async fn next(&mut self) {
        let first = tokio::time::timeout(POLL, self.events.recv()).await;
        match first {
            Ok(Some(())) => self.settle().await,
            // No watcher: the channel is closed, so the poll alone decides.
            Ok(None) => tokio::time::sleep(POLL).await,
            Err(_poll) => {}
        }
    }

    async fn settle(&mut self) {
        let settled = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {} };
        // A directory that is written without end is looked at all the same.
        let _ = tokio::time::timeout(BURST, settled).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_swapped_data_link_is_seen_as_new_content() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("a.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.yaml", at("a.yaml")).unwrap();
        std::fs::write(at("note.txt"), "not ours").unwrap();
        let mut hints = Hints::of(directory.path());
        assert_eq!(list(directory.path()).unwrap(), Listing::from([("a.yaml".into(), Ok("one".into()))]));
        std::os::unix::fs::symlink("..2", at("..tmp")).unwrap();
        std::fs::rename(at("..tmp"), at("..data")).unwrap();
        tokio::time::timeout(Duration::from_secs(2), hints.next()).await.expect("an event, not the poll");
        assert_eq!(list(directory.path()).unwrap(), Listing::from([("a.yaml".into(), Ok("two".into()))]));
    }
}
