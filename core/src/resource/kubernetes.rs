//! Kubernetes' own kinds, MCS (KEP-1645) and ours. Fields that only say how a Service is reached from outside
//! (node ports, load balancers) are let through: they do not change what the mesh does.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error};

use crate::name::ClusterName;

/// `isthmus.dev/global: "true"` on a Service or Namespace: its `svc.cluster.local` name climbs the ladder too.
pub const GLOBAL: &str = "isthmus.dev/global";
/// `isthmus.dev/capacity: "200"` on a Service: so many requests a second can each of its endpoints take.
pub const CAPACITY: &str = "isthmus.dev/capacity";

/// `spec` of a `v1` Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Labels of the workloads that offer it; none: nobody does.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    /// `clusterIP`: an address, `None` of a headless Service, or nothing.
    #[serde(default, rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// `clusterIPs`: of each family one.
    #[serde(default, rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Its endpoints count as ready before they are: peers of a StatefulSet find each other by it.
    #[serde(default)]
    pub publish_not_ready_addresses: bool,
}

impl ServiceSpec {
    /// Its addresses within the cluster; none of a headless Service, or where nobody gave it one.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> =
            self.cluster_ips.iter().chain(&self.cluster_ip).filter_map(|text| text.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Whether it is but another name for something outside: nothing of the mesh answers for it.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.kind.as_deref() == Some("ExternalName")
    }

    /// Whether its name stands for each of its pods.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.cluster_ip.as_deref() == Some("None")
    }
}

/// One of its ports.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name; Istio reads the protocol from its first part.
    #[serde(default)]
    pub name: String,
    /// The number clients use.
    pub port: u16,
    /// The application's port; none: the same.
    #[serde(default)]
    pub target_port: Option<TargetPort>,
    /// `http`, `kubernetes.io/h2c`, `grpc`, `tcp`, ...
    #[serde(default)]
    pub app_protocol: Option<String>,
    /// TCP; UDP ports are not carried.
    #[serde(default)]
    pub protocol: Option<String>,
}

/// The application's port: a number, or the name of a container's port, which each pod may give another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// A name of a container's port.
    Name(String),
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().map(Self::Number).ok();
        let named = || is_port_name(&text).then(|| Self::Name(text.clone()));
        let wrong =
            || D::Error::custom(format!("{text:?} is no port: write a number, or the name of a container's port"));
        number.or_else(named).ok_or_else(wrong)
    }
}

/// RFC 6335, 5.1: at most 15 small letters, digits and single hyphens, a letter among them.
fn is_port_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = text.starts_with('-') || text.ends_with('-') || text.contains("--");
    (1..=15).contains(&text.len())
        && text.chars().all(fits)
        && text.contains(|c: char| c.is_ascii_lowercase())
        && !edges
}

/// `spec` of a ServiceExport; MCS has none, `consumers` is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceExportSpec {
    /// For these clusters only; none: every member.
    #[serde(default)]
    pub consumers: Option<Vec<ClusterName>>,
}

/// `spec` of a MeshCluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MeshClusterSpec {
    /// `strict`: a namespace without a rule imports nothing. Else: everything, as in MCS.
    #[serde(default)]
    pub consent: Consent,
    /// Namespace to clusters it accepts services from.
    #[serde(default)]
    pub imports: BTreeMap<String, Vec<ClusterName>>,
    /// Clusters whose policies and verbs bind this one; none written: the operators of the mesh.
    #[serde(default)]
    pub operators: Option<Vec<ClusterName>>,
    /// Its ClusterProperties (KEP-2149), for the selectors of policies; name and region are among them by themselves.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// The endpoints of a cluster that is dead for so long are dropped; none written: a day.
    #[serde(default, deserialize_with = "super::duration::optional")]
    pub stale_after: Option<Duration>,
}

/// What a namespace without an import rule accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Consent {
    /// Services of all members.
    #[default]
    Open,
    /// Nothing.
    Strict,
}
