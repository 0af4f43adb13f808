//! The certificate authority that somebody brought along, looked at again and again: another one is announced, and signs
//! when everybody had the time to hear of it; what cannot be used is told, and what signs goes on signing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use isthmus_ca::{
    Ca, Plugged, PluggedError,
    plugged::{CERTIFICATE, CHAIN, Entries, KEY, ROOT},
};
use isthmus_core::name::TrustDomain;
use isthmus_kubernetes::{Client, vault};
use isthmus_runtime::{disk, drain::Drain};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{Duration, Instant};

use crate::{config::Config, error::Error};

/// The Secret, as Istio names it.
pub const SECRET: &str = "cacerts";
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// So long others hear of an authority before it signs: the roots of a pod are a mounted ConfigMap, which the kubelet renews
/// within two minutes, and proxies and other clusters hear within seconds.
pub const ANNOUNCED: Duration = Duration::from_secs(300);

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
    async fn look(&self) -> Result<Option<Entries>, String> {
        let dir = match self {
            Self::Secret(client, namespace) => {
                return vault::find(client, namespace, SECRET).await.map_err(|error| error.to_string());
            }
            Self::Directory(dir) => dir,
        };
        let mut entries = Entries::new();
        for name in [CERTIFICATE, KEY, ROOT, CHAIN] {
            if let Some(bytes) = disk::read(dir.join(name)).map_err(|error| error.to_string())? {
                entries.insert(name.to_owned(), bytes);
            }
        }
        Ok((!entries.is_empty()).then_some(entries))
    }
}

/// How it stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Where one may be.
    pub place: String,
    /// Whether what is there signs.
    pub signs: bool,
    /// Whether what is there signs soon.
    pub announced: bool,
    /// Why what is there cannot be used.
    pub refused: Option<String>,
}

/// What is done about what was seen.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// It is no use.
    Refuse(String),
    /// There was one, and now there is none.
    Gone,
    /// It signs already.
    Signs,
    Announce,
    Sign,
}

/// One who looks.
pub struct Watcher {
    source: Source,
    ca: Ca,
    seen: Option<Entries>,
    next: Option<(Plugged, Instant)>,
    standing: Arc<Mutex<Standing>>,
}

impl Watcher {
    /// `seen`: what signs, where it was brought along.
    #[must_use]
    pub fn new(source: Source, ca: Ca, seen: Option<Entries>) -> Self {
        let standing = Standing { place: source.place(), signs: seen.is_some(), ..Standing::default() };
        Self { source, ca, seen, next: None, standing: Arc::new(Mutex::new(standing)) }
    }

    /// How it stands, now and later.
    #[must_use]
    pub fn standing(&self) -> Arc<Mutex<Standing>> {
        Arc::clone(&self.standing)
    }

    /// Looks until the drain.
    pub async fn run(mut self, drain: Drain) {
        while drain.unless(tokio::time::sleep(LOOK)).await.is_some() {
            match self.source.look().await {
                Ok(found) => self.heed(found, Instant::now()),
                Err(reason) => tracing::debug!(reason, place = self.source.place(), "it cannot be looked at now"),
            }
            if let Err(error) = self.ca.forget_retired(SystemTime::now()) {
                tracing::warn!(%error, "what signed once is believed longer than it has to be");
            }
        }
    }

    fn heed(&mut self, found: Option<Entries>, now: Instant) {
        let step = self.step(found, now);
        let mut standing = self.standing.lock();
        let (signs, announced, refused) = match step {
            Step::Nothing => return,
            Step::Refuse(reason) => {
                tracing::error!(reason, "the new certificate authority is refused; the one before signs on");
                (false, false, Some(reason))
            }
            Step::Gone => {
                let reason = format!("{} is gone; what it held signs on until control restarts", self.source.place());
                tracing::warn!(reason, "put it back");
                (false, false, Some(reason))
            }
            Step::Signs => (true, false, None),
            Step::Announce => {
                tracing::info!(
                    place = self.source.place(),
                    seconds = ANNOUNCED.as_secs(),
                    "a new certificate authority is announced, and then signs"
                );
                (false, true, None)
            }
            Step::Sign => {
                tracing::info!(place = self.source.place(), "the new certificate authority signs");
                (true, false, None)
            }
        };
        *standing = Standing { signs, announced, refused, ..standing.clone() };
    }

