//! Files that every replica of a role must have the same, kept in a Secret: the cluster's certificate authority, its
//! federation key. Whoever comes first makes them; of two that come at once the API server takes one.
//!
//! A Secret is written only as somebody has just read it ([`Vault::put`]): who was slower than another one reads again, and
//! nothing is overwritten that was not seen.

mod asking;
mod error;

use std::{collections::BTreeMap, path::Path, time::Duration};

use isthmus_runtime::{disk, drain::Drain};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use asking::insist;
pub use asking::{find, wait_for};
pub use error::VaultError;

/// Beside the files: that they are what the Secret held, so that they hold where no API server answers.
const KEPT: &str = "in-secret";
/// An API server that has not answered in so long is not waited for where there are files to begin with.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Who owns what is written.
pub const MANAGER: &str = "isthmus-control";

/// Entries of a Secret.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// Of a file that is here and in the Secret, by its name, the one that holds; `None`: the Secret's.
pub type Merge = fn(&str, &[u8], &[u8]) -> Option<Vec<u8>>;

/// A Secret, and the files of it.
pub struct Vault {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
    files: &'static [&'static str],
    maybe: &'static [&'static str],
    either: &'static [&'static str],
    merge: Merge,
}

/// A Secret's entries, and of which version of it they are.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The entries.
    pub entries: Entries,
    /// The Secret's UID.
    pub uid: String,
    version: Option<String>,
}

impl Held {
    fn of(secret: Secret) -> Self {
        let (uid, version) = (secret.uid().unwrap_or_default(), secret.resource_version());
        let entries = secret.data.unwrap_or_default().into_iter().map(|(name, ByteString(bytes))| (name, bytes));
        Self { entries: entries.collect(), uid, version }
    }

    fn has(&self, entries: &Entries) -> bool {
        entries.iter().all(|(name, bytes)| self.entries.get(name) == Some(bytes))
    }
}

/// Says that what is in `dir` was in the Secret.
fn keep(dir: &Path) -> Result<(), VaultError> {
    Ok(disk::write_atomic(dir.join(KEPT), b"")?)
}

