//! Pure: ports that somebody else takes: of pods those that their sidecars need, of nodes the gateways'.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_inject::words::{HEALTH_PORT, METRICS_PORT, SYSTEM_NAMESPACES};
use isthmus_proxy::capture::{DNS, INBOUND, OUTBOUND};
use serde_json::Value;

use super::{
    finding::Finding,
    pods::{is_over, sidecar},
};
use crate::{
    install::cluster::OURS,
    rollout::{list, text},
};

/// Of a sidecar: who else listens there in its pod keeps it from starting.
const SIDECARS: [u16; 6] = [ADMIN, OUTBOUND, INBOUND, METRICS_PORT, HEALTH_PORT, DNS];
/// Where a sidecar is asked how it is.
const ADMIN: u16 = isthmus_scenarios::plan::roles::ADMIN_PORT;
/// Where other clusters reach the gateways.
const GATEWAY: u16 = isthmus_gateway::service::PORTS.tunnel;
/// Pods that are named.
const NAMED: usize = 10;

/// Of all pods; what they do not declare nobody can see.
pub fn verdicts(pods: &[Value]) -> Vec<Finding> {
    const WHAT: &str = "Ports";
    let mut all = vec![];
    all.extend(of_sidecars(pods));
    all.extend(of_gateways(pods));
    if all.is_empty() {
        all.push(Finding::ok(WHAT, "no pod listens where sidecars or gateways have to, as far as pods declare"));
    }
    all
}

fn of_sidecars(pods: &[Value]) -> Option<Finding> {
    let mut taken = BTreeMap::<String, BTreeSet<u16>>::new();
    for pod in pods.iter().filter(|pod| may_have_one(pod)) {
        let ports: BTreeSet<_> = declared(pod, "containerPort").filter(|port| SIDECARS.contains(port)).collect();
        if !ports.is_empty() {
            taken.insert(format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name")), ports);
        }
    }
    let one = |(pod, ports): (&String, &BTreeSet<u16>)| format!("{pod} at {}", listed(ports));
    let named: Vec<_> = taken.iter().take(NAMED).map(one).collect();
    let more = taken.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    (!taken.is_empty()).then(|| {
        let why = format!("pods listen where their sidecars would have to: {}{more}", named.join("; "));
        Finding::warning("Ports of sidecars", why)
            .remedy("let them listen elsewhere, or label them isthmus.dev/inject: \"false\"")
    })
}

/// Nodes whose port is taken are no place for a gateway that listens at its node's.
fn of_gateways(pods: &[Value]) -> Option<Finding> {
    let takes = |pod: &&Value| !is_ours(pod) && declared(pod, "hostPort").any(|port| port == GATEWAY);
    let nodes: BTreeSet<_> =
        pods.iter().filter(|pod| !is_over(pod)).filter(takes).map(|pod| text(pod, "/spec/nodeName")).collect();
    (!nodes.is_empty()).then(|| {
        let why = format!("port {GATEWAY} is taken on {}", nodes.into_iter().collect::<Vec<_>>().join(", "));
        Finding::note("Ports of nodes", why).remedy(
            "with gateway.exposure=HostPort set gateway.hostPort or gateway.nodeSelector; nothing else needs it",
        )
    })
}

/// Whether it has no sidecar yet and could have one.
fn may_have_one(pod: &Value) -> bool {
    let is_system = SYSTEM_NAMESPACES.contains(&text(pod, "/metadata/namespace"));
    let is_on_node = pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true);
    !is_over(pod) && !is_system && !is_on_node && sidecar(pod).is_none()
}

fn is_ours(pod: &Value) -> bool {
    let (label, value) = OURS.split_once('=').unwrap_or_default();
    pod.pointer("/metadata/labels").and_then(|labels| labels.get(label)).and_then(Value::as_str) == Some(value)
}

fn declared<'a>(pod: &'a Value, key: &'a str) -> impl Iterator<Item = u16> + 'a {
    let containers = list(pod, "/spec/initContainers").iter().chain(list(pod, "/spec/containers"));
    let ports = containers.flat_map(|container| list(container, "/ports"));
    ports.filter_map(move |port| u16::try_from(port.get(key)?.as_u64()?).ok())
}

fn listed(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::finding::Severity;

    fn pod(namespace: &str, ports: Value) -> Value {
        json!({ "metadata": { "name": "a", "namespace": namespace }, "spec": { "nodeName": "n1", "containers": [{ "ports": ports }] } })
    }

    #[test]
    fn a_pod_that_listens_where_its_sidecar_has_to_is_told() {
        let clash = pod("shop", json!([{ "containerPort": 15021 }, { "containerPort": 8080 }]));
        let found = verdicts(std::slice::from_ref(&clash));
        assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
        assert!(found[0].why.ends_with("shop/a at 15021") && found[0].remedy.is_some(), "{found:?}");
        let mut on_node = clash.clone();
        on_node["spec"]["hostNetwork"] = true.into();
        let mut injected = clash.clone();
        injected["spec"]["initContainers"] = json!([{ "name": "isthmus-proxy", "image": "i:1" }]);
        let mut over = clash;
        over["status"] = json!({ "phase": "Succeeded" });
        let fine = [
            on_node,
            injected,
            over,
            pod("kube-system", json!([{ "containerPort": 15000 }])),
            pod("shop", json!([{ "containerPort": 80 }])),
        ];
        assert_eq!(verdicts(&fine).iter().map(|one| one.severity).collect::<Vec<_>>(), [Severity::Ok]);
    }

    #[test]
    fn a_node_whose_port_is_taken_is_told_unless_a_gateway_has_it() {
        let taken = pod("edge", json!([{ "containerPort": 443, "hostPort": 15443 }]));
        let found = verdicts(std::slice::from_ref(&taken));
        assert!(
            found.len() == 1 && found[0].severity == Severity::Note && found[0].why.ends_with("on n1"),
            "{found:?}"
        );
        let mut ours = taken;
        ours["metadata"]["labels"] = json!({ "app.kubernetes.io/part-of": "isthmus" });
        assert_eq!(verdicts(&[ours])[0].severity, Severity::Ok);
    }
}
