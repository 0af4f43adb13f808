//! Roots of passes, on disk, rotated.
//!
//! Gateways learn roots with their leaf, so a new root must be with every gateway before a pass is made with it: it
//! is announced first, used once each gateway has renewed, and still known while passes of it are around. That takes
//! three at a time.
//!
//! Replicas of control have one list: a root is made by whoever puts it where all of them look, and of two lists the newest
//! of both count, in whatever order they come.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_runtime::disk;
use serde::{Deserialize, Serialize};

use crate::{CaError, store};

/// Layout of the file.
const LAYOUT: u32 = 1;
/// The file.
pub(crate) const FILE: &str = "pass-roots.json";
/// Announced, in use, retiring.
const KEPT: usize = 3;
/// Bytes of a root.
const BYTES: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    key: String,
    /// Unix seconds.
    made: u64,
}

/// The roots of a CA, newest first; never empty.
pub struct PassRoots {
    file: PathBuf,
    roots: Vec<Root>,
    rotation: Duration,
    announced: Duration,
}

impl PassRoots {
    /// Opens the roots of a CA's directory, or makes the first. `rotation`: age at which the next is made;
    /// `announced`: how long it is known before it is used, at least the life of a leaf.
    ///
    /// # Errors
    /// [`CaError::Disk`]; a damaged file is not replaced, for its roots may be in use.
    pub fn open_or_create(dir: &Path, rotation: Duration, announced: Duration) -> Result<Self, CaError> {
        let file = dir.join(FILE);
        let roots = disk::load_versioned::<Vec<Root>>(&file, LAYOUT)?.unwrap_or_default();
        let mut all = Self { file, roots, rotation, announced };
        if all.decoded().is_empty() {
            all.add(SystemTime::now())?;
        }
        Ok(all)
    }

    /// Makes the next root when it is time.
    ///
    /// # Errors
    /// [`CaError::Disk`]; the roots are then as they were.
    pub fn rotate(&mut self, now: SystemTime) -> Result<(), CaError> {
        if self.is_due(now) { self.add(now) } else { Ok(()) }
    }

    fn is_due(&self, now: SystemTime) -> bool {
        self.roots.first().is_none_or(|newest| age(newest, now) >= self.rotation)
    }

    fn add(&mut self, now: SystemTime) -> Result<(), CaError> {
        self.put(self.with_one_more(now)?)
    }

    fn with_one_more(&self, now: SystemTime) -> Result<Vec<Root>, CaError> {
        let key = STANDARD.encode(store::random(BYTES)?);
        let made = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(newest(self.roots.iter().cloned().chain([Root { key, made }])))
    }

    fn put(&mut self, roots: Vec<Root>) -> Result<(), CaError> {
        if roots != self.roots {
            disk::store_versioned(&self.file, LAYOUT, &roots)?;
        }
        self.roots = roots;
        Ok(())
    }

    /// As the file has them, with the next one when it is time; none is made for that here.
    pub(crate) fn proposed(&self, now: SystemTime) -> Result<Vec<u8>, CaError> {
        let roots = if self.is_due(now) { self.with_one_more(now)? } else { self.roots.clone() };
        Ok(disk::versioned(&self.file, LAYOUT, &roots)?)
    }

    /// Takes what another list has and this one has not.
    pub(crate) fn merge(&mut self, bytes: &[u8]) -> Result<(), CaError> {
        let other: Vec<Root> = disk::parse_versioned(&self.file, LAYOUT, bytes)?;
        self.put(newest(self.roots.iter().cloned().chain(other)))
    }

    /// What gateways are given, newest first.
    #[must_use]
    pub fn decoded(&self) -> Vec<Vec<u8>> {
        self.roots.iter().filter_map(|root| STANDARD.decode(&root.key).ok()).filter(|key| key.len() == BYTES).collect()
    }

    /// The one that passes are made with: the newest that every gateway knows, or the oldest.
    #[must_use]
    pub fn in_use(&self, now: SystemTime) -> Option<Vec<u8>> {
        let known = self.roots.iter().find(|root| age(root, now) >= self.announced).or(self.roots.last())?;
        STANDARD.decode(&known.key).ok()
    }
}

/// The newest, each once.
fn newest(roots: impl IntoIterator<Item = Root>) -> Vec<Root> {
    let mut all: Vec<_> = roots.into_iter().collect();
    all.sort_by(|a, b| b.made.cmp(&a.made).then_with(|| a.key.cmp(&b.key)));
    all.dedup();
    all.truncate(KEPT);
    all
}

/// The union of two files; `None`: one of them is none.
pub(crate) fn merged(here: &[u8], there: &[u8]) -> Option<Vec<u8>> {
    let list = |bytes: &[u8]| disk::parse_versioned::<Vec<Root>>(FILE, LAYOUT, bytes).ok();
    disk::versioned(FILE, LAYOUT, &newest(list(here)?.into_iter().chain(list(there)?))).ok()
}

fn age(root: &Root, now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(Duration::from_secs(root.made))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lists() -> impl Strategy<Value = Vec<Root>> {
        let root = (0u8..9, 0u64..6).prop_map(|(key, made)| Root { key: format!("k{key}"), made });
        proptest::collection::vec(root, 0..6).prop_map(newest)
    }

    proptest! {
        #[test]
        fn in_whatever_order_lists_come_the_newest_of_all_count(a in lists(), b in lists(), c in lists()) {
            let merged = |a: &[Root], b: &[Root]| newest([a, b].concat());
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &a), a.clone());
            let both = merged(&a, &b);
            for lost in a.iter().filter(|root| !both.contains(root)) {
                prop_assert!(both.len() == KEPT && both.iter().all(|root| root.made >= lost.made));
            }
        }
    }

    #[test]
    fn a_root_that_is_proposed_and_not_taken_was_never_there() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Duration::from_secs(1000);
        let mut roots = PassRoots::open_or_create(dir.path(), rotation, Duration::from_secs(100)).unwrap();
        let (before, later) = (roots.decoded(), SystemTime::now() + rotation * 2);
        let mine = roots.proposed(later).unwrap();
        let theirs = roots.proposed(later).unwrap();
        assert_ne!(mine, theirs);
        assert_eq!(roots.decoded(), before);
        roots.merge(&theirs).unwrap();
        assert_eq!(roots.decoded().len(), 2);
        assert_eq!(roots.proposed(later).unwrap(), theirs, "it is not due any more");
    }

    #[test]
    fn a_new_root_is_announced_before_it_is_used_and_an_old_one_stays_known() {
        let dir = tempfile::tempdir().unwrap();
        let (rotation, announced) = (Duration::from_secs(1000), Duration::from_secs(100));
        let mut roots = PassRoots::open_or_create(dir.path(), rotation, announced).unwrap();
        let now = SystemTime::now();
        let first = roots.in_use(now).unwrap();
        let later = now + rotation + Duration::from_secs(2);
        roots.rotate(later).unwrap();
        roots.rotate(later).unwrap();
        assert_eq!(roots.decoded().len(), 2, "it rotates once");
        assert_eq!(roots.in_use(later).unwrap(), first, "announced, not used");
        let second = roots.in_use(later + announced).unwrap();
        assert_ne!(second, first);
        let again = PassRoots::open_or_create(dir.path(), rotation, announced).unwrap();
        assert_eq!(again.decoded(), [second, first]);
    }
}
