//! Looks at a certificate authority that somebody brought along again and again: another one is announced, and signs when
//! everybody had the time to hear of it; what cannot be used is told, and what signs goes on signing.

use std::sync::Arc;

use isthmus_ca::{Ca, Plugged, plugged::Entries};
use isthmus_kubernetes::events::Event;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};

use super::{Source, read};

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
}

/// What is to sign.
struct Next {
    plugged: Plugged,
    /// When everybody had the time to hear of it; `None`: the other replicas have not heard of it yet.
    at: Option<Instant>,
}

/// One who looks.
pub struct Watcher {
    source: Source,
    ca: Ca,
    /// So long others hear of an authority before it signs.
    announced: Duration,
    seen: Option<Entries>,
    /// Whether that was so just now.
    is_fresh: bool,
    next: Option<Next>,
    standing: Arc<Mutex<Standing>>,
    events: Option<mpsc::Sender<Event>>,
    uid: String,
}

impl Watcher {
    /// Looks at a source for a CA that begins, and tells `events` what it refuses.
    #[must_use]
    pub fn new(source: Source, ca: Ca, announced: Duration, events: Option<mpsc::Sender<Event>>) -> Self {
        let seen = ca.brought();
        let standing = Standing { place: source.place(), signs: seen.is_some(), ..Standing::default() };
        let standing = Arc::new(Mutex::new(standing));
        Self { source, ca, announced, seen, is_fresh: false, next: None, standing, events, uid: String::new() }
    }

    /// How it stands, now and later.
    #[must_use]
    pub fn standing(&self) -> Arc<Mutex<Standing>> {
        Arc::clone(&self.standing)
    }

    /// Looks once.
    pub async fn look(&mut self) {
        match self.source.look().await {
            Ok(found) => {
                if let Some(found) = &found {
                    self.uid.clone_from(&found.uid);
                }
                self.heed(found.map(|found| found.entries));
            }
            Err(reason) => {
                self.is_fresh = false;
                tracing::debug!(reason, place = self.source.place(), "it cannot be looked at now");
            }
        }
    }

    fn heed(&mut self, found: Option<Entries>) {
        self.is_fresh = true;
        let place = self.source.place();
        let (signs, announced, refused) = match self.step(found) {
            Step::Nothing => return,
            Step::Refuse(reason) => (false, false, Some(reason)),
            Step::Gone => {
                let reason = format!("{place} is gone; put it back, or another one");
                (false, false, Some(reason))
            }
            Step::Signs => (true, false, None),
            Step::Announce => (false, true, None),
        };
        self.stands(Standing { place, signs, announced, refused });
    }

    /// Said where it is new.
    fn stands(&self, now: Standing) {
        let before = std::mem::replace(&mut *self.standing.lock(), now.clone());
        let Standing { place, signs, announced, refused } = now;
        if let Some(reason) = refused.filter(|reason| before.refused.as_ref() != Some(reason)) {
            tracing::error!(reason, "this certificate authority is refused; what signed before signs on");
            if let (Some(events), Some(event)) = (&self.events, self.source.event(&self.uid, &reason)) {
                let _ = events.try_send(event);
            }
        } else if announced && !before.announced {
            let seconds = self.announced.as_secs();
            tracing::info!(place, seconds, "a new certificate authority is announced, and then signs");
        } else if signs && !before.signs {
            tracing::info!(place, "the certificate authority signs");
        }
    }

    fn step(&mut self, found: Option<Entries>) -> Step {
        if found == self.seen && !self.was_succeeded() {
            return Step::Nothing;
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
                self.next = Some(Next { plugged, at: None });
                Step::Announce
            }
            Err(error) => {
                // Looked at anew, it is tried again.
                self.seen = None;
                Step::Refuse(error.to_string())
            }
        }
    }

    /// Whether what was seen signed, and another replica saw something else since.
    fn was_succeeded(&self) -> bool {
        self.standing.lock().signs && self.ca.brought() != self.seen
    }

    /// What is to sign now.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<&Plugged> {
        let is_due = |next: &&Next| next.at.is_some_and(|at| at <= now) && !self.ca.signs_with(&next.plugged);
        self.next.as_ref().filter(|_| self.is_fresh).filter(is_due).map(|next| &next.plugged)
    }

    /// What this replica knows is where all replicas look: what is announced there is heard of from now on. Who wrote there
    /// last may have made it sign.
    pub fn shared(&mut self, now: Instant) {
        let Some(next) = &mut self.next else { return };
        if self.ca.signs_with(&next.plugged) {
            self.next = None;
            self.stands(Standing { place: self.source.place(), signs: true, ..Standing::default() });
        } else if let Err(error) = self.ca.announce(&next.plugged) {
            tracing::warn!(%error, "what is announced is not believed");
        } else {
            next.at.get_or_insert(now + self.announced);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use isthmus_ca::{
        Settings,
        plugged::{CERTIFICATE, CHAIN, KEY, ROOT},
        shared::SIGNING,
    };

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
        let announced = Duration::from_secs(300);
        let mut watcher = Watcher::new(source.clone(), ca.clone(), announced, None);
        let (standing, now) = (watcher.standing(), Instant::now());
        let stands = || standing.lock().clone();
        let own = ca.roots();
        watcher.look().await;
        assert_eq!((ca.roots(), stands().refused), (own.clone(), None), "there is none");

        authority(dir.path());
        std::fs::write(dir.path().join(KEY), "cut").unwrap();
        watcher.look().await;
        let reason = stands().refused.unwrap();
        assert!(reason.contains("entry ca-key.pem") && reason.contains(&source.place()), "{reason}");
        assert_eq!(ca.roots(), own);

        authority(dir.path());
        watcher.look().await;
        assert!(stands().announced && ca.roots().len() == 2 && ca.roots()[0] == own[0]);
        assert!(watcher.due(now + announced * 2).is_none(), "other replicas have not heard of it");
        watcher.shared(now);
        assert!(watcher.due(now + announced / 2).is_none());
        let file = ca.succession(watcher.due(now + announced).unwrap()).unwrap();
        ca.take(&[(SIGNING.to_owned(), file)].into(), SystemTime::now()).unwrap();
        watcher.shared(now + announced);
        assert!(stands().signs && ca.roots().len() == 2 && ca.roots()[1] == own[0]);
        assert!(watcher.due(now + announced * 2).is_none(), "it signs already");

        for name in [CERTIFICATE, KEY, ROOT, CHAIN] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        let before = ca.roots();
        watcher.look().await;
        assert!(stands().refused.unwrap().contains("is gone"));
        assert_eq!(ca.roots(), before);
        // A control that begins then goes on with it, and says the same.
        let ca = Ca::open_plugged(state.path(), &mesh, &cluster, kept(&state, &ca), Settings::default()).unwrap();
        let mut watcher = Watcher::new(source, ca.clone(), announced, None);
        watcher.look().await;
        assert!(watcher.standing().lock().refused.as_ref().unwrap().contains("is gone"));
        assert_eq!(ca.roots(), before);
    }

    fn kept(state: &tempfile::TempDir, ca: &Ca) -> Plugged {
        Plugged::kept(state.path(), ca.trust_domain(), SystemTime::now()).unwrap().unwrap()
    }
}
