//! What is read of a pod: where it is, how it is, and the names of its ports.

use std::{collections::BTreeMap, net::IpAddr};

use isthmus_core::model::EndpointState;
use serde::{Deserialize, Serialize};

use crate::exposed::{self, Transport};

/// A pod's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl PodName {
    /// From its two parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses, of each family one; none until it is on a node.
    pub addresses: Vec<IpAddr>,
    /// Its node; none until it is on one.
    pub node: Option<String>,
    /// Its service account.
    pub service_account: String,
    /// As the kubelet sees it.
    pub state: EndpointState,
    /// Its TCP ports that have names.
    pub ports: BTreeMap<String, u16>,
    /// Ports of its node that lead to where gateways listen for other clusters.
    #[serde(default)]
    pub host_ports: BTreeMap<Transport, u16>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    service_account_name: String,
    containers: Vec<Container>,
    /// Sidecars are among them.
    init_containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    name: String,
    container_port: u16,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    host_port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<Address>,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Address {
    ip: String,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Pod {
    /// From `spec` and `status`; `None`: it ran to its end and will not run again.
    ///
    /// # Errors
    /// When it is not a pod as the API has them.
    pub(crate) fn read(
        labels: BTreeMap<String, String>,
        is_deleted: bool,
        data: serde_json::Value,
    ) -> Result<Option<Self>, serde_json::Error> {
        let Raw { spec, status } = serde_json::from_value(data)?;
        if matches!(status.phase.as_str(), "Succeeded" | "Failed") {
            return Ok(None);
        }
        let state = status.state(is_deleted);
        let addresses = status.addresses();
        let Spec { node_name, service_account_name, containers, init_containers } = spec;
        let (mut ports, mut host_ports) = (BTreeMap::new(), BTreeMap::new());
        for port in containers.into_iter().chain(init_containers).flat_map(|container| container.ports) {
            let Some(transport) = Transport::of(port.protocol.as_deref()) else { continue };
            if let Some(on_host) =
                port.host_port.filter(|on_host| *on_host != 0 && port.container_port == exposed::PORT)
            {
                host_ports.insert(transport, on_host);
            }
            if !port.name.is_empty() && transport == Transport::Tcp {
                ports.insert(port.name, port.container_port);
            }
        }
        let service_account = service_account_name;
        Ok(Some(Self { labels, addresses, node: node_name, service_account, state, ports, host_ports }))
    }
}

impl Status {
    /// The kubelet's word, and before it the API server's: a pod that was deleted gets nothing new, however ready it is.
    fn state(&self, is_deleted: bool) -> EndpointState {
        let is_ready = self.conditions.iter().any(|one| one.kind == "Ready" && one.status == "True");
        match (is_deleted, is_ready) {
            (true, _) => EndpointState::Draining,
            (false, true) => EndpointState::Ready,
            (false, false) => EndpointState::Unready,
        }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let texts = self.pod_ips.iter().map(|address| &address.ip).chain(&self.pod_ip);
        let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn running(ready: &str) -> Value {
        json!({
            "spec": {
                "nodeName": "n1",
                "serviceAccountName": "reviews",
                "containers": [
                    {"name": "app", "ports": [{"name": "http", "containerPort": 9080, "protocol": "TCP"}]},
                    {"name": "dns", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"containerPort": 1}]},
                ],
                "initContainers": [{"name": "side", "ports": [{"name": "admin", "containerPort": 15020}]}],
            },
            "status": {
                "phase": "Running",
                "podIP": "10.1.0.7",
                "podIPs": [{"ip": "10.1.0.7"}, {"ip": "fd00::7"}],
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}],
            },
        })
    }

    fn read(is_deleted: bool, data: Value) -> Option<Pod> {
        Pod::read(BTreeMap::new(), is_deleted, data).unwrap()
    }

    #[test]
    fn a_pod_is_as_ready_as_the_kubelet_says_and_drains_once_it_is_deleted() {
        let state = |is_deleted, ready| read(is_deleted, running(ready)).unwrap().state;
        assert_eq!(state(false, "True"), EndpointState::Ready);
        assert_eq!(state(false, "False"), EndpointState::Unready);
        assert_eq!(state(true, "True"), EndpointState::Draining);
        assert_eq!(state(true, "False"), EndpointState::Draining);
    }

    #[test]
    fn only_tcp_ports_with_names_are_kept_those_of_sidecars_too() {
        let pod = read(false, running("True")).unwrap();
        assert_eq!(pod.ports, BTreeMap::from([("http".into(), 9080), ("admin".into(), 15020)]));
        assert_eq!(pod.addresses, ["10.1.0.7", "fd00::7"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn a_pod_that_ran_to_its_end_is_none_and_one_that_waits_for_a_node_has_no_address() {
        let mut done = running("False");
        done["status"]["phase"] = "Succeeded".into();
        assert_eq!(read(false, done), None);
        let waiting = read(false, json!({"spec": {"containers": []}, "status": {"phase": "Pending"}})).unwrap();
        assert_eq!((waiting.addresses, waiting.node, waiting.state), (vec![], None, EndpointState::Unready));
    }
}
