//! Roots of passes, on disk, rotated.
//!
//! Gateways learn roots with their leaf, so a new root must be with every gateway before a pass is made with it: it
//! is announced first, used once each gateway has renewed, and still known while passes of it are around. That takes
//! three at a time.

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
/// Announced, in use, retiring.
const KEPT: usize = 3;
/// Bytes of a root.
const BYTES: usize = 32;

#[derive(Clone, Serialize, Deserialize)]
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
        let file = dir.join("pass-roots.json");
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
        let due = self.roots.first().is_none_or(|newest| age(newest, now) >= self.rotation);
        if due { self.add(now) } else { Ok(()) }
    }

    fn add(&mut self, now: SystemTime) -> Result<(), CaError> {
        let key = STANDARD.encode(store::random(BYTES)?);
        let made = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut roots = vec![Root { key, made }];
        roots.extend(self.roots.iter().take(KEPT - 1).cloned());
        disk::store_versioned(&self.file, LAYOUT, &roots)?;
        self.roots = roots;
        Ok(())
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

fn age(root: &Root, now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(Duration::from_secs(root.made))
}

#[cfg(test)]
mod tests {
    use super::*;

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
