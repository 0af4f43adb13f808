//! What is read of a Service of the gateways.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Transport;

/// A Service by which other clusters reach the gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposing {
    pub(super) way: Way,
    pub(super) ports: Vec<Opened>,
}

/// How it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Way {
    /// At the addresses or names that a load balancer gave; none yet.
    Balancer(Vec<String>),
    /// At nodes.
    Nodes {
        /// Only those that have a gateway pass anything on.
        only_own: bool,
    },
}

/// A port of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) transport: Transport,
    /// Where the load balancer has it.
    pub(super) port: u16,
    /// Where nodes have it, once one was allocated.
    pub(super) node_port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: String,
    external_traffic_policy: String,
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    protocol: Option<String>,
    port: u16,
    #[serde(default)]
    node_port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<Ingress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: Option<String>,
    hostname: Option<String>,
}

impl Exposing {
    /// From `spec` and `status`; `None`: nobody outside reaches it.
    ///
    /// # Errors
    /// When it is not a Service as the API has them.
    pub(crate) fn read(data: &Value) -> Result<Option<Self>, serde_json::Error> {
        let Raw { spec, status } = Raw::deserialize(data)?;
        let way = match spec.kind.as_str() {
            "LoadBalancer" => {
                let given = status.load_balancer.ingress.into_iter();
                Way::Balancer(given.filter_map(|one| one.ip.or(one.hostname)).collect())
            }
            "NodePort" => Way::Nodes { only_own: spec.external_traffic_policy == "Local" },
            _ => return Ok(None),
        };
        let opened = |port: Port| {
            let node_port = port.node_port.filter(|port| *port != 0);
            Transport::of(port.protocol.as_deref()).map(|transport| Opened { transport, port: port.port, node_port })
        };
        Ok(Some(Self { way, ports: spec.ports.into_iter().filter_map(opened).collect() }))
    }

    /// Whether it has a port of this transport and its load balancer has given no address yet.
    pub(super) fn waits(&self, transport: Transport) -> bool {
        let has_it = self.ports.iter().any(|opened| opened.transport == transport);
        has_it && matches!(&self.way, Way::Balancer(hosts) if hosts.is_empty())
    }
}
