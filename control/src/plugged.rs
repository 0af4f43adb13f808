//! The certificate authority that somebody brought along: where it may be, and what is there.

mod watcher;

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use isthmus_ca::{
    Ca, Plugged, PluggedError,
    plugged::{CERTIFICATE, CHAIN, Entries, KEY, ROOT},
};
use isthmus_core::name::TrustDomain;
use isthmus_kubernetes::{
    Client,
    events::{About, Event},
    vault,
};
use isthmus_runtime::disk;
pub use watcher::{Standing, Watcher};

use crate::config::Config;

/// The Secret, as Istio names it.
pub const SECRET: &str = "cacerts";

/// Where one may be.
#[derive(Clone)]
pub enum Source {
    /// In a Secret beside control.
    Secret(Client, String),
    /// In a directory.
    Directory(PathBuf),
}

impl Source {
    /// As messages name it.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Secret(_, namespace) => format!("Secret {namespace}/{SECRET}"),
            Self::Directory(dir) => format!("directory {}", dir.display()),
        }
    }

    /// What is there now; `None`: nothing.
    ///
    /// # Errors
    /// Why nobody can say.
    pub async fn look(&self) -> Result<Option<Found>, String> {
        let dir = match self {
            Self::Secret(client, namespace) => {
                let found = vault::find(client, namespace, SECRET).await.map_err(|error| error.to_string())?;
                return Ok(found.map(|held| Found { entries: the_four(held.entries), uid: held.uid }));
            }
            Self::Directory(dir) => dir,
        };
        let mut entries = Entries::new();
        for name in [CERTIFICATE, KEY, ROOT, CHAIN] {
            if let Some(bytes) = disk::read(dir.join(name)).map_err(|error| error.to_string())? {
                entries.insert(name.to_owned(), bytes);
            }
        }
        Ok((!entries.is_empty()).then_some(Found { entries, uid: String::new() }))
    }

    /// What befell it, for who looks at it; `uid`: of the Secret. A directory has no place for that.
    fn event(&self, uid: &str, note: &str) -> Option<Event> {
        let Self::Secret(_, namespace) = self else { return None };
        let about = About {
            api_version: "v1".into(),
            kind: "Secret".into(),
            namespace: namespace.clone(),
            name: SECRET.into(),
            uid: uid.to_owned(),
        };
        let note = format!("{note} (what signed before signs on)");
        Some(Event { about, reason: "AuthorityRefused", action: "Sign", note })
    }
}

/// What a source has.
pub struct Found {
    /// The four.
    pub entries: Entries,
    /// Of the Secret, its UID.
    pub uid: String,
}

/// A Secret of Istio's holds more than that.
#[must_use]
pub fn the_four(mut entries: Entries) -> Entries {
    entries.retain(|name, _| [CERTIFICATE, KEY, ROOT, CHAIN].contains(&name.as_str()));
    entries
}

/// What a directory has when control begins, where it is any good. What is not is told by who looks at it again; but where
/// nothing signs yet, nothing begins with it.
///
/// # Errors
/// [`PluggedError`].
pub async fn begin(dir: &Path, config: &Config) -> Result<Option<Plugged>, PluggedError> {
    let (source, domain) = (Source::Directory(dir.to_owned()), config.common.cluster.trust_domain(&config.common.mesh));
    // What cannot be read is missing, and named so.
    let entries = source.look().await.ok().flatten().map(|found| found.entries).unwrap_or_default();
    let signs = Ca::is_in(&config.ca_dir())
        || Plugged::kept(&config.ca_dir(), &domain, SystemTime::now()).is_ok_and(|kept| kept.is_some());
    match read(&source, &entries, &domain) {
        Err(_) if signs => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Reads and tries what a source has.
///
/// # Errors
/// [`PluggedError`].
pub fn read(source: &Source, entries: &Entries, domain: &TrustDomain) -> Result<Plugged, PluggedError> {
    Plugged::read(&source.place(), entries, domain, SystemTime::now())
}
