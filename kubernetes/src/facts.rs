//! What follows from what was seen: workloads as Kubernetes has them, the own gateways, the own zones.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use isthmus_core::{
    model::EndpointState,
    name::{self, EndpointId, Locality},
    statement::Gateways,
};

use crate::{
    arrived::locality,
    exposed::{self, is_own},
    pod::{Pod, PodName},
    seen::Seen,
};

/// Where sidecars reach a gateway.
const GATEWAY_LOCAL: u16 = 15444;

/// What is known of workloads and gateways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// All pods.
    pub workloads: Arc<Workloads>,
    /// Where sidecars reach the own gateways.
    pub gateways: Vec<SocketAddr>,
    /// Where other clusters reach them.
    pub advertise: Gateways,
    /// Zones of the own nodes.
    pub zones: Vec<String>,
    /// Where each of them is.
    pub nodes: BTreeMap<String, Locality>,
    /// Replicas of the own control, by the names of their pods.
    pub controls: BTreeMap<String, IpAddr>,
}

/// All pods, as workloads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workloads(BTreeMap<PodName, Workload>);

/// A pod, as a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where its node is.
    pub locality: Locality,
    /// Its service account.
    pub service_account: String,
    /// As the kubelet sees it.
    pub state: EndpointState,
    /// Its TCP ports that have names.
    pub ports: BTreeMap<String, u16>,
}

