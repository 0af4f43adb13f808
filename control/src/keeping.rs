//! Keeps what signs, and by what leaves are believed, the same in all replicas of control: a look every ten seconds at the
//! Secret that all of them share and at what somebody brings along to sign with, and whatever this replica has to add is put
//! into the Secret. Nothing of it counts before it is there. On hosts, where a cluster has one control, its disk is that
//! place.

use std::time::SystemTime;

use isthmus_ca::{Ca, shared::SIGNING};
use isthmus_kubernetes::{events::Event, vault::Vault};
use isthmus_runtime::drain::Drain;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::plugged::{Source, Watcher};

/// How often it is looked at.
pub const LOOK: Duration = Duration::from_secs(10);
/// Times that another replica may be faster before the next look.
const TRIES: usize = 5;

/// Where it is looked, and where what is wrong is told.
#[derive(Default)]
pub struct Places {
    /// What somebody brings along to sign with.
    pub source: Option<Source>,
    /// What replicas share.
    pub vault: Option<Vault>,
    /// Whoever writes Events.
    pub events: Option<mpsc::Sender<Event>>,
}

/// Who looks.
pub struct Keeping {
    ca: Ca,
    vault: Option<Vault>,
    watcher: Option<Watcher>,
    said: String,
}

impl Keeping {
    /// `vault`: what replicas share; `watcher`: looks at what is brought along.
    #[must_use]
    pub fn new(ca: Ca, vault: Option<Vault>, watcher: Option<Watcher>) -> Self {
        Self { ca, vault, watcher, said: String::new() }
    }

    /// Looks until the drain.
    pub async fn run(mut self, drain: Drain) {
        while drain.unless(tokio::time::sleep(LOOK)).await.is_some() {
            self.round().await;
        }
    }

    /// One look.
    pub async fn round(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            watcher.look().await;
        }
        for _ in 0..TRIES {
            match self.turn(SystemTime::now()).await {
                Ok(true) => return self.said.clear(),
                Ok(false) => {}
                Err(reason) => return self.say(reason),
            }
        }
    }

    /// Takes what replicas share and adds to it; `false`: another replica was faster.
    async fn turn(&mut self, now: SystemTime) -> Result<bool, String> {
        self.ca.forget_retired(now).map_err(|error| error.to_string())?;
        let held = match &self.vault {
            Some(vault) => vault.look().await.map_err(|error| error.to_string())?,
            None => None,
        };
        if let Some(held) = &held {
            // What cannot be read is not written over: a newer control may have written it.
            self.ca.take(&held.entries, now).map_err(|error| error.to_string())?;
        }
        let mut wanted = self.ca.proposal(now).map_err(|error| error.to_string())?;
        if let Some(plugged) = self.watcher.as_ref().and_then(|watcher| watcher.due(Instant::now())) {
            wanted.insert(SIGNING.to_owned(), self.ca.succession(plugged).map_err(|error| error.to_string())?);
        }
        if let Some(vault) = &self.vault
            && !vault.put(held.as_ref(), wanted.clone()).await.map_err(|error| error.to_string())?
        {
            return Ok(false);
        }
        self.ca.take(&wanted, now).map_err(|error| error.to_string())?;
        if let Some(watcher) = &mut self.watcher {
            watcher.shared(Instant::now());
        }
        Ok(true)
    }

    /// Once a reason.
    fn say(&mut self, reason: String) {
        if self.said != reason {
            tracing::warn!(reason, "what replicas of control share is not looked at; what is known here holds on");
            self.said = reason;
        }
    }
}