    fn step(&mut self, found: Option<Entries>, now: Instant) -> Step {
        if found == self.seen {
            return self.due(now).unwrap_or(Step::Nothing);
        }
        self.seen.clone_from(&found);
        self.next = None;
        let Some(entries) = found else { return Step::Gone };
        let plugged = match read(&self.source, &entries, self.ca.trust_domain()) {
            Ok(plugged) if self.ca.signs_with(&plugged) => return Step::Signs,
            Ok(plugged) => plugged,
            Err(error) => return Step::Refuse(error.to_string()),
        };
        match self.ca.announce(&plugged) {
            Ok(()) => {
                self.next = Some((plugged, now + ANNOUNCED));
                Step::Announce
            }
            Err(error) => {
                // Looked at anew, it is tried again.
                self.seen = None;
                Step::Refuse(error.to_string())
            }
        }
    }

    fn due(&mut self, now: Instant) -> Option<Step> {
        let (plugged, _) = self.next.take_if(|(_, at)| *at <= now)?;
        Some(match self.ca.sign_with(plugged) {
            Ok(()) => Step::Sign,
            Err(error) => {
                self.seen = None;
                Step::Refuse(error.to_string())
            }
        })
    }
}

/// The one of a directory, where it will be looked for again, and what was there.
///
/// # Errors
/// [`PluggedError`].
pub async fn open(dir: &Path, config: &Config) -> Result<(Plugged, Source, Entries), Error> {
    let source = Source::Directory(dir.to_owned());
    // What cannot be read is missing, and named so.
    let entries = source.look().await.ok().flatten().unwrap_or_default();
    let plugged = read(&source, &entries, &config.common.cluster.trust_domain(&config.common.mesh))?;
    Ok((plugged, source, entries))
}

/// Reads and tries what a source has.
///
/// # Errors
/// [`PluggedError`].
pub fn read(source: &Source, entries: &Entries, domain: &TrustDomain) -> Result<Plugged, PluggedError> {
    Plugged::read(&source.place(), entries, domain, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use isthmus_ca::Settings;

    use super::*;

    /// A root that signs itself, as the four files.
    fn authority(dir: &std::path::Path) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        for (name, text) in [(CERTIFICATE, &pem), (KEY, &key.serialize_pem()), (ROOT, &pem), (CHAIN, &pem)] {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    #[tokio::test]
    async fn another_one_is_announced_then_signs_and_a_broken_one_changes_nothing() {
        let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mesh, cluster) = ("mesh.test".parse().unwrap(), "east".parse().unwrap());
        let ca = Ca::open_or_create(state.path(), &mesh, &cluster, Settings::default()).unwrap();
        let source = Source::Directory(dir.path().to_owned());
        let mut watcher = Watcher::new(source.clone(), ca.clone(), None);
        let (standing, now) = (watcher.standing(), Instant::now());
        let stands = || standing.lock().clone();
        let own = ca.roots();
        watcher.heed(source.look().await.unwrap(), now);
        assert_eq!((ca.roots(), stands().refused), (own.clone(), None), "there is none");

        authority(dir.path());
        std::fs::write(dir.path().join(KEY), "cut").unwrap();
        watcher.heed(source.look().await.unwrap(), now);
        let reason = stands().refused.unwrap();
        assert!(reason.contains("entry ca-key.pem") && reason.contains(&source.place()), "{reason}");
        assert_eq!(ca.roots(), own);

        authority(dir.path());
        watcher.heed(source.look().await.unwrap(), now);
        assert!(stands().announced && ca.roots().len() == 2 && ca.roots()[0] == own[0]);
        watcher.heed(source.look().await.unwrap(), now + ANNOUNCED / 2);
        assert!(!stands().signs);
        watcher.heed(source.look().await.unwrap(), now + ANNOUNCED);
        assert!(stands().signs && ca.roots().len() == 2 && ca.roots()[1] == own[0]);

        for name in [CERTIFICATE, KEY, ROOT, CHAIN] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        watcher.heed(source.look().await.unwrap(), now + ANNOUNCED);
        assert!(stands().refused.unwrap().contains("is gone"));
        assert_eq!(ca.roots()[1], own[0]);
    }
}
