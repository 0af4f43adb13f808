//! What control is told at its start. Everything else it learns from its sources and from the federation.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use isthmus_runtime::config::Common;
use serde::{Deserialize, Serialize};

/// Control's section of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every role has.
    pub common: Common,
    /// The directory of YAML objects.
    pub config_dir: PathBuf,
    /// The cluster's federation key: PKCS#8 DER, mode 0600; shared with the member.
    pub federation_key: PathBuf,
    /// The own federation member, 15050.
    pub member: SocketAddr,
    /// Where local sidecars reach the own gateways, 15444 tcp.
    #[serde(default)]
    pub gateways: Vec<SocketAddr>,
    /// Where other clusters reach them, `host:15443`.
    #[serde(default)]
    pub advertise_gateways: Vec<String>,
    /// The workload whose service addresses the cluster's DNS answers with; `None`: DNS knows names but no addresses.
    #[serde(default)]
    pub dns_for: Option<IpAddr>,
    /// Zones the cluster has workloads in.
    #[serde(default)]
    pub zones: Vec<String>,
    /// The certificate authority.
    #[serde(default)]
    pub ca: Ca,
}

/// Settings of the certificate authority.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ca {
    /// Where root and enrolment key are; `None`: `ca` in the state directory.
    pub dir: Option<PathBuf>,
    /// Life of a leaf, seconds.
    pub leaf_ttl_seconds: u64,
}

impl Default for Ca {
    /// A day (issue of identities): short enough that a stolen leaf ages, long enough that a CA may rest overnight.
    fn default() -> Self {
        Self { dir: None, leaf_ttl_seconds: 24 * 3600 }
    }
}

impl Config {
    /// The CA's directory.
    #[must_use]
    pub fn ca_dir(&self) -> PathBuf {
        self.ca.dir.clone().unwrap_or_else(|| self.common.state_dir.join("ca"))
    }

    /// Life of a leaf.
    #[must_use]
    pub fn leaf_ttl(&self) -> Duration {
        Duration::from_secs(self.ca.leaf_ttl_seconds)
    }
}
