//! The last good of each resource, in memory and on disk (`feed.json`). Written a moment after a change, so that many
//! changes are one write; leases are not kept, they say nothing later.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use isthmus_core::model::Resource;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{disk, drain::Drain};

/// Layout of the file.
const LAYOUT: u32 = 1;
/// Changes within so long are one write.
const COALESCE: Duration = Duration::from_millis(500);
/// A disk that took nothing is tried again after so long, whether or not anything changes.
const TRY_AGAIN: Duration = Duration::from_secs(3);

/// A resource and the version it has in its run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) version: u64,
    pub(super) resource: Resource,
}

/// All that is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Good {
    pub(super) run: String,
    pub(super) entries: BTreeMap<String, Arc<Entry>>,
}

#[derive(Serialize)]
struct Storing<'a> {
    run: &'a str,
    resources: BTreeMap<&'a str, &'a Entry>,
}

#[derive(Deserialize)]
struct Stored {
    run: String,
    resources: BTreeMap<String, serde_json::Value>,
}

pub(super) struct Cache {
    file: PathBuf,
    good: watch::Sender<Good>,
}

impl Cache {
    /// What is on disk, as far as this build can read it; the rest is asked for again.
    pub(super) fn open(dir: PathBuf) -> Self {
        let file = dir.join("feed.json");
        let good = match disk::make_dir(&dir).and_then(|()| disk::load_versioned::<Stored>(&file, LAYOUT)) {
            Ok(stored) => stored.map(read).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the last good configuration cannot be used, control is needed");
                Good::default()
            }
        };
        Self { file, good: watch::Sender::new(good) }
    }

    pub(super) fn good(&self) -> Good {
        self.good.borrow().clone()
    }

    /// Takes over what is in force from now on.
    pub(super) fn apply(&self, run: &str, upserts: Vec<(String, Entry)>, removals: &[String]) {
        let kept = |key: &str| key != "lease";
        self.good.send_if_modified(|good| {
            let mut changed = good.run != run;
            if changed {
                // Versions of another run say nothing in this one; 0 is none of any.
                for entry in good.entries.values_mut() {
                    *entry = Arc::new(Entry { version: 0, resource: entry.resource.clone() });
                }
                run.clone_into(&mut good.run);
            }
            for (key, entry) in upserts.into_iter().filter(|(key, _)| kept(key)) {
                good.entries.insert(key, Arc::new(entry));
                changed = true;
            }
            for key in removals {
                changed |= good.entries.remove(key).is_some();
            }
            changed
        });
    }

    /// Writes changes to disk until everything closes, the last ones included.
    pub(super) fn keep(&self, drain: Drain) -> impl Future<Output = ()> + Send + 'static {
        let (file, mut changes) = (self.file.clone(), self.good.subscribe());
        async move {
            let mut failing = false;
            while changed(&mut changes, failing).await {
                let _ = drain.unless(tokio::time::sleep(COALESCE)).await;
                let (good, file) = (changes.borrow_and_update().clone(), file.clone());
                let written = tokio::task::spawn_blocking(move || {
                    let resources = good.entries.iter().map(|(key, entry)| (key.as_str(), &**entry)).collect();
                    disk::store_versioned(&file, LAYOUT, &Storing { run: &good.run, resources })
                });
                match written.await {
                    Ok(Err(error)) if !std::mem::replace(&mut failing, true) => {
                        tracing::warn!(%error, "the configuration is in force but not kept: a restart needs control");
                    }
                    Ok(Ok(())) if std::mem::take(&mut failing) => tracing::info!("the configuration is kept again"),
                    _ => {}
                }
            }
        }
    }
}

/// Waits until there is something to write: a change, or what could not be written before. False: it is over.
async fn changed(changes: &mut watch::Receiver<Good>, failing: bool) -> bool {
    if failing {
        return !matches!(tokio::time::timeout(TRY_AGAIN, changes.changed()).await, Ok(Err(_)));
    }
    changes.changed().await.is_ok()
}

fn read(stored: Stored) -> Good {
    let mut good = Good { run: stored.run, entries: BTreeMap::new() };
    for (key, value) in stored.resources {
        match serde_json::from_value::<Entry>(value) {
            Ok(entry) if entry.resource.key() == key => {
                good.entries.insert(key, Arc::new(entry));
            }
            _ => tracing::info!(key, "a kept resource cannot be read by this build, it is asked for again"),
        }
    }
    good
}
