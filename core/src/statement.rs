//! What a cluster says to the others. Content only: `isthmus-wire` carries it signed, under its key and version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    failover::{policy::Written, selector::RELEASE_PROPERTY, verb::Verb},
    name::{ClusterName, ServiceName, SpiffeId, TrustDomain},
};

/// (epoch, number): the highest wins, whichever way it came (DESIGN.md decision 12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// One above the highest the writer found anywhere when it began.
    pub epoch: u64,
    /// Counts the writer's statements in the epoch, over all keys.
    pub number: u64,
}

/// What a statement says. Its key is [`Content::key`]; one cluster has one content a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Content {
    /// An epoch begins with the full set: a key of an older epoch that is not listed is gone.
    Epoch {
        /// Every key the writer holds.
        keys: Vec<String>,
    },
    /// The key is gone within its epoch. Carries the key it removes.
    Gone {
        /// The key that is gone.
        key: String,
    },
    /// Where the cluster is and how it is reached.
    Card(Card),
    /// The roots of its trust domain.
    Bundle(Bundle),
    /// A service offered to other clusters.
    Export(Export),
    /// What others learn of a group.
    Summary(Summary),
    /// From which clusters its namespaces accept services.
    ImportRules(ImportRules),
    /// Whose policies and verbs bind it, besides its own; not said: the operators of the mesh.
    Operators {
        /// All of them.
        clusters: Vec<ClusterName>,
    },
    /// How its services fail over, and those of the clusters that it operates.
    FailoverPolicy(Box<Written>),
    /// What it does for a while: a drain, an evacuation, a pin, a drill.
    Verb(Verb),
    /// It is alive; one a second, never in the log.
    Lease(Lease),
}

impl Content {
    /// The key this content is said under: `card`, `bundle`, `export/<ns>/<name>`,
    /// `summary/<ns>/<name>/<zone>/<group>`, `import-rules`, `operators`, `failover-policy/<ns>/<name>`, `verb/<name>`,
    /// `lease`, `epoch`; of [`Content::Gone`] the key it removes.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Epoch { .. } => "epoch".into(),
            Self::Gone { key } => key.clone(),
            Self::Card(_) => "card".into(),
            Self::Bundle(_) => "bundle".into(),
            Self::Export(export) => format!("export/{}", export.service),
            Self::Summary(summary) => format!("summary/{}/{}/{}", summary.service, summary.zone, summary.group),
            Self::ImportRules(_) => "import-rules".into(),
            Self::Operators { .. } => "operators".into(),
            Self::FailoverPolicy(policy) => format!("failover-policy/{}/{}", policy.namespace, policy.name),
            Self::Verb(verb) => format!("verb/{}", verb.name),
            Self::Lease(_) => "lease".into(),
        }
    }

    /// The card, where it is one.
    #[must_use]
    pub fn card(&self) -> Option<&Card> {
        match self {
            Self::Card(card) => Some(card),
            _ => None,
        }
    }

    /// Whether it goes into the log; a lease never does.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Lease(_))
    }
}

/// Where a cluster is and how its edge is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// `topology.kubernetes.io/region`.
    pub region: String,
    /// Zones it has workloads in.
    pub zones: Vec<String>,
    /// Where others reach its gateways.
    pub gateways: Gateways,
    /// Its ClusterProperties (KEP-2149), for the selectors of policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

impl Card {
    /// The release that the cluster runs; `None`: it does not say, as old ones.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.properties.get(RELEASE_PROPERTY).map(String::as_str)
    }
}

/// Where others reach a cluster's gateways, by transport, each a `host:port`: where a load balancer takes one protocol alone,
/// and where ports are of nodes, the two differ. None at all: it dials the others, and nobody dials it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateways {
    /// For tunnels.
    pub udp: Vec<String>,
    /// For its member, and for tunnels where no UDP gets through.
    pub tcp: Vec<String>,
}

impl Gateways {
    /// Of addresses at which both transports are taken.
    #[must_use]
    pub fn both(addresses: Vec<String>) -> Self {
        Self { udp: addresses.clone(), tcp: addresses }
    }

