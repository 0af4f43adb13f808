//! What came of a drill: the shape that `-o json` prints.

use std::collections::BTreeMap;

use serde::Serialize;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "camelCase")]
pub enum End {
    /// Its time was over.
    Over,
    /// Ctrl-C.
    Stopped,
    /// Somebody else took it back.
    TakenBack,
    /// A cluster gave it up, or has nowhere to send a service to.
    GivenUp {
        /// Which.
        cluster: String,
        /// Why.
        why: String,
    },
}

/// A drill.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The cluster that was drained.
    pub cluster: String,
    /// Where it was done.
    pub done_in: String,
    /// How long it lasted.
    pub seconds: f64,
    /// How it ended.
    pub end: End,
    /// The importing clusters.
    pub importers: Vec<Importer>,
    /// Controls that did not answer at some look, and why.
    pub silent: BTreeMap<String, String>,
}

/// An importing cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Importer {
    /// Its name.
    pub importer: String,
    /// Services that left the drilled cluster.
    pub moved: usize,
    /// Services that used it.
    pub of: usize,
    /// When the last that moved had moved; none: none did.
    pub move_took_seconds: Option<f64>,
    /// Requests of its clients while it lasted, of the rates that its control tells.
    pub requests: f64,
    /// Those of them that failed.
    pub failed: f64,
    /// Tries that limits kept back; those that no later tier took were refused.
    pub kept_back: f64,
    /// Part that failed before, 0 to 1.
    pub error_rate_before: f64,
    /// And during it.
    pub error_rate: f64,
    /// Requests a second before.
    pub requests_per_second_before: f64,
    /// The slowest 90th percentile that a look showed, milliseconds; 0: nothing was sent.
    pub slowest_p90_ms: u64,
    /// The services that used the drilled cluster.
    pub services: Vec<Moved>,
}

/// A service that used the drilled cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// namespace/name.
    pub service: String,
    /// Part by cluster, before.
    pub before: BTreeMap<String, f64>,
    /// Part by cluster, at the last look.
    pub during: BTreeMap<String, f64>,
    /// When it had left; none: it had not.
    pub after_seconds: Option<f64>,
}

impl Report {
    /// Who gave it up and why.
    pub fn given_up(&self) -> Option<String> {
        match &self.end {
            End::GivenUp { cluster, why } => Some(format!("for {cluster}: {why}")),
            _ => None,
        }
    }
}