impl Vault {
    /// The Secret `name` whose entries are these files.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, files: &'static [&'static str]) -> Self {
        let secrets = Api::namespaced(client.clone(), namespace);
        Self {
            secrets,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            files,
            maybe: &[],
            either: &[],
            merge: |_, _, _| None,
        }
    }

    /// With files that may be there or not.
    #[must_use]
    pub fn with(self, maybe: &'static [&'static str]) -> Self {
        Self { maybe, ..self }
    }

    /// Of which the Secret has to have one of these.
    #[must_use]
    pub fn with_one_of(self, either: &'static [&'static str]) -> Self {
        Self { either, ..self }
    }

    /// With files of which not always the Secret's holds.
    #[must_use]
    pub fn merging(self, merge: Merge) -> Self {
        Self { merge, ..self }
    }

    /// What the Secret holds; `None`: there is none.
    ///
    /// # Errors
    /// [`VaultError::Refused`].
    pub async fn look(&self) -> Result<Option<Held>, VaultError> {
        let found = self.secrets.get_opt(&self.name).await.map_err(|error| self.refused("read", error))?;
        Ok(found.map(Held::of))
    }

    /// Writes entries to the Secret as it was seen, or makes it where there was none; those that are there already are not
    /// written. `false`: it has changed since, and nothing is written.
    ///
    /// # Errors
    /// [`VaultError::Refused`].
    pub async fn put(&self, seen: Option<&Held>, entries: Entries) -> Result<bool, VaultError> {
        let written = match seen {
            Some(seen) if seen.has(&entries) => return Ok(true),
            Some(seen) => self.patch(seen, entries).await,
            None => {
                let by = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
                self.secrets.create(&by, &self.secret(entries)).await.map(drop)
            }
        };
        match written {
            Ok(()) => Ok(true),
            // Another replica was faster; or somebody took the Secret away.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(self.refused("written", error)),
        }
    }

    async fn patch(&self, seen: &Held, entries: Entries) -> Result<(), kube::Error> {
        let data: BTreeMap<_, _> = entries.into_iter().map(|(file, bytes)| (file, ByteString(bytes))).collect();
        let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": seen.version }, "data": data }));
        self.secrets.patch(&self.name, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Puts the Secret's entries into `dir`. `make` makes the files where there are none, and looks whether those that are
    /// there can be used: where there is no Secret yet they become one. Where an API server does not answer, what an earlier
    /// run had of the Secret holds; who has nothing of it asks again until the drain.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open(
        &self,
        dir: &Path,
        make: impl Fn() -> Result<(), String>,
        drain: &Drain,
    ) -> Result<(), VaultError> {
        disk::make_dir(dir)?;
        if self.is_kept(dir) {
            match tokio::time::timeout(ANSWERS_WITHIN, self.try_open(dir, &make)).await {
                Ok(Err(error)) if error.is_passing() => self.said(&error.cause()),
                Ok(outcome) => return outcome.and_then(|()| keep(dir)),
                Err(_) => self.said("it does not answer"),
            }
            // Unless another replica's turned out to count.
            if self.is_kept(dir) {
                return make().map_err(|reason| self.not_made(reason));
            }
        }
        insist(&self.name, drain, || self.try_open(dir, &make)).await?;
        keep(dir)
    }

    /// Whether the files in `dir` are what the Secret held when an earlier run saw it.
    #[must_use]
    pub fn is_kept(&self, dir: &Path) -> bool {
        let is_there = |file: &&str| dir.join(file).exists();
        let signs = self.either.is_empty() || self.either.iter().any(&is_there);
        signs && is_there(&KEPT) && self.files.iter().all(is_there)
    }

    fn said(&self, error: &str) {
        tracing::warn!(secret = self.name, error, "the API server is away; what the Secret held before holds");
    }

    async fn try_open(&self, dir: &Path, make: &impl Fn() -> Result<(), String>) -> Result<(), VaultError> {
        loop {
            let seen = self.look().await?;
            match &seen {
                Some(held) => {
                    self.unpack(held, dir)?;
                    make().map_err(|reason| self.broken(dir, reason))?;
                }
                None => make().map_err(|reason| self.not_made(reason))?,
            }
            // What was made beside the Secret's entries is written back.
            if self.put(seen.as_ref(), self.read(dir)?).await? {
                return Ok(());
            }
            // Of two that make them at once the first one's count, and what the other made never was.
            if seen.is_none() {
                self.remove(dir);
            }
        }
    }

    fn not_made(&self, reason: String) -> VaultError {
        VaultError::NotMade { namespace: self.namespace.clone(), name: self.name.clone(), reason }
    }

    fn remove(&self, dir: &Path) {
        let all = self.files.iter().chain(self.maybe).chain(&[KEPT]);
        all.for_each(|file| drop(std::fs::remove_file(dir.join(file))));
    }

    /// What cannot be used does not stay: a Secret that is deleted thereupon is made anew, and not of this.
    fn broken(&self, dir: &Path, reason: String) -> VaultError {
        self.remove(dir);
        VaultError::Broken { namespace: self.namespace.clone(), name: self.name.clone(), reason }
    }

    fn unpack(&self, held: &Held, dir: &Path) -> Result<(), VaultError> {
        for file in self.files {
            if !held.entries.contains_key(*file) {
                return Err(self.lacks(file));
            }
        }
        if let Some(first) = self.either.first()
            && !self.either.iter().any(|file| held.entries.contains_key(*file))
        {
            return Err(self.lacks(first));
        }
        for file in self.files.iter().chain(self.maybe) {
            let Some(there) = held.entries.get(*file) else { continue };
            let path = dir.join(file);
            let here = disk::read(&path)?;
            let merged = here.and_then(|here| (self.merge)(file, &here, there));
            disk::write_atomic(path, merged.as_ref().unwrap_or(there))?;
        }
        Ok(())
    }

    fn lacks(&self, entry: &str) -> VaultError {
        VaultError::Lacks { namespace: self.namespace.clone(), name: self.name.clone(), entry: entry.to_owned() }
    }

    fn read(&self, dir: &Path) -> Result<Entries, VaultError> {
        let mut entries = Entries::new();
        for file in self.files {
            let bytes = disk::read(dir.join(file))?.ok_or_else(|| self.lacks(file))?;
            entries.insert((*file).to_owned(), bytes);
        }
        for file in self.maybe {
            if let Some(bytes) = disk::read(dir.join(file))? {
                entries.insert((*file).to_owned(), bytes);
            }
        }
        Ok(entries)
    }

    fn secret(&self, entries: Entries) -> Secret {
        let data = entries.into_iter().map(|(file, bytes)| (file, ByteString(bytes))).collect();
        let labels = [("app.kubernetes.io/part-of", "isthmus"), ("app.kubernetes.io/managed-by", MANAGER)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let metadata = ObjectMeta { name: Some(self.name.clone()), labels: Some(labels), ..ObjectMeta::default() };
        Secret { metadata, data: Some(data), type_: Some("isthmus.dev/files".into()), ..Secret::default() }
    }

    fn refused(&self, doing: &'static str, error: kube::Error) -> VaultError {
        VaultError::Refused {
            doing,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            source: Box::new(error),
        }
    }
}
