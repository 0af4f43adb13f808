//! What runs where. Pure: a plan is a value, and everything written or spawned follows from it.

pub mod bookinfo;
pub mod roles;

use std::{collections::BTreeMap, net::IpAddr};

use isthmus_core::{
    name::{ClusterName, Locality, MeshDomain},
    plan::{ClusterAddresses, Form, cluster_of},
};
use serde::{Deserialize, Serialize};

/// The domain of meshes raised here.
pub const MESH_DOMAIN: &str = "mesh.local";

/// openraft warns of every peer it cannot reach yet; the member says itself what stands still.
const LOG: &str = "info,openraft=error";

/// A mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its domain.
    pub mesh: MeshDomain,
    /// Its clusters; the first bootstraps it.
    pub clusters: Vec<ClusterPlan>,
    /// What tests set otherwise.
    #[serde(default)]
    pub tuning: Tuning,
}

/// Settings of a mesh raised here that production leaves alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// Raft's heartbeat, milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest and longest election timeout, milliseconds.
    pub election_ms: (u64, u64),
    /// Life of leaves, seconds; `None`: the CA's default.
    pub leaf_ttl_seconds: Option<u64>,
    /// How long streams live on at a gateway that drains, seconds; `None`: the gateway's default.
    pub gateway_drain_seconds: Option<u32>,
    /// What decides all that is random in the emulated network; `None`: [`SEED`](crate::wan::network::SEED).
    pub wan_seed: Option<u64>,
    /// Log level of every role.
    pub log: String,
}

impl Default for Tuning {
    /// DESIGN.md decision 14 has a raised mesh elect in 0.6 to 1.2 s.
    fn default() -> Self {
        Self {
            heartbeat_ms: 150,
            election_ms: (600, 1200),
            leaf_ttl_seconds: None,
            gateway_drain_seconds: None,
            wan_seed: None,
            log: LOG.into(),
        }
    }
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPlan {
    /// Its name.
    pub name: ClusterName,
    /// Its number in the address plan, the second octet of its addresses.
    pub number: u8,
    /// Whether its addresses are on loopback or in a namespace of its own.
    #[serde(default)]
    pub form: Form,
    /// Its region.
    pub region: String,
    /// Its zones; control, member and gateways are in the first.
    pub zones: Vec<String>,
    /// Its gateways; a witness has none, whatever stands here.
    #[serde(default = "one_gateway")]
    pub gateways: u8,
    /// Its workloads; the first is the one that its DNS answers for.
    pub workloads: Vec<WorkloadPlan>,
}

/// One: two cores keep three clusters, and a demo needs no second door.
fn one_gateway() -> u8 {
    1
}

/// A workload: a sidecar, and an application unless it is a mere client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadPlan {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Its place among the cluster's workloads, from 1.
    pub index: u8,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its zone.
    pub zone: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The demo application it runs; `None`: a sidecar alone.
    pub app: Option<String>,
}

/// A subcommand of the binary that runs until it is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The cluster's control plane.
    Control,
    /// The cluster's federation member.
    Federation,
    /// The cluster's gateway.
    Gateway,
    /// A workload's sidecar.
    Proxy,
    /// A workload's application.
    App,
}

impl Role {
    /// The subcommand.
    #[must_use]
    pub fn subcommand(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Federation => "federation",
            Self::Gateway => "gateway",
            Self::Proxy => "proxy",
            Self::App => "app",
        }
    }
}

/// A process to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// Its name, unique in the cluster: `control`, `federation`, `gateway`, `gateway-2`, `<workload>`,
    /// `<workload>.sidecar`.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its address; every well-known port is on it.
    pub address: IpAddr,
}

impl Process {
    /// The name that a control, a member or a gateway has beyond its cluster: `gateway-2-us-east`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}-{}", self.name, self.cluster)
    }

    /// The network namespace it runs in; `None`: that of the machine.
    #[must_use]
    pub fn namespace(&self) -> Option<String> {
        match cluster_of(self.address)? {
            (Form::Namespaces, number) => Some(namespace(number, &self.cluster)),
            (Form::Loopback, _) => None,
        }
    }
}

