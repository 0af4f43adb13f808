//! Files that every replica of a role must have the same, kept in a Secret: the cluster's certificate authority, its
//! federation key. Whoever comes first makes them; of two that come at once the API server takes one.

use std::{collections::BTreeMap, path::Path, time::Duration};

use isthmus_runtime::{
    backoff::Backoff,
    disk::{self, DiskError},
    drain::Drain,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

/// Who owns what is written.
pub const MANAGER: &str = "isthmus-control";
/// How often files are looked at for changes.
const LOOK: Duration = Duration::from_secs(30);

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The API server refuses.
    #[error("Secret {namespace}/{name} cannot be {doing}; control's Role in {namespace} must allow it")]
    Refused {
        /// `read`, `written`.
        doing: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// It holds less than it should.
    #[error("Secret {namespace}/{name} has no entry {entry}; restore it from a backup, or delete it to begin anew")]
    Lacks {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is missing.
        entry: String,
    },
    /// The own disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Whoever makes them could not.
    #[error("what Secret {namespace}/{name} is to hold could not be made: {reason}")]
    NotMade {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// What it holds cannot be used.
    #[error("Secret {namespace}/{name} cannot be used: {reason}")]
    Broken {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Which entry, why, and what to do.
        reason: String,
    },
    /// The process ends.
    #[error("the process drained before the API server answered")]
    Drained,
}

/// A Secret, and the files of it.
pub struct Vault {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
    files: &'static [&'static str],
    maybe: &'static [&'static str],
}

/// Entries of a Secret.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// A Secret of somebody else's, as it is; `None`: there is none.
///
/// # Errors
/// [`VaultError::Refused`].
pub async fn find(client: &Client, namespace: &str, name: &str) -> Result<Option<Entries>, VaultError> {
    let vault = Vault::new(client, namespace, name, &[]);
    let found = vault.secrets.get_opt(name).await.map_err(|error| vault.refused("read", error))?;
    let entries =
        |secret: Secret| secret.data.unwrap_or_default().into_iter().map(|(name, ByteString(bytes))| (name, bytes));
    Ok(found.map(|secret| entries(secret).collect()))
}

/// As [`find`]; an API server that does not answer is asked again until the drain.
///
/// # Errors
/// [`VaultError`].
pub async fn wait_for(
    client: &Client,
    namespace: &str,
    name: &str,
    drain: &Drain,
) -> Result<Option<Entries>, VaultError> {
    insist(name, drain, || find(client, namespace, name)).await
}

/// Tries again as long as that may help.
async fn insist<T, F>(name: &str, drain: &Drain, mut one: impl FnMut() -> F) -> Result<T, VaultError>
where
    F: Future<Output = Result<T, VaultError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match one().await {
            Err(VaultError::Refused { source, .. }) if is_passing(&source) => {
                tracing::info!(secret = name, error = %source, "waiting for the API server");
            }
            outcome => return outcome,
        }
        drain.unless(tokio::time::sleep(backoff.next())).await.ok_or(VaultError::Drained)?;
    }
}

impl Vault {
    /// The Secret `name` whose entries are these files.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, files: &'static [&'static str]) -> Self {
        let secrets = Api::namespaced(client.clone(), namespace);
        Self { secrets, namespace: namespace.to_owned(), name: name.to_owned(), files, maybe: &[] }
    }

    /// With files that may be there or not.
    #[must_use]
    pub fn with(self, maybe: &'static [&'static str]) -> Self {
        Self { maybe, ..self }
    }

    /// Puts the Secret's entries into `dir`. `make` makes the files where there are none, and looks whether those that are
    /// there can be used: where there is no Secret yet they become one. An API server that does not answer is asked again
    /// until the drain.
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
        insist(&self.name, drain, || self.try_open(dir, &make)).await
    }

    async fn try_open(&self, dir: &Path, make: &impl Fn() -> Result<(), String>) -> Result<(), VaultError> {
        loop {
            if let Some(secret) = self.secrets.get_opt(&self.name).await.map_err(|error| self.refused("read", error))? {
                self.unpack(&secret, dir)?;
                make().map_err(|reason| self.broken(dir, reason))?;
                return self.complete(secret, dir).await;
            }
            make().map_err(|reason| VaultError::NotMade {
                namespace: self.namespace.clone(),
                name: self.name.clone(),
                reason,
            })?;
            let secret = self.secret(self.read(dir)?);
            match self
                .secrets
                .create(&PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }, &secret)
                .await
            {
                Ok(_) => return Ok(()),
                // Another replica was first: its files count, the own ones are overwritten.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(self.refused("written", error)),
            }
        }
    }

    /// Writes back what was made beside the Secret's entries.
    async fn complete(&self, secret: Secret, dir: &Path) -> Result<(), VaultError> {
        let (there, here) = (secret.data.unwrap_or_default(), self.read(dir)?);
        if here.iter().all(|(file, bytes)| there.get(file).is_some_and(|ByteString(there)| there == bytes)) {
            return Ok(());
        }
        self.write(&here).await.map_err(|error| self.refused("written", error))
    }

    /// What cannot be used does not stay: a Secret that is deleted thereupon is made anew, and not of this.
    fn broken(&self, dir: &Path, reason: String) -> VaultError {
        self.files.iter().chain(self.maybe).for_each(|file| drop(std::fs::remove_file(dir.join(file))));
        VaultError::Broken { namespace: self.namespace.clone(), name: self.name.clone(), reason }
    }

    fn unpack(&self, secret: &Secret, dir: &Path) -> Result<(), VaultError> {
        let entries = secret.data.clone().unwrap_or_default();
        for file in self.files {
            let lacks = || VaultError::Lacks {
                namespace: self.namespace.clone(),
                name: secret.name_any(),
                entry: (*file).to_owned(),
            };
            let ByteString(bytes) = entries.get(*file).ok_or_else(lacks)?;
            disk::write_atomic(dir.join(file), bytes)?;
        }
        for file in self.maybe {
            if let Some(ByteString(bytes)) = entries.get(*file) {
                disk::write_atomic(dir.join(file), bytes)?;
            }
        }
        Ok(())
    }

    fn read(&self, dir: &Path) -> Result<Entries, VaultError> {
        let mut entries = Entries::new();
        for file in self.files {
            let lacks = || VaultError::Lacks {
                namespace: self.namespace.clone(),
                name: self.name.clone(),
                entry: (*file).to_owned(),
            };
            entries.insert((*file).to_owned(), disk::read(dir.join(file))?.ok_or_else(lacks)?);
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

    /// Writes files that changed in `dir` back, until the drain.
    pub async fn follow(&self, dir: &Path, drain: &Drain) {
        let mut written = self.read(dir).unwrap_or_default();
        while drain.unless(tokio::time::sleep(LOOK)).await.is_some() {
            let now = match self.read(dir) {
                Ok(now) if now != written => now,
                _ => continue,
            };
            match self.write(&now).await {
                Ok(()) => written = now,
                Err(error) => tracing::warn!(secret = self.name, %error, "what changed is not in the Secret yet"),
            }
        }
    }

    async fn write(&self, entries: &Entries) -> Result<(), kube::Error> {
        let data: BTreeMap<_, _> = entries.iter().map(|(file, bytes)| (file, ByteString(bytes.clone()))).collect();
        let patch = Patch::Merge(json!({ "data": data }));
        self.secrets.patch(&self.name, &PatchParams::default(), &patch).await.map(drop)
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

/// Whether asking again may help: nobody answered, or the API server says so itself.
fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}
