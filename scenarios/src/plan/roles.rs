//! Each role's configuration, as its `--config` file has it.

use std::net::SocketAddr;

use isthmus_core::name::Locality;
use serde_json::{Value, json};

use super::{ClusterPlan, Plan, Process, Role, WorkloadPlan};
use crate::state::StateDir;

/// The feed and the CA.
pub const CONTROL_PORT: u16 = 15012;
/// The federation member.
pub const MEMBER_PORT: u16 = 15050;
/// The gateway, for other clusters.
pub const TUNNEL_PORT: u16 = 15443;
/// The gateway, for local sidecars.
pub const LOCAL_GATEWAY_PORT: u16 = 15444;
/// The explicit proxy.
pub const EXPLICIT_PORT: u16 = 15080;
/// Mesh DNS.
pub const DNS_PORT: u16 = 15053;
/// Admin.
pub const ADMIN_PORT: u16 = 15000;
/// Metrics.
pub const METRICS_PORT: u16 = 15020;
/// Readiness.
pub const HEALTH_PORT: u16 = 15021;
/// Inner connections.
pub const INBOUND_PORT: u16 = 15006;
/// Where the demo's applications listen.
pub const APPLICATION_PORT: u16 = 9080;

/// Where a role listens on its address: TCP and UDP. The first is the one that it binds first.
#[must_use]
pub fn ports(role: Role) -> (&'static [u16], &'static [u16]) {
    match role {
        Role::Control => (&[ADMIN_PORT, METRICS_PORT, HEALTH_PORT, CONTROL_PORT, DNS_PORT], &[DNS_PORT]),
        Role::Federation => (&[ADMIN_PORT, METRICS_PORT, HEALTH_PORT, MEMBER_PORT], &[]),
        Role::Gateway => (&[ADMIN_PORT, METRICS_PORT, HEALTH_PORT, TUNNEL_PORT, LOCAL_GATEWAY_PORT], &[TUNNEL_PORT]),
        Role::Proxy => (&[ADMIN_PORT, METRICS_PORT, HEALTH_PORT, INBOUND_PORT, EXPLICIT_PORT, DNS_PORT], &[DNS_PORT]),
        Role::App => (&[APPLICATION_PORT], &[]),
    }
}

impl Plan {
    /// The configuration of a process; `None` when it is not of this plan.
    #[must_use]
    pub fn configuration(&self, state: &StateDir, process: &Process) -> Option<Value> {
        let cluster = self.cluster(process.cluster.as_str())?;
        let writer = Writer { plan: self, cluster, state };
        Some(match process.role {
            Role::Control => writer.control(process),
            Role::Federation => writer.federation(process),
            Role::Gateway => writer.gateway(process),
            Role::Proxy => writer.proxy(process, cluster.workload(process.name.strip_suffix(".sidecar")?)?),
            Role::App => writer.app(process, cluster.workload(&process.name)?),
        })
    }
}

struct Writer<'a> {
    plan: &'a Plan,
    cluster: &'a ClusterPlan,
    state: &'a StateDir,
}

impl Writer<'_> {
    fn common(&self, process: &Process, name: &str, locality: &Locality) -> Value {
        json!({
            "mesh": self.plan.mesh,
            "cluster": self.cluster.name,
            "locality": locality,
            "name": name,
            "address": process.address,
            "state_dir": self.state.role(&self.cluster.name, &process.name),
            "enrolment": self.state.enrolment(&self.cluster.name, &process.name),
            "log": self.plan.tuning.log,
        })
    }

    /// Control, member and gateways: named after the cluster, since their names are seen beyond it.
    fn own(&self, process: &Process) -> Value {
        self.common(process, &process.full_name(), &self.cluster.locality(self.cluster.first_zone()))
    }

    fn control_address(&self) -> SocketAddr {
        SocketAddr::new(self.cluster.addresses().control(), CONTROL_PORT)
    }

    fn member_address(&self) -> SocketAddr {
        SocketAddr::new(self.cluster.addresses().federation(), MEMBER_PORT)
    }

    fn gateway_addresses(&self, port: u16) -> Vec<SocketAddr> {
        self.cluster.gateways().map(|(_, address)| SocketAddr::new(address, port)).collect()
    }

    fn control(&self, process: &Process) -> Value {
        let dns_for = self.cluster.client().map(|client| self.cluster.address_of(client));
        let mut config = json!({
            "common": self.own(process),
            "config_dir": self.state.config(&self.cluster.name),
            "federation_key": self.state.federation_key(&self.cluster.name),
            "member": self.member_address(),
            "gateways": self.gateway_addresses(LOCAL_GATEWAY_PORT),
            "advertise_gateways": { "udp": self.gateway_addresses(TUNNEL_PORT), "tcp": self.gateway_addresses(TUNNEL_PORT) },
            "dns_for": dns_for,
            "zones": self.cluster.zones,
        });
        if let (Some(seconds), Some(config)) = (self.plan.tuning.leaf_ttl_seconds, config.as_object_mut()) {
            config.insert("ca".into(), json!({ "leaf_ttl_seconds": seconds }));
        }
        config
    }

    fn federation(&self, process: &Process) -> Value {
        let tuning = &self.plan.tuning;
        // A witness has no gateway to pass connections through.
        let reached = match self.cluster.is_witness() {
            true => vec![self.member_address()],
            false => self.gateway_addresses(TUNNEL_PORT),
        };
        json!({
            "common": self.own(process),
            "federation_key": self.state.federation_key(&self.cluster.name),
            "advertise": reached,
            "timing": {
                "heartbeat_ms": tuning.heartbeat_ms,
                "election_min_ms": tuning.election_ms.0,
                "election_max_ms": tuning.election_ms.1,
            },
        })
    }

    fn gateway(&self, process: &Process) -> Value {
        let mut config = json!({
            "common": self.own(process),
            "control": self.control_address(),
            "member": self.member_address(),
        });
        if let (Some(seconds), Some(config)) = (self.plan.tuning.gateway_drain_seconds, config.as_object_mut()) {
            config.insert("drain_deadline_seconds".into(), seconds.into());
        }
        config
    }

    fn proxy(&self, process: &Process, workload: &WorkloadPlan) -> Value {
        json!({
            "common": self.common(process, &workload.name, &self.cluster.locality(&workload.zone)),
            "control": self.control_address(),
            "namespace": workload.namespace,
            "service_account": workload.service_account,
            "labels": workload.labels,
            "application": process.address,
            "probe": workload.app.as_ref().map(|_| APPLICATION_PORT),
            "access_log": { "format": "text", "path": self.state.access_log(&self.cluster.name, &workload.name) },
        })
    }

    fn app(&self, process: &Process, workload: &WorkloadPlan) -> Value {
        json!({
            "app": workload.app,
            "version": workload.labels.get("version").map_or("v1", String::as_str),
            "workload": workload.name,
            "cluster": self.cluster.name,
            "zone": workload.zone,
            "address": process.address,
            "proxy": SocketAddr::new(process.address, EXPLICIT_PORT),
        })
    }
}
