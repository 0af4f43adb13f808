//! Where other clusters reach the gateways, by transport: told by the Services and the pods of the gateways themselves, so
//! that it follows them and nobody has to say it twice.
//!
//! | the gateways have | others reach them at |
//! | --- | --- |
//! | a Service of type LoadBalancer, or one a protocol | what the load balancer gave, an address or a name, at the Service's port |
//! | a Service of type NodePort | some nodes that are ready, those with a gateway first, at the port that each protocol got |
//! | ports of their nodes | the nodes that they run on, at these ports |
//! | nothing of it | nowhere: they dial the others |

mod asked;
mod service;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use isthmus_core::{model::EndpointState, statement::Gateways};

use self::service::Way;
pub use self::{
    asked::{NotExposed, gateways},
    service::Exposing,
};
use crate::{node::Node, pod::Pod, seen::Seen};

/// The mesh's own pods and Services carry it, with their role.
const COMPONENT: &str = "app.kubernetes.io/component";
/// They are of this mesh, not another product's.
const NAME: (&str, &str) = ("app.kubernetes.io/name", "isthmus");
/// Where gateways listen for other clusters.
pub(crate) const PORT: u16 = 15443;
/// Of nodes that pass packets on to the gateways so many are told: enough that some live, and few to dial.
const MOST_NODES: usize = 5;

/// What carries tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// QUIC.
    Udp,
    /// TLS.
    Tcp,
}

impl Transport {
    /// As Kubernetes has it in `protocol`; `None`: gateways do not speak it.
    pub(crate) fn of(protocol: Option<&str>) -> Option<Self> {
        match protocol {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some(_) => None,
        }
    }
}

/// Whether labels are those of a gateway, or of its Service.
pub(crate) fn is_gateways(label: impl Fn(&str) -> Option<String>) -> bool {
    is_own("gateway", label)
}

/// Whether labels are those of one of the mesh's own roles.
pub(crate) fn is_own(role: &str, label: impl Fn(&str) -> Option<String>) -> bool {
    label(COMPONENT).as_deref() == Some(role) && label(NAME.0).as_deref() == Some(NAME.1)
}

/// Gateways that are ready, and those that end: they say to their peers that they drain, and are there until they have.
/// Where none is, all there are: an empty list would take the last way away.
pub(crate) fn usable<'a>(seen: &'a Seen, namespace: &str) -> Vec<&'a Pod> {
    let of_namespace = seen.pods().iter().filter(|(name, _)| name.namespace == namespace).map(|(_, pod)| pod);
    let all: Vec<_> = of_namespace.filter(|pod| is_gateways(|name| pod.labels.get(name).cloned())).collect();
    let usable: Vec<_> = all.iter().copied().filter(|pod| pod.state != EndpointState::Unready).collect();
    if usable.is_empty() { all } else { usable }
}

/// Where the gateways are; `namespace` is the mesh's own.
#[must_use]
pub fn of(seen: &Seen, namespace: &str) -> Gateways {
    let pods = usable(seen, namespace);
    let mut told = Gateways::default();
    for (_, service) in seen.exposing(namespace) {
        for opened in &service.ports {
            match &service.way {
                Way::Balancer(hosts) => {
                    hosts.iter().for_each(|host| add(&mut told, opened.transport, with_port(host, opened.port)));
                }
                Way::Nodes { only_own } => {
                    let Some(port) = opened.node_port else { continue };
                    let nodes = passing(seen, &pods, *only_own);
                    nodes.into_iter().for_each(|ip| add(&mut told, opened.transport, at(ip, port)));
                }
            }
        }
    }
    for pod in pods {
        let Some(ip) = node_of(seen, pod).and_then(|(_, node)| node.address) else { continue };
        pod.host_ports.iter().for_each(|(transport, port)| add(&mut told, *transport, at(ip, *port)));
    }
    told
}

fn add(told: &mut Gateways, transport: Transport, address: String) {
    let list = match transport {
        Transport::Udp => &mut told.udp,
        Transport::Tcp => &mut told.tcp,
    };
    if !list.contains(&address) {
        list.push(address);
    }
}

fn at(ip: IpAddr, port: u16) -> String {
    SocketAddr::new(ip, port).to_string()
}

fn with_port(host: &str, port: u16) -> String {
    host.parse().map_or_else(|_| format!("{host}:{port}"), |ip| at(ip, port))
}

fn node_of<'a>(seen: &'a Seen, pod: &'a Pod) -> Option<(&'a str, &'a Node)> {
    let name = pod.node.as_deref()?;
    seen.node(name).map(|node| (name, node))
}

/// Nodes of which a port leads to a gateway: those that have one first, and then by name, so that the choice is the same
/// each time. Where none is ready, as if all were.
fn passing(seen: &Seen, gateways: &[&Pod], only_own: bool) -> Vec<IpAddr> {
    let own: BTreeSet<_> = gateways.iter().filter_map(|pod| node_of(seen, pod)).map(|(name, _)| name).collect();
    let has_one = |name: &str| own.contains(name);
    let with = |is_ready: bool| {
        let mut nodes: Vec<_> = seen
            .nodes()
            .filter(|(name, node)| (!is_ready || node.is_ready) && (!only_own || has_one(name)))
            .filter_map(|(name, node)| Some((!has_one(name), name, node.address?)))
            .collect();
        nodes.sort_unstable();
        nodes.into_iter().take(MOST_NODES).map(|(_, _, ip)| ip).collect::<Vec<_>>()
    };
    let ready = with(true);
    if ready.is_empty() { with(false) } else { ready }
}

#[cfg(test)]
mod tests;
