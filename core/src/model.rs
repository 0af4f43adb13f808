//! The compiled model: all that proxies and gateways run on. Sources differ, this does not.
//!
//! Control compiles it, the feed carries it resource by resource (JSON, keyed by [`Resource::key`]), proxies and
//! gateways keep the last good of each on disk.

pub mod others;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    failover::policy::WhenNothingHealthy,
    name::{ClusterName, EndpointId, Locality, MeshDomain, ServiceName, SpiffeId, TrustDomain},
    statement::{Consumers, Gateways, Port, Protocol},
};

/// One unit of the feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Resource {
    /// Settings of the cluster. One.
    Mesh(Mesh),
    /// Roots of all trust domains. One.
    Trust(Trust),
    /// A remote cluster, and what was decided of it.
    Cluster(RemoteCluster),
    /// A service with its routes and policies.
    Service(Service),
    /// The endpoints of a service, own and remote.
    Endpoints(Endpoints),
    /// What was decided of a service: which clusters get how much of its requests.
    Failover(Failover),
    /// Where a node of the own cluster is, for the sidecars on it.
    Node(Node),
    /// The own cluster's lease, signed, for gateways to send on tunnels. `SignedStatement` bytes, base64. One.
    Lease {
        /// `isthmus.federation.v1.SignedStatement`, base64.
        statement: String,
    },
}

impl Resource {
    /// Its key in the feed: `mesh`, `trust`, `cluster/<name>`, `service/<ns>/<name>`, `endpoints/<ns>/<name>`,
    /// `failover/<ns>/<name>`, `node/<name>`, `lease`.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Mesh(_) => "mesh".into(),
            Self::Trust(_) => "trust".into(),
            Self::Cluster(cluster) => format!("cluster/{}", cluster.name),
            Self::Service(service) => format!("service/{}", service.name),
            Self::Endpoints(endpoints) => format!("endpoints/{}", endpoints.service),
            Self::Failover(failover) => format!("failover/{}", failover.service),
            Self::Node(node) => format!("node/{}", node.name),
            Self::Lease { .. } => "lease".into(),
        }
    }
}

/// A node of the own cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub locality: Locality,
}

/// Settings of the own cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// The mesh's domain.
    pub domain: MeshDomain,
    /// The own cluster.
    pub cluster: ClusterName,
    /// Where local sidecars reach the own gateways (15444 tcp).
    pub gateways: Vec<SocketAddr>,
    /// Where the own gateways reach the own federation member (15050 tcp), to pass its TLS through.
    pub member: Option<SocketAddr>,
}

/// Roots of every trust domain, DER in base64. A chain is accepted only under the roots of its own domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// By trust domain.
    pub roots: BTreeMap<TrustDomain, Vec<String>>,
}

/// A remote cluster as the own control sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteCluster {
    /// Its name.
    pub name: ClusterName,
    /// Its region.
    pub region: String,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// Where its gateways are reached.
    pub gateways: Gateways,
    /// What was decided: the part of its traffic it shall get, 0 to 1.
    pub share: f64,
    /// Why: one word an operator reads.
    pub standing: Standing,
    /// Measured round trip, microseconds; 0: not known. Already smoothed and rounded, so that it does not flutter.
    pub rtt_us: u64,
}

/// How a remote cluster stands (DESIGN.md decision 25).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Path and lease are there.
    #[default]
    Alive,
    /// Path and lease are there again, traffic returns along the ramp.
    Returning,
    /// Path up, its control alive, its federation member not.
    MemberDown,
    /// Path up, lease lost: its endpoints are used and frozen.
    Blind,
    /// Path lost, lease held: left, endpoints kept.
    CutOff,
    /// Both lost: left.
    Dead,
    /// Never seen since this control began.
    Unknown,
}

/// A service as clients in the own cluster may call it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Whether `svc.cluster.local` climbs the ladder too (`isthmus.dev/global`).
    pub global: bool,
    /// Whether it is offered to other clusters or imported from one: only then `svc.clusterset.local` exists.
    pub clusterset: bool,
    /// Which of the mesh's service addresses it has, 16 and up: [`crate::plan`] makes the address of it; none left: `None`.
    pub address_index: Option<u16>,
    /// Its address in the set, where it is of the set ([`crate::plan::set_addresses`]).
    #[serde(default)]
    pub set_address: Option<Ipv4Addr>,
    /// Its addresses within the own cluster (`clusterIPs`); none of a headless one, and of one of other clusters only.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// For whom it is exported, when it is: the gateway refuses everyone else.
    pub exported: Option<Consumers>,
    /// Routes, first match wins; empty: straight to the service.
    pub routes: Vec<HttpRoute>,
    /// Subsets by name (DestinationRule).
    pub subsets: BTreeMap<String, Subset>,
    /// How its endpoints are used.
    pub policy: TrafficPolicy,
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subset {
    /// Labels an endpoint must carry.
    pub labels: BTreeMap<String, String>,
}

/// One rule of a VirtualService's `http`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRoute {
    /// Its name, for the access log.
    pub name: String,
    /// Any of these; empty: every request.
    pub matches: Vec<HttpMatch>,
    /// Where to, by weight.
    pub destinations: Vec<WeightedDestination>,
    /// From the request's arrival to the answer's end; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Retries.
    pub retries: Retries,
}

/// All that is set must match (Istio `HTTPMatchRequest`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpMatch {
    /// The path, without the query.
    pub uri: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// Headers, lower-case names.
    pub headers: BTreeMap<String, StringMatch>,
    /// The port the client called.
    pub port: Option<u16>,
}

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// The same, byte for byte.
    Exact(String),
    /// Begins so.
    Prefix(String),
}

