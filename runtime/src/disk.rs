//! State on disk: a file is the old one or the new one, never half of each, and says which version it is of.
//!
//! Everything written here is readable by its own user only.

mod keeper;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use keeper::Keeper;

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("cannot {doing} {path}{hint}: {source}", path = .path.display())]
    Io {
        /// `read`, `write`, ...
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The likely reason, in brackets; may be empty.
        hint: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The content is not what it should be: cut off, or not ours.
    #[error("{path} is damaged or not ours: {reason}; remove it to begin without it", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// Written by a build that uses another layout.
    #[error("{path} has layout version {found}, this build reads {expected}", path = .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this build reads.
        expected: u32,
    },
}

impl DiskError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::StorageFull => " (the disk is full)",
            io::ErrorKind::QuotaExceeded => " (the disk quota is used up)",
            io::ErrorKind::FileTooLarge => " (a limit on the size of files is reached, see ulimit -f)",
            io::ErrorKind::PermissionDenied => " (it belongs to another user)",
            io::ErrorKind::ReadOnlyFilesystem => " (the file system is read-only)",
            _ => "",
        };
        Self::Io { doing, path: path.to_owned(), hint, source }
    }
}

/// Makes a directory and those above it, for the own user only; fine when it is there.
///
/// # Errors
/// [`DiskError::Io`].
pub fn make_dir(path: &Path) -> Result<(), DiskError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| DiskError::io("create directory", path, error))
}

/// Replaces a file as a whole: temporary file, fsync, rename, fsync of the directory. Mode 0600.
///
/// # Errors
/// [`DiskError::Io`]; the old file is then as it was.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), DiskError> {
    let path = path.as_ref();
    let temporary = write_temporary(path, bytes)?;
    let renamed = std::fs::rename(&temporary, path).map_err(|error| DiskError::io("replace", path, error));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    renamed?;
    sync_dir(path)
}

/// Creates a file as a whole, unless it is there already: two processes that race both find one winner's bytes.
/// True: created by this call.
///
/// # Errors
/// [`DiskError::Io`].
pub fn create_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<bool, DiskError> {
    let path = path.as_ref();
    if path.exists() {
        return Ok(false);
    }
    let temporary = write_temporary(path, bytes)?;
    let linked = std::fs::hard_link(&temporary, path);
    let _ = std::fs::remove_file(&temporary);
    match linked {
        Ok(()) => sync_dir(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(DiskError::io("create", path, error)),
    }
}

fn write_temporary(path: &Path, bytes: &[u8]) -> Result<PathBuf, DiskError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.{number}.tmp", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        DiskError::io("write", path, error)
    })?;
    Ok(temporary)
}

fn sync_dir(path: &Path) -> Result<(), DiskError> {
    let Some(dir) = path.parent() else { return Ok(()) };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| DiskError::io("sync directory", dir, error))
}

/// A file's bytes; `None` when there is no such file.
///
/// # Errors
/// [`DiskError::Io`].
pub fn read(path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, DiskError> {
    let path = path.as_ref();
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::io("read", path, error)),
    }
}

#[derive(Deserialize)]
struct Layout {
    version: u32,
}

#[derive(Deserialize)]
struct Stored<T> {
    body: T,
}

#[derive(Serialize)]
struct Storing<'a, T> {
    version: u32,
    body: &'a T,
}

/// Reads what [`store_versioned`] wrote; `None` when there is no such file.
///
/// # Errors
/// [`DiskError`]: unreadable, damaged, or of another layout version.
pub fn load_versioned<T: DeserializeOwned>(path: impl AsRef<Path>, version: u32) -> Result<Option<T>, DiskError> {
    let path = path.as_ref();
    read(path)?.map(|bytes| parse_versioned(path, version, &bytes)).transpose()
}

/// Reads what [`versioned`] made; `path` is for messages.
///
/// # Errors
/// [`DiskError`]: damaged, or of another layout version.
pub fn parse_versioned<T: DeserializeOwned>(
    path: impl AsRef<Path>,
    version: u32,
    bytes: &[u8],
) -> Result<T, DiskError> {
    let path = path.as_ref();
    let malformed =
        |error: serde_json::Error| DiskError::Malformed { path: path.to_owned(), reason: error.to_string() };
    let layout: Layout = serde_json::from_slice(bytes).map_err(malformed)?;
    if layout.version != version {
        return Err(DiskError::Version { path: path.to_owned(), found: layout.version, expected: version });
    }
    serde_json::from_slice(bytes).map(|stored: Stored<T>| stored.body).map_err(malformed)
}

/// Writes a value as JSON with its layout version, as [`write_atomic`] does.
///
/// # Errors
/// [`DiskError`].
pub fn store_versioned<T: Serialize>(path: impl AsRef<Path>, version: u32, body: &T) -> Result<(), DiskError> {
    let path = path.as_ref();
    write_atomic(path, &versioned(path, version, body)?)
}

/// A value as JSON with its layout version; `path` is for messages.
///
/// # Errors
/// [`DiskError::Malformed`]: it cannot be written as JSON.
pub fn versioned<T: Serialize>(path: impl AsRef<Path>, version: u32, body: &T) -> Result<Vec<u8>, DiskError> {
    serde_json::to_vec(&Storing { version, body })
        .map_err(|error| DiskError::Malformed { path: path.as_ref().to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_only_the_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert_eq!(load_versioned::<Vec<u8>>(&path, 1).unwrap(), None);
        store_versioned(&path, 1, &vec![1u8, 2]).unwrap();
        store_versioned(&path, 1, &vec![3u8]).unwrap();
        assert_eq!(load_versioned::<Vec<u8>>(&path, 1).unwrap(), Some(vec![3]));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_cut_file_and_a_strange_version_are_errors_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        store_versioned(&path, 1, &"long enough to be cut").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = load_versioned::<String>(&path, 1).unwrap_err();
            assert!(matches!(error, DiskError::Malformed { .. }) && error.to_string().contains("x.json"), "{error}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(matches!(load_versioned::<String>(&path, 2), Err(DiskError::Version { found: 1, expected: 2, .. })));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub").join("x");
        assert!(write_atomic(&path, b"new").is_err(), "there is no such directory");
        let path = dir.path().join("x");
        assert!(create_atomic(&path, b"first").unwrap());
        assert!(!create_atomic(&path, b"second").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }
}
