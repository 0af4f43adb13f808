//! EndpointSlice (`discovery.k8s.io/v1`): addresses that somebody says answer for a Service. It has no `spec`.

use serde::{Deserialize, Deserializer};

/// The label that names the Service.
pub const SERVICE: &str = "kubernetes.io/service-name";
/// The label that says which controller wrote it.
pub const WRITER: &str = "endpointslice.kubernetes.io/managed-by";
/// The controller that writes those of Services with a selector: they say nothing that pods and selectors do not.
pub const OF_SELECTORS: &str = "endpointslice-controller.k8s.io";

/// What is read of one. Fields that say where an endpoint is are let through: that is its pod's word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// The Service, by its label; none: of no Service.
    #[serde(skip)]
    pub service: Option<String>,
    /// The addresses.
    #[serde(default, deserialize_with = "or_null")]
    pub endpoints: Vec<Endpoint>,
    /// Its ports.
    #[serde(default, deserialize_with = "or_null")]
    pub ports: Vec<Port>,
}

/// Addresses of one endpoint; all but the first mean nothing, says the API, but all are of the same endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// IPv4 or IPv6, as `addressType` says; names, of the type `FQDN`, are nobody's of the mesh.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// How it is.
    #[serde(default, deserialize_with = "or_null")]
    pub conditions: Conditions,
}

/// How an endpoint is. `serving` says what `ready` would, were it not terminating: a draining endpoint gets nothing new anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// Not written: it is.
    #[serde(default)]
    pub ready: Option<bool>,
    /// It gets nothing new.
    #[serde(default)]
    pub terminating: Option<bool>,
}

/// A port of all of its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// As the Service's port is named.
    #[serde(default, deserialize_with = "or_null")]
    pub name: String,
    /// The application's; none: it says nothing of a port.
    #[serde(default)]
    pub port: Option<u16>,
    /// TCP when not written.
    #[serde(default)]
    pub protocol: Option<String>,
}

impl Port {
    /// Whether it can be carried.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }
}

/// The API server writes `null` where a list is empty.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
