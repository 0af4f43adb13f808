//! A cluster's federation key on disk: PKCS#8 DER, 0600, made once by whoever comes first.

use std::path::{Path, PathBuf};

use isthmus_wire::signing::FederationKey;

use crate::disk::{self, DiskError};

/// Why there is no federation key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("federation key")]
    Disk(#[from] DiskError),
    /// The system's randomness failed.
    #[error("cannot make a federation key: {0}")]
    Random(String),
    /// The file holds something else.
    #[error("{path} holds no Ed25519 key in PKCS#8 ({reason}); restore it from a backup: other clusters know \
             this cluster by it", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

/// Loads a federation key, or makes it when the file is not there. Two processes that race get the same key.
///
/// # Errors
/// [`KeyError`]; a damaged file is never replaced, for the mesh knows the cluster by its key.
pub fn federation_key(path: impl AsRef<Path>) -> Result<FederationKey, KeyError> {
    let path = path.as_ref();
    let der = match disk::read(path)? {
        Some(der) => der,
        None => {
            if let Some(dir) = path.parent() {
                disk::make_dir(dir)?;
            }
            disk::create_atomic(path, &FederationKey::generate_pkcs8().map_err(KeyError::Random)?)?;
            disk::read(path)?.unwrap_or_default()
        }
    };
    FederationKey::from_pkcs8(&der).map_err(|reason| KeyError::Malformed { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_a_damaged_file_is_an_error_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/federation.key");
        let first = federation_key(&path).unwrap().public();
        assert_eq!(federation_key(&path).unwrap().public(), first);
        std::fs::write(&path, b"cut").unwrap();
        assert!(matches!(federation_key(&path), Err(KeyError::Malformed { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"cut");
    }
}
