//! Which application this process is, and beside which sidecar.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use isthmus_core::name::ClusterName;
use serde::{Deserialize, Serialize};

/// Where Bookinfo listens, and so do we.
pub const HTTP_PORT: u16 = 9080;
/// Where the echo takes TCP. It speaks first there.
pub const TCP_PORT: u16 = 9000;

/// The applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum App {
    /// The page; calls details and reviews.
    Productpage,
    /// A book's details.
    Details,
    /// A book's reviews; v2 and v3 call ratings.
    Reviews,
    /// Stars.
    Ratings,
    /// Says what it received.
    Echo,
}

/// An application's whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    /// Which one.
    pub app: App,
    /// Its version, `v1` and so on.
    pub version: String,
    /// The workload it is.
    pub workload: String,
    /// The cluster it runs in.
    pub cluster: ClusterName,
    /// The zone it runs in.
    pub zone: String,
    /// The address it listens on.
    pub address: IpAddr,
    /// Port for HTTP/1.1, HTTP/2, gRPC and WebSocket.
    #[serde(default = "http_port")]
    pub http_port: u16,
    /// Port for TCP; only the echo listens there.
    #[serde(default = "tcp_port")]
    pub tcp_port: u16,
    /// The sidecar's explicit proxy, through which all calls go; none: calls fail.
    #[serde(default)]
    pub proxy: Option<SocketAddr>,
    /// What is put behind a service's name to call it.
    #[serde(default = "domain")]
    pub domain: String,
}

fn http_port() -> u16 {
    HTTP_PORT
}

fn tcp_port() -> u16 {
    TCP_PORT
}

fn domain() -> String {
    "bookinfo.svc.clusterset.local".into()
}

/// Whom an answer comes from.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Itself {
    /// The workload.
    pub workload: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// Its cluster.
    pub cluster: Arc<str>,
    /// Its zone.
    pub zone: Arc<str>,
}

impl From<&AppConfig> for Itself {
    fn from(config: &AppConfig) -> Self {
        Self {
            workload: config.workload.as_str().into(),
            version: config.version.as_str().into(),
            cluster: config.cluster.as_str().into(),
            zone: config.zone.as_str().into(),
        }
    }
}