impl Workloads {
    /// The pod that a sidecar of a namespace registers: by its name, or by `name.namespace`, since names of pods are unique in
    /// their namespace alone.
    #[must_use]
    pub fn registered(&self, namespace: &str, id: &EndpointId) -> Option<&Workload> {
        let bare = name::pod_of(id.as_str(), namespace);
        let named = |name: &str| self.0.get(&PodName::new(namespace, name));
        named(id.as_str()).or_else(|| bare.and_then(named))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Workload> {
        self.0.values()
    }
}

impl Facts {
    /// Of what was seen; `namespace` is the mesh's own.
    #[must_use]
    pub fn of(seen: &Seen, namespace: &str) -> Self {
        let workloads = seen.pods().iter().map(|(name, pod)| (name.clone(), workload(seen, pod))).collect();
        let zones = seen.nodes().map(|(_, node)| node.locality.zone.clone());
        let zones: BTreeSet<_> = zones.filter(|zone| !zone.is_empty()).collect();
        Self {
            workloads: Arc::new(Workloads(workloads)),
            gateways: gateways(seen, namespace),
            advertise: exposed::of(seen, namespace),
            zones: zones.into_iter().collect(),
            nodes: seen.nodes().map(|(name, node)| (name.to_owned(), node.locality.clone())).collect(),
            controls: controls(seen, namespace),
        }
    }
}

fn workload(seen: &Seen, pod: &Pod) -> Workload {
    let of_node =
        pod.node.as_ref().and_then(|node| seen.node(node)).map(|node| node.locality.clone()).unwrap_or_default();
    let of_pod = locality(Some(&pod.labels));
    let either = |node: String, pod: String| if node.is_empty() { pod } else { node };
    Workload {
        labels: pod.labels.clone(),
        addresses: pod.addresses.clone(),
        locality: Locality { region: either(of_node.region, of_pod.region), zone: either(of_node.zone, of_pod.zone) },
        service_account: pod.service_account.clone(),
        state: pod.state,
        ports: pod.ports.clone(),
    }
}

/// All replicas that have an address, ready or not: one that begins or ends has something to tell as well.
fn controls(seen: &Seen, namespace: &str) -> BTreeMap<String, IpAddr> {
    let is_one = |(name, pod): &(&PodName, &Pod)| {
        name.namespace == namespace && is_own("control", |name| pod.labels.get(name).cloned())
    };
    let all = seen.pods().iter().filter(is_one);
    all.filter_map(|(name, pod)| Some((name.name.clone(), *pod.addresses.first()?))).collect()
}

/// Where sidecars reach the gateways that can be used.
fn gateways(seen: &Seen, namespace: &str) -> Vec<SocketAddr> {
    let usable = exposed::usable(seen, namespace);
    let first: BTreeSet<_> = usable.into_iter().filter_map(|pod| pod.addresses.first()).collect();
    first.into_iter().map(|ip| SocketAddr::new(*ip, GATEWAY_LOCAL)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, arrived::Arrived, seen::Told};
    use serde_json::{Value, json};

    fn seen(objects: &[(Kind, Value)]) -> Seen {
        let mut seen = Seen::default();
        for (kind, object) in objects {
            let arrived = Arrived::of(*kind, serde_json::from_value(object.clone()).unwrap()).unwrap();
            seen.take(Told::One(*kind, Box::new(arrived)));
        }
        seen
    }

    fn node(name: &str, zone: &str) -> (Kind, Value) {
        let labels = json!({"topology.kubernetes.io/region": "east", "topology.kubernetes.io/zone": zone});
        (Kind::Node, json!({"metadata": {"name": name, "labels": labels}}))
    }

    fn gateway(name: &str, ip: &str, ready: &str) -> (Kind, Value) {
        let labels = json!({"app.kubernetes.io/name": "isthmus", "app.kubernetes.io/component": "gateway"});
        let status = json!({"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]});
        let metadata = json!({"name": name, "namespace": "isthmus-system", "labels": labels});
        (Kind::Pod, json!({"metadata": metadata, "spec": {"nodeName": "n1"}, "status": status}))
    }

    fn of(objects: &[(Kind, Value)]) -> Facts {
        Facts::of(&seen(objects), "isthmus-system")
    }

    #[test]
    fn a_pod_is_where_its_node_is_and_else_where_its_labels_say() {
        let pod = |node: &str| {
            let labels = json!({"topology.kubernetes.io/zone": "label"});
            (
                Kind::Pod,
                json!({"metadata": {"name": "a-1", "namespace": "shop", "labels": labels}, "spec": {"nodeName": node}}),
            )
        };
        let zone = |facts: &Facts, id: &str| {
            let found = facts.workloads.registered("shop", &id.parse().unwrap());
            found.map(|workload| workload.locality.zone.clone())
        };
        let facts = of(&[node("n1", "east-a"), node("n2", "east-b"), pod("n2")]);
        assert_eq!(zone(&facts, "a-1").unwrap(), "east-b");
        assert_eq!(zone(&facts, "a-1.shop").unwrap(), "east-b");
        assert_eq!(zone(&facts, "a-1.bank"), None);
        assert_eq!(facts.zones, ["east-a", "east-b"]);
        assert_eq!(facts.nodes["n2"].zone, "east-b");
        assert_eq!(zone(&of(&[pod("n3")]), "a-1").unwrap(), "label");
    }

    #[test]
    fn gateways_that_are_not_ready_are_left_out_as_long_as_there_are_others() {
        let both = [gateway("g-1", "10.0.0.1", "True"), gateway("g-2", "10.0.0.2", "False")];
        let texts = |facts: Facts| facts.gateways.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(of(&both)), ["10.0.0.1:15444"]);
        assert_eq!(texts(of(&both[1..])), ["10.0.0.2:15444"]);
        let mut ending = gateway("g-1", "10.0.0.1", "False");
        ending.1["metadata"]["deletionTimestamp"] = "2026-11-27T10:00:00Z".into();
        assert_eq!(texts(of(&[ending, gateway("g-2", "10.0.0.2", "True")])), ["10.0.0.1:15444", "10.0.0.2:15444"]);
    }

    #[test]
    fn replicas_of_control_are_known_by_their_pods() {
        let mut control = gateway("control-1", "10.0.0.7", "False");
        control.1["metadata"]["labels"]["app.kubernetes.io/component"] = "control".into();
        let facts = of(&[control, gateway("g-1", "10.0.0.1", "True")]);
        assert_eq!(facts.controls, [("control-1".to_owned(), "10.0.0.7".parse().unwrap())].into());
    }

    #[test]
    fn only_the_meshs_own_pods_are_gateways() {
        let mut elsewhere = gateway("g-1", "10.0.0.1", "True");
        elsewhere.1["metadata"]["namespace"] = "shop".into();
        let mut other = gateway("g-2", "10.0.0.2", "True");
        other.1["metadata"]["labels"]["app.kubernetes.io/name"] = "other".into();
        assert!(of(&[elsewhere, other]).gateways.is_empty());
    }
}
