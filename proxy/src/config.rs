//! What a sidecar is told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use isthmus_core::{model::Endpoint, name};
use isthmus_runtime::config::Common;
use serde::{Deserialize, Serialize};

use crate::{capture::Mode, probes::Probe};

/// Workers of a sidecar (DESIGN.md decision 20).
pub const WORKERS: usize = 2;

/// Where the system says whom to ask.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A sidecar's whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What all roles have; `name` is the workload's.
    pub common: Common,
    /// Control's feed, `host:port` (15012).
    pub control: String,
    /// What the workload is called where it is a pod of several: its Deployment's name, say.
    #[serde(default)]
    pub workload: Option<String>,
    /// The node that its pod is on: control says where that is.
    #[serde(default)]
    pub node: String,
    /// The workload's namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Worker threads.
    #[serde(default = "workers")]
    pub workers: usize,
    /// Where the application listens.
    pub application: IpAddr,
    /// The application's port that says whether it is there; none: a mere client, which offers nothing.
    #[serde(default)]
    pub probe: Option<u16>,
    /// Where each request is written down.
    #[serde(default)]
    pub access_log: AccessLog,
    /// How the application's traffic is led here by the rules of [`capture`](crate::capture); none: it is not, and comes by
    /// itself.
    #[serde(default)]
    pub capture: Option<Mode>,
    /// Where questions to DNS that are not the mesh's go on to, by captured workloads.
    #[serde(default = "resolv_conf")]
    pub resolv_conf: PathBuf,
    /// The kubelet's probes of the application, by the path under which it asks this sidecar for them (15021).
    #[serde(default)]
    pub probes: BTreeMap<String, Probe>,
    /// Seconds from the beginning of a drain until connections that are still open are closed.
    #[serde(default = "drain_deadline_seconds")]
    pub drain_deadline_seconds: u32,
    /// Plain hops: what arrives at `address` goes to `upstream`, with routes and metrics but outside the mesh.
    #[serde(default)]
    pub listeners: Vec<Listener>,
}

/// As long as a test run is willing to wait for connections that nobody ends.
const DRAIN_DEADLINE_SECONDS: u32 = 5;

fn drain_deadline_seconds() -> u32 {
    DRAIN_DEADLINE_SECONDS
}

fn resolv_conf() -> PathBuf {
    RESOLV_CONF.into()
}

impl Config {
    /// The workload as people and metrics call it: what a pod is of; else the pod, without its namespace; else the host's
    /// process by its own name.
    #[must_use]
    pub fn workload(&self) -> &str {
        let name = self.common.name.as_str();
        let pod = || name::pod_of(name, &self.namespace).unwrap_or(name);
        self.workload.as_deref().unwrap_or_else(pod)
    }

    /// Whether an endpoint is this workload. A pod's address is nobody else's in its cluster; on one machine workloads may share
    /// theirs with others.
    pub(crate) fn is_own(&self, endpoint: &Endpoint) -> bool {
        match self.capture {
            Some(_) => endpoint.address.ip() == self.application,
            None => endpoint.id.as_str() == self.common.name,
        }
    }
}

fn workers() -> usize {
    WORKERS
}

/// The access log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// How a line looks.
    #[serde(default)]
    pub format: Format,
    /// The file; none: standard output.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Envoy's default format.
    #[default]
    Text,
    /// An object a line.
    Json,
    /// No lines.
    Off,
}

/// A plain hop.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it sends.
    pub upstream: SocketAddr,
}
