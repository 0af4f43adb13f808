//! What `isthmus status` says of a raised mesh.

use std::net::IpAddr;

use isthmus_core::name::ClusterName;
use serde::{Deserialize, Serialize};

use crate::{plan::Role, wan::links::Row};

/// A raised mesh as it is now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its domain.
    pub mesh: String,
    /// Its state directory.
    pub state_dir: String,
    /// The runner's process.
    pub pid: u32,
    /// How long it has run, milliseconds.
    pub up_ms: u64,
    /// When a request first crossed clusters, milliseconds after the start; `None`: not yet.
    pub answered_ms: Option<u64>,
    /// What is going on while it comes up, or why it does not.
    pub coming_up: Option<String>,
    /// Its clusters.
    pub clusters: Vec<ClusterStatus>,
    /// The links between them, where the network is emulated.
    #[serde(default)]
    pub network: Vec<Row>,
}

impl Status {
    /// Whether every cluster sees every other one as it is; right after the first answer some have not heard of another's
    /// member yet.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        // A witness has no gateway: nothing there could be reached.
        let places: Vec<_> = self.clusters.iter().filter(|one| one.has_gateway()).collect();
        let is_seen = |link: &&Link| link.rtt_us > 0 && link.standing == "alive";
        places.iter().all(|one| one.links.iter().filter(is_seen).count() + 1 == places.len())
    }
}

/// A cluster as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: ClusterName,
    /// Its region.
    pub region: String,
    /// Its processes.
    pub processes: Vec<ProcessStatus>,
    /// Requests a second its sidecars sent, over the last look.
    pub requests_per_second: f64,
    /// How it sees the others.
    pub links: Vec<Link>,
    /// What is refused of its configuration: file, line, field and reason.
    #[serde(default)]
    pub refused: Vec<String>,
    /// What operators do that it knows of: what, who, where, why.
    #[serde(default)]
    pub verbs: Vec<String>,
}

impl ClusterStatus {
    fn has_gateway(&self) -> bool {
        self.processes.iter().any(|process| process.role == Role::Gateway)
    }
}

/// A process as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its name in the cluster.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its address.
    pub address: IpAddr,
    /// Whether it runs.
    pub state: ProcessState,
    /// Whether it says it is ready; `None`: it says nothing.
    pub ready: Option<bool>,
    /// Its process id.
    pub pid: Option<u32>,
    /// How often it died by itself.
    pub restarts: u32,
    /// How long it has been in this state, milliseconds.
    pub since_ms: u64,
    /// How it last ended by itself.
    pub last_exit: Option<String>,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// About to be spawned.
    Starting,
    /// Runs.
    Running,
    /// Died by itself; pauses before its next start.
    Restarting,
    /// Killed on purpose; stays down until `cluster start`.
    Killed,
    /// Ended with the mesh.
    Stopped,
}

/// How a cluster sees another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The other one.
    pub to: String,
    /// How it stands: alive, returning, dead, ...
    pub standing: String,
    /// The part of its traffic it gets, 0 to 1.
    pub share: f64,
    /// Round trip, microseconds; 0: not known.
    pub rtt_us: u64,
    /// Loss, parts per million.
    pub loss_ppm: u64,
    /// What carries it.
    pub transport: String,
    /// Why it stands so.
    pub why: String,
}
