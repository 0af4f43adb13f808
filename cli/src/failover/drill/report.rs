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

impl End {
    /// Why the drill is taken back, for the history.
    pub fn reason(&self) -> String {
        match self {
            Self::Over => "the drill's time was over".into(),
            Self::Stopped => "Ctrl-C".into(),
            Self::TakenBack => String::new(),
            Self::GivenUp { cluster, why } => format!("stopped for {cluster}: {why}"),
        }
    }
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
    /// Services of which more requests failed than before, by the rule by which a drill stops.
    pub rose: Vec<Rose>,
    /// Controls that did not answer at some look, and why.
    pub silent: BTreeMap<String, String>,
}

/// A service of which more requests failed than before.
#[derive(Clone, Debug, Serialize)]
pub struct Rose {
    /// The importing cluster.
    pub importer: String,
    /// namespace/name.
    pub service: String,
    /// Part that failed before, 0 to 1.
    pub error_rate_before: f64,
    /// And during the drill.
    pub error_rate: f64,
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
    /// Those of them that failed, or were refused because no place might take them.
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

impl Rose {
    /// For people.
    pub fn line(&self) -> String {
        let Self { importer, service, error_rate_before, error_rate } = self;
        format!("{service} from {importer}: {:.1} %, {:.1} % before", error_rate * 100.0, error_rate_before * 100.0)
    }
}

impl Report {
    /// Of which services more failed than before.
    pub fn rose(&self) -> Option<String> {
        let lines: Vec<_> = self.rose.iter().map(Rose::line).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    /// Who gave it up and why.
    pub fn given_up(&self) -> Option<String> {
        match &self.end {
            End::GivenUp { cluster, why } => Some(format!("for {cluster}: {why}")),
            _ => None,
        }
    }
}