    /// Whether nobody dials it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.udp.is_empty() && self.tcp.is_empty()
    }

    /// For people: each address once, and its transport where it takes only one.
    #[must_use]
    pub fn rows(&self) -> Vec<String> {
        let udp = self.udp.iter().map(|one| if self.tcp.contains(one) { one.clone() } else { format!("{one}/udp") });
        let tcp = self.tcp.iter().filter(|one| !self.udp.contains(one)).map(|one| format!("{one}/tcp"));
        udp.chain(tcp).collect()
    }
}

/// Roots of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Whose roots these are.
    pub trust_domain: TrustDomain,
    /// DER, base64 (RFC 4648, padded).
    pub roots: Vec<String>,
}

/// For whom a service is exported (DESIGN.md decision 10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Consumers {
    /// Every member, as in MCS.
    #[default]
    All,
    /// Only these.
    Clusters(Vec<ClusterName>),
}

impl Consumers {
    /// Whether `cluster` is among them.
    #[must_use]
    pub fn include(&self, cluster: &ClusterName) -> bool {
        match self {
            Self::All => true,
            Self::Clusters(names) => names.contains(cluster),
        }
    }
}

/// A service offered to other clusters (MCS `ServiceExport`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The service.
    pub service: ServiceName,
    /// Its ports.
    pub ports: Vec<Port>,
    /// For whom.
    #[serde(default)]
    pub consumers: Consumers,
    /// Labels of its Service, for the selectors of policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Requests a second that one endpoint can take (`isthmus.dev/capacity`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<f64>,
}

/// A service port, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Port name; may be empty when there is only one.
    #[serde(default)]
    pub name: String,
    /// Number clients use.
    pub port: u16,
    /// What is spoken.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What a port speaks: `appProtocol`, or the prefix of the port's name as in Istio; else told apart at the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// Not declared: told apart by the first bytes.
    #[default]
    Detect,
    /// HTTP/1.1 (and what upgrades from it).
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// Opaque bytes; the server may speak first.
    Tcp,
    /// TLS of the application's own, carried opaque.
    Tls,
}

/// What other clusters learn of a group: the endpoints of a service in one zone that share service account and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The service.
    pub service: ServiceName,
    /// The zone they are in.
    pub zone: String,
    /// A short stable hash of service account and labels; names the group.
    pub group: String,
    /// Labels all of them carry, per-revision hashes left out.
    pub labels: BTreeMap<String, String>,
    /// Identities that may answer for them.
    pub identities: Vec<SpiffeId>,
    /// How many are in which state.
    pub count: StateCount,
    /// Sum of the weights of those that are ready.
    pub weight: u32,
}

/// Endpoints by state (DESIGN.md decision 22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateCount {
    /// Take requests.
    pub ready: u32,
    /// Finish what they have, take nothing new.
    pub draining: u32,
    /// Not to be used.
    pub unready: u32,
    /// Their feed is lost; still used.
    pub unknown: u32,
}

/// From which clusters namespaces accept services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRules {
    /// `consent: strict`: without a rule for the namespace, nothing is imported into it.
    pub strict: bool,
    /// Namespace to clusters it accepts services from.
    pub namespaces: BTreeMap<String, Vec<ClusterName>>,
}

impl ImportRules {
    /// Whether a service of `namespace` is accepted from `cluster`.
    #[must_use]
    pub fn accept(&self, namespace: &str, cluster: &ClusterName) -> bool {
        self.namespaces.get(namespace).map_or(!self.strict, |clusters| clusters.contains(cluster))
    }
}

/// The cluster's control is alive. Counted on the observer's monotonic clock; carries no time of its own.
///
/// What changes each second and needs no memory goes with it: what this cluster wants of others' limits, and how it
/// divides its own. What is not known of it is passed over: a lease that is not read is a cluster that seems dead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Whether control has its own member: false is *member down*, not blind.
    pub member: bool,
    /// Requests a second that it wants of limited services of other clusters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wants: BTreeMap<ClusterName, BTreeMap<ServiceName, f64>>,
    /// The limits that it heeds there, requests a second: who is limited divides them, also where no policy with that limit
    /// binds itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heeds: BTreeMap<ClusterName, BTreeMap<ServiceName, f64>>,
    /// Requests a second that others may send to its limited services.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<ServiceName, BTreeMap<ClusterName, f64>>,
}