/// A destination and its part of the route's traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedDestination {
    /// The service.
    pub service: ServiceName,
    /// One of the service's subsets.
    pub subset: Option<String>,
    /// The service's port; `None`: the one the client called.
    pub port: Option<u16>,
    /// Part of the sum of the route's weights.
    pub weight: u32,
}

/// Retries of a route. What was never sent is always tried elsewhere; this is about the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// Beyond the first try.
    pub attempts: u32,
    /// Limit of each try.
    pub per_try_timeout: Option<Duration>,
}

impl Default for Retries {
    /// Istio's default: two retries.
    fn default() -> Self {
        Self { attempts: 2, per_try_timeout: None }
    }
}

/// How a service's endpoints are used (DestinationRule `trafficPolicy`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficPolicy {
    /// Limit of a new connection.
    pub connect_timeout: Duration,
    /// Passive ejection.
    pub outlier: Outlier,
}

impl Default for TrafficPolicy {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), outlier: Outlier::default() }
    }
}

/// Passive outlier ejection (DestinationRule `outlierDetection`); on unless switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// Failures in a row (5xx or connection errors) that eject; 0: never.
    pub consecutive_errors: u32,
    /// First ejection lasts so long, the n-th n times as long.
    pub base_ejection: Duration,
    /// At most this part of the endpoints is ejected at once, percent; always at least one.
    pub max_ejection_percent: u32,
}

impl Default for Outlier {
    /// Envoy's defaults, but half may be ejected: with two endpoints Envoy's 10 % never ejects any.
    fn default() -> Self {
        Self { consecutive_errors: 5, base_ejection: Duration::from_secs(30), max_ejection_percent: 50 }
    }
}

/// Everything that answers for a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// The service.
    pub service: ServiceName,
    /// In the own cluster.
    pub local: Vec<Endpoint>,
    /// In other clusters, by cluster name.
    pub remote: BTreeMap<ClusterName, Vec<Group>>,
}

/// A workload of the own cluster that offers a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Where its sidecar takes inner connections (15006).
    pub address: SocketAddr,
    /// Where it is.
    pub locality: Locality,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who must answer.
    pub identity: SpiffeId,
    /// Relative weight.
    pub weight: u32,
    /// Whether to use it.
    pub state: EndpointState,
    /// Service port to the port its application listens on.
    #[serde(deserialize_with = "port_map")]
    pub targets: BTreeMap<u16, u16>,
}

/// Keys of JSON objects are texts, and inside a tagged enum serde gives them as such.
fn port_map<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, u16>, D::Error> {
    let texts = BTreeMap::<String, u16>::deserialize(deserializer)?;
    let port = |(text, target): (String, u16)| {
        let wrong = |_| serde::de::Error::custom(format!("{text:?} is no port number"));
        Ok((text.parse().map_err(wrong)?, target))
    };
    texts.into_iter().map(port).collect()
}

/// Whether an endpoint is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    /// Takes requests.
    Ready,
    /// Takes nothing new.
    Draining,
    /// Not to be used.
    #[default]
    Unready,
    /// Its feed is lost; still used.
    Unknown,
}

impl EndpointState {
    /// Whether new requests may go there.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Ready | Self::Unknown)
    }
}

/// A group of a remote cluster, from its summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The zone.
    pub zone: String,
    /// Labels all of them carry.
    pub labels: BTreeMap<String, String>,
    /// Identities accepted in an answer.
    pub identities: BTreeSet<SpiffeId>,
    /// How many may be used.
    pub usable: u32,
    /// How many there are in any state.
    pub total: u32,
    /// Sum of the weights of the usable ones.
    pub weight: u32,
}

/// What control decided of a service: tiers of clusters, first to last. A cluster that is in none must not be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failover {
    /// The service.
    pub service: ServiceName,
    /// In order.
    pub tiers: Vec<FailoverTier>,
    /// When nothing is healthy; `None`: what is ready in a cluster that was left is tried.
    pub when_nothing_healthy: Option<WhenNothingHealthy>,
}

/// A tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverTier {
    /// For people.
    pub name: String,
    /// The part it takes of the requests that reach it, 0 to 1.
    pub share: f64,
    /// Its clusters.
    pub members: Vec<FailoverMember>,
}

/// A cluster in a tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverMember {
    /// The cluster, perhaps the own one.
    pub cluster: ClusterName,
    /// Its weight inside the tier, its own share already in it.
    pub weight: f64,
    /// The most that this cluster's proxies may send there.
    pub cap: Option<Cap>,
}

/// A limit, divided among proxies. Requests a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// By the proxy's name.
    pub parts: BTreeMap<String, f64>,
    /// Of a proxy that is not named, because it is new.
    pub other: f64,
}

/// The protocol of a service's port, if it has the port.
#[must_use]
pub fn port_protocol(service: &Service, port: u16) -> Option<Protocol> {
    service.ports.iter().find(|candidate| candidate.port == port).map(|found| found.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_come_back_from_json_as_they_went() {
        let endpoint = Endpoint {
            id: "a-1".parse().unwrap(),
            address: "127.1.11.1:15006".parse().unwrap(),
            locality: Locality::default(),
            labels: BTreeMap::new(),
            identity: "spiffe://east.mesh.test/ns/n/sa/a".parse().unwrap(),
            weight: 1,
            state: EndpointState::Ready,
            targets: BTreeMap::from([(80, 8080)]),
        };
        let service = ServiceName::new("n", "a").unwrap();
        let resource = Resource::Endpoints(Endpoints { service, local: vec![endpoint], remote: BTreeMap::new() });
        let json = serde_json::to_string(&resource).unwrap();
        assert_eq!(serde_json::from_str::<Resource>(&json).unwrap(), resource);
    }
}
