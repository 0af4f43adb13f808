//! What happened, for people: standings that moved, verbs that began and ended, services that moved. The last thousand.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Events that are remembered.
const MOST: usize = 1000;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// cluster, service, verb.
    pub kind: String,
    /// What it is about: a cluster, a service, a verb.
    pub of: String,
    /// What happened: `alive → dead`.
    pub what: String,
    /// Why.
    pub why: String,
    /// Who did it; empty: nobody.
    #[serde(default)]
    pub by: String,
}

/// The last events, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Event>);

impl History {
    /// With what an earlier run remembered.
    #[must_use]
    pub fn restored(events: Vec<Event>) -> Self {
        Self(events.into())
    }

    /// Remembers one.
    pub fn add(&mut self, event: Event) {
        self.0.push_back(event);
        while self.0.len() > MOST {
            self.0.pop_front();
        }
    }

    /// All, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Event> {
        self.0.iter()
    }
}
