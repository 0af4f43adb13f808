//! Istio's networking kinds, as far as this release honours them: host, match on path, method and headers, weight,
//! subset, timeout, retries, ejection.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{Unsupported, duration};

/// `spec` of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VirtualServiceSpec {
    /// Hosts it is about: `name`, `name.namespace` or a full service name.
    pub hosts: Vec<String>,
    /// Only the mesh's own sidecars (`mesh`), the default.
    #[serde(default)]
    pub gateways: Option<Vec<MeshGateway>>,
    /// Rules for HTTP, first match wins.
    #[serde(default)]
    pub http: Vec<HttpRoute>,
    /// Not yet.
    #[serde(default)]
    pub tcp: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub tls: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub export_to: Option<Unsupported>,
}

/// The word `mesh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum MeshGateway {
    /// Sidecars.
    #[serde(rename = "mesh")]
    Mesh,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRoute {
    /// For the access log.
    #[serde(default)]
    pub name: String,
    /// Any of these; none: every request.
    #[serde(default, rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// Where to.
    #[serde(default)]
    pub route: Vec<RouteDestination>,
    /// Whole request.
    #[serde(default, deserialize_with = "duration::optional")]
    pub timeout: Option<Duration>,
    /// Retries.
    #[serde(default)]
    pub retries: Option<HttpRetry>,
    /// Not yet.
    #[serde(default)]
    pub redirect: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub direct_response: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub delegate: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub rewrite: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub fault: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub mirror: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub mirrors: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub cors_policy: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub headers: Option<Unsupported>,
}

/// All that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMatch {
    /// For the access log.
    #[serde(default)]
    pub name: String,
    /// The path.
    #[serde(default)]
    pub uri: Option<StringMatch>,
    /// The method.
    #[serde(default)]
    pub method: Option<StringMatch>,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, StringMatch>,
    /// The port called.
    #[serde(default)]
    pub port: Option<u16>,
}

/// `exact` or `prefix`; `regex` not yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// The same.
    Exact(String),
    /// Begins so.
    Prefix(String),
}

/// A destination with its weight.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteDestination {
    /// Where to.
    pub destination: Destination,
    /// Part of the route's traffic; of a single destination it may be left out.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Not yet.
    #[serde(default)]
    pub headers: Option<Unsupported>,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// `name`, `name.namespace` or a full service name.
    pub host: String,
    /// A subset of it.
    #[serde(default)]
    pub subset: Option<String>,
    /// A port of it.
    #[serde(default)]
    pub port: Option<PortSelector>,
}

/// A port by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSelector {
    /// The number.
    pub number: u16,
}

/// Retries of a route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRetry {
    /// Beyond the first try.
    #[serde(default)]
    pub attempts: u32,
    /// Each try.
    #[serde(default, deserialize_with = "duration::optional")]
    pub per_try_timeout: Option<Duration>,
    /// Not yet: what is safe or unsent is retried.
    #[serde(default)]
    pub retry_on: Option<Unsupported>,
}

/// `spec` of a DestinationRule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DestinationRuleSpec {
    /// The service.
    pub host: String,
    /// For all of it.
    #[serde(default)]
    pub traffic_policy: Option<TrafficPolicy>,
    /// Its named parts.
    #[serde(default)]
    pub subsets: Vec<Subset>,
    /// Not yet.
    #[serde(default)]
    pub export_to: Option<Unsupported>,
}

/// A named part.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Labels of its endpoints.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Not yet.
    #[serde(default)]
    pub traffic_policy: Option<Unsupported>,
}

/// How endpoints are used.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// Ejection.
    #[serde(default)]
    pub outlier_detection: Option<OutlierDetection>,
    /// Connections.
    #[serde(default)]
    pub connection_pool: Option<ConnectionPool>,
    /// Not yet: least request is always used.
    #[serde(default)]
    pub load_balancer: Option<Unsupported>,
    /// Inside the mesh it is always mutual TLS.
    #[serde(default)]
    pub tls: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub port_level_settings: Option<Unsupported>,
}

/// Ejection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Failures in a row; 0: never eject.
    #[serde(default, rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// The first rest.
    #[serde(default, deserialize_with = "duration::optional")]
    pub base_ejection_time: Option<Duration>,
    /// Percent.
    #[serde(default)]
    pub max_ejection_percent: Option<u32>,
    /// Not yet: ejection is passive and at once.
    #[serde(default)]
    pub interval: Option<Unsupported>,
}

/// Connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionPool {
    /// Of TCP.
    #[serde(default)]
    pub tcp: Option<TcpSettings>,
    /// Not yet.
    #[serde(default)]
    pub http: Option<Unsupported>,
}

/// Of TCP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpSettings {
    /// A new connection.
    #[serde(default, deserialize_with = "duration::optional")]
    pub connect_timeout: Option<Duration>,
    /// Not yet.
    #[serde(default)]
    pub max_connections: Option<Unsupported>,
    /// Not yet.
    #[serde(default)]
    pub tcp_keepalive: Option<Unsupported>,
}
