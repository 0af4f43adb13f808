//! A file of state that is written again and again. A disk that takes nothing is said once, and once more when it takes
//! again: a full disk lasts for hours, and the log is often on it.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Serialize;

use super::store_versioned;

/// One such file.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    what: &'static str,
    failing: AtomicBool,
}

impl Keeper {
    /// For a file; `what` begins a sentence: "registrations", that "cannot be kept on disk".
    #[must_use]
    pub fn new(path: PathBuf, what: &'static str) -> Self {
        Self { path, what, failing: AtomicBool::new(false) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a value as [`store_versioned`] does; whether it is on disk now.
    pub fn keep(&self, version: u32, body: &impl Serialize) -> bool {
        let (kept, what) = (store_versioned(&self.path, version, body), self.what);
        let failed_before = self.failing.swap(kept.is_err(), Ordering::Relaxed);
        match &kept {
            Err(error) if !failed_before => tracing::error!(%error, "{what} cannot be kept on disk"),
            Ok(()) if failed_before => tracing::info!(file = %self.path.display(), "{what} can be kept on disk again"),
            _ => {}
        }
        kept.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::load_versioned;

    #[test]
    fn what_could_not_be_kept_is_kept_when_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(dir.path().join("gone").join("x.json"), "a test");
        assert!(!keeper.keep(1, &1) && !keeper.keep(1, &2));
        assert!(keeper.failing.load(Ordering::Relaxed));
        std::fs::create_dir(dir.path().join("gone")).unwrap();
        assert!(keeper.keep(1, &3) && !keeper.failing.load(Ordering::Relaxed));
        assert_eq!(load_versioned::<i32>(keeper.path(), 1).unwrap(), Some(3));
    }
}
