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
    /// The sidecar's explicit proxy, through which all calls go; none: straight, for a sidecar that captures them.
    #[serde(default)]
    pub proxy: Option<SocketAddr>,
    /// What is put behind a service's name to call it; empty: nothing.
    #[serde(default = "domain")]
    pub domain: String,
}

/// Why a pod's name names no application.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a pod named {0:?} is none of Bookinfo's; they are named <application>-<version>-..., as reviews-v2-5d9cf8-x2k4q"
)]
pub struct NoPod(String);

impl AppConfig {
    /// That of a pod of Istio's Bookinfo sample, whose name says which application it is and in which version.
    ///
    /// # Errors
    /// [`NoPod`].
    pub fn of_pod(name: &str, cluster: ClusterName) -> Result<Self, NoPod> {
        let none = || NoPod(name.to_owned());
        let (app, rest) = name.split_once('-').ok_or_else(none)?;
        let version = rest.split('-').next().filter(|version| version.starts_with('v')).ok_or_else(none)?;
        let app = App::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(app));
        Ok(Self {
            app: app.map_err(|_| none())?,
            version: version.to_owned(),
            workload: name.to_owned(),
            cluster,
            zone: String::new(),
            address: IpAddr::from([0, 0, 0, 0]),
            http_port: HTTP_PORT,
            tcp_port: TCP_PORT,
            proxy: None,
            domain: String::new(),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_name_says_which_application_it_is() {
        let of = |name: &str| AppConfig::of_pod(name, "here".parse().unwrap());
        let reviews = of("reviews-v2-5d9cf8-x2k4q").unwrap();
        assert_eq!((reviews.app, reviews.version.as_str()), (App::Reviews, "v2"));
        for wrong in ["reviews", "reviews-5d9c-x", "cart-v1-5d9c-x"] {
            assert_eq!(of(wrong).unwrap_err(), NoPod(wrong.into()));
        }
    }
}
