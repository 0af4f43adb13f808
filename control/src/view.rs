//! What people see of control: plain rows, made when somebody looks. The shapes of `/api/*`.

use std::collections::BTreeMap;

use isthmus_core::{model::Standing, name::ClusterName};
use serde::Serialize;

use crate::{
    clients::Client,
    failover::{
        history::Event,
        rows::{FailoverRow, VerbRow},
    },
    handle::SpeakerView,
    sources::book::Fault,
};

/// Everything there is to see.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Remote clusters, and the own one first.
    pub clusters: Vec<ClusterRow>,
    /// Services clients of this cluster may call.
    pub services: Vec<ServiceRow>,
    /// Endpoints and groups.
    pub endpoints: Vec<EndpointRow>,
    /// Proxies and gateways.
    pub clients: Vec<Client>,
    /// Files and objects with their faults.
    pub config: Vec<ConfigRow>,
    /// Names and their addresses.
    pub dns: Vec<DnsRow>,
    /// Where each service's requests go.
    pub failover: Vec<FailoverRow>,
    /// What operators do.
    pub verbs: Vec<VerbRow>,
    /// What happened, newest last.
    pub history: Vec<Event>,
    /// How the own speaker stands.
    pub speaker: SpeakerView,
}

/// A cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterRow {
    /// Its name.
    pub name: String,
    /// Whether it is the own one.
    pub own: bool,
    /// Its region.
    pub region: String,
    /// Zones it has workloads in.
    pub zones: Vec<String>,
    /// How it stands.
    pub standing: Standing,
    /// Part of its traffic it gets, 0 to 1.
    pub share: f64,
    /// Round trip, microseconds; 0: not known.
    pub rtt_us: u64,
    /// Loss, parts per million.
    pub loss_ppm: u32,
    /// quic, tcp, or empty.
    pub transport: String,
    /// Tunnels up, over all own gateways.
    pub tunnels: u32,
    /// Milliseconds since its lease was heard, by any way; `None`: never.
    pub lease_age_ms: Option<u64>,
    /// The way the last lease came: member or tunnel.
    pub lease_by: String,
    /// The path as each own gateway sees it.
    pub paths: Vec<PathRow>,
    /// Why it stands so, for people.
    pub why: String,
    /// Seconds since it stands so.
    pub since_seconds: u64,
    /// Where its gateways are.
    pub gateways: Vec<String>,
    /// Its trust domain.
    pub trust_domain: String,
    /// The release that its control is of; empty: not heard.
    pub release: String,
    /// Whose policies and verbs bind it, itself first.
    pub bound_by: Vec<ClusterName>,
    /// What requests of own workloads to it showed, since this control began.
    pub requests: EvidenceRow,
}

/// What requests showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EvidenceRow {
    /// Answered.
    pub succeeded: u64,
    /// Refused, reset, or answered with an error of the way.
    pub failed: u64,
    /// Not answered in time.
    pub unanswered: u64,
}

/// A path as one gateway reports it.
#[derive(Clone, Debug, Serialize)]
pub struct PathRow {
    /// The own gateway.
    pub gateway: String,
    /// up, suspect, lost.
    pub state: String,
    /// Round trip, microseconds.
    pub rtt_us: u64,
    /// Loss, parts per million.
    pub loss_ppm: u32,
    /// Milliseconds since anything was heard.
    pub silent_ms: u64,
    /// Tunnels up.
    pub tunnels: u32,
    /// quic or tcp.
    pub transport: String,
    /// Why it is not up; empty: it is, or nothing is known.
    pub why: String,
}

/// A service.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceRow {
    /// namespace/name.
    pub service: String,
    /// `svc.clusterset.local` exists.
    pub clusterset: bool,
    /// `svc.cluster.local` climbs the ladder.
    pub global: bool,
    /// Exported to: all, a list, or nothing.
    pub exported: Option<isthmus_core::statement::Consumers>,
    /// Ports, `number/protocol`.
    pub ports: Vec<String>,
    /// Usable endpoints in the own cluster.
    pub local_usable: u32,
    /// Usable endpoints by remote cluster.
    pub remote_usable: BTreeMap<String, u32>,
    /// Which service address it has.
    pub address_index: Option<u16>,
}

/// A local endpoint, or a group of a remote cluster.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointRow {
    /// namespace/name.
    pub service: String,
    /// The cluster.
    pub cluster: String,
    /// The endpoint's id; of a group `n of m`.
    pub endpoint: String,
    /// Its address; empty of a group.
    pub address: String,
    /// region/zone.
    pub locality: String,
    /// ready, draining, unready, unknown; of a group usable or none.
    pub state: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who must answer.
    pub identities: Vec<String>,
    /// Its weight.
    pub weight: u32,
}

/// A file.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigRow {
    /// Its name; of faults between objects, the object's file as far as it is known.
    pub file: String,
    /// Whether some content of it is in force.
    pub in_force: bool,
    /// Whether that is an earlier one, because what it says now is refused.
    pub former: bool,
    /// What is wrong with it.
    pub errors: Vec<Fault>,
}

/// A name in the mesh's DNS.
#[derive(Clone, Debug, Serialize)]
pub struct DnsRow {
    /// The name.
    pub name: String,
    /// Its addresses as the cluster's own DNS answers them.
    pub addresses: Vec<String>,
    /// Its ports.
    pub ports: Vec<u16>,
}