/// The name of a cluster's network namespace; numbers are unique on a machine, so names are.
#[must_use]
pub fn namespace(number: u8, cluster: &ClusterName) -> String {
    format!("isthmus-{number}-{cluster}")
}

impl ClusterPlan {
    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> ClusterAddresses {
        ClusterAddresses::new(self.form, self.number)
    }

    /// The address of one of its workloads.
    #[must_use]
    pub fn address_of(&self, workload: &WorkloadPlan) -> IpAddr {
        self.addresses().workload(workload.index)
    }

    /// Region and one zone of it.
    #[must_use]
    pub fn locality(&self, zone: &str) -> Locality {
        Locality { region: self.region.clone(), zone: zone.to_owned() }
    }

    /// The zone of control, member and gateways.
    #[must_use]
    pub fn first_zone(&self) -> &str {
        self.zones.first().map_or("", String::as_str)
    }

    /// A workload by its name, or the first whose name begins with it.
    #[must_use]
    pub fn workload(&self, name: &str) -> Option<&WorkloadPlan> {
        let exact = self.workloads.iter().find(|workload| workload.name == name);
        exact.or_else(|| self.workloads.iter().find(|workload| workload.name.starts_with(name)))
    }

    /// Whether it is a witness: control and member alone, so that the members of two clusters are three.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.workloads.is_empty()
    }

    /// The workload that only has a sidecar.
    #[must_use]
    pub fn client(&self) -> Option<&WorkloadPlan> {
        self.workloads.iter().find(|workload| workload.app.is_none())
    }

    /// Its gateways: the name of each process and its address.
    pub fn gateways(&self) -> impl Iterator<Item = (String, IpAddr)> {
        let (at, count) = (self.addresses(), if self.is_witness() { 0 } else { self.gateways });
        (1..=count).map(move |place| (gateway_name(place), at.gateway_at(place)))
    }

    /// All its processes: control, member and gateways first, because everything waits for them.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let at = self.addresses();
        let process = |name: String, role, address| Process { cluster: self.name.clone(), name, role, address };
        let mut all = vec![
            process("control".into(), Role::Control, at.control()),
            process("federation".into(), Role::Federation, at.federation()),
        ];
        all.extend(self.gateways().map(|(name, address)| process(name, Role::Gateway, address)));
        for workload in &self.workloads {
            let address = self.address_of(workload);
            if workload.app.is_some() {
                all.push(process(workload.name.clone(), Role::App, address));
            }
            all.push(process(sidecar_of(&workload.name), Role::Proxy, address));
        }
        all
    }
}

/// The name of the gateway process at a place, from 1.
fn gateway_name(place: u8) -> String {
    if place == 1 { "gateway".into() } else { format!("gateway-{place}") }
}

/// The name of a workload's sidecar process.
#[must_use]
pub fn sidecar_of(workload: &str) -> String {
    format!("{workload}.sidecar")
}

impl Plan {
    /// Whether its clusters are in namespaces of their own, with a network between them.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.clusters.iter().any(|cluster| cluster.form == Form::Namespaces)
    }

    /// A cluster by name.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&ClusterPlan> {
        self.clusters.iter().find(|cluster| cluster.name.as_str() == name)
    }

    /// A cluster by the name that somebody typed.
    ///
    /// # Errors
    /// When there is none, with the names there are.
    pub fn named(&self, name: &str) -> anyhow::Result<&ClusterPlan> {
        let names = || self.clusters.iter().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>().join(", ");
        self.cluster(name).ok_or_else(|| anyhow::anyhow!("no cluster {name} in this mesh; there are {}", names()))
    }

    /// How many clusters it has, in words.
    #[must_use]
    pub fn size(&self) -> String {
        let noun = if self.clusters.len() == 1 { "cluster" } else { "clusters" };
        format!("{} {noun}", self.clusters.len())
    }

    /// All processes, every cluster's control first.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let mut all = self.clusters.iter().flat_map(ClusterPlan::processes).collect::<Vec<_>>();
        all.sort_by_key(|process| process.role);
        all
    }
}
