//! The same, asked of an API server once, for commands: what a joiner's entry has to name.

use kube::{Api, Client, api::ListParams};

use super::{Transport, of, usable};
use crate::{
    Kind,
    arrived::Arrived,
    seen::{Seen, Told},
};

/// Which Services and pods are the gateways'.
const SELECTOR: &str = "app.kubernetes.io/name=isthmus,app.kubernetes.io/component=gateway";

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum NotExposed {
    /// The API server refuses or does not answer.
    #[error("the API server does not say where the gateways are: {0} cannot be listed")]
    Unlisted(&'static str, #[source] Box<kube::Error>),
    /// It says something else than its API has.
    #[error("the API server does not say where the gateways are: one of the {0} is not as its API has it")]
    Unreadable(&'static str, #[source] serde_json::Error),
    /// The load balancer takes its time.
    #[error(
        "the gateways' Service {0} has no address from a load balancer yet; wait for it (`kubectl -n {1} get service \
         {0}`), or choose another exposure, or give addresses by `gateway.addresses`"
    )]
    Pending(String, String),
    /// Ports of nodes, and no node.
    #[error(
        "the gateways are reached by ports of nodes, and no node has both a gateway and an address yet; wait for one \
         (`kubectl -n {0} get pods -o wide`, `kubectl get nodes -o wide`), or give addresses by `gateway.addresses`"
    )]
    NoNode(String),
}

/// `host:port`, of TCP, where other clusters reach the gateways; none where they only dial out.
///
/// # Errors
/// [`NotExposed`].
pub async fn gateways(client: &Client, namespace: &str) -> Result<Vec<String>, NotExposed> {
    let mut seen = Seen::default();
    let own = ListParams::default().labels(SELECTOR);
    for (kind, asked) in [(Kind::Service, &own), (Kind::Pod, &own)] {
        let api = Api::namespaced_with(client.clone(), namespace, &kind.resource("v1"));
        seen.take(list(&api, kind, asked).await?);
    }
    // Who may not see nodes has no need to, unless their ports are what is asked for.
    if by_nodes(&seen, namespace) {
        let api = Api::all_with(client.clone(), &Kind::Node.resource("v1"));
        seen.take(list(&api, Kind::Node, &ListParams::default()).await?);
    }
    told(&seen, namespace)
}

async fn list(api: &Api<kube::core::DynamicObject>, kind: Kind, asked: &ListParams) -> Result<Told, NotExposed> {
    let listed = api.list(asked).await.map_err(|error| NotExposed::Unlisted(kind.plural(), Box::new(error)))?;
    let read = |object| Arrived::of(kind, object).map_err(|error| NotExposed::Unreadable(kind.plural(), error));
    Ok(Told::All(kind, listed.items.into_iter().map(read).collect::<Result<_, _>>()?))
}

fn by_nodes(seen: &Seen, namespace: &str) -> bool {
    let service = seen.exposing(namespace).any(|(_, service)| matches!(service.way, super::Way::Nodes { .. }));
    service || usable(seen, namespace).iter().any(|pod| !pod.host_ports.is_empty())
}

fn told(seen: &Seen, namespace: &str) -> Result<Vec<String>, NotExposed> {
    if let Some((name, _)) = seen.exposing(namespace).find(|(_, service)| service.waits(Transport::Tcp)) {
        return Err(NotExposed::Pending(name.to_owned(), namespace.to_owned()));
    }
    let tcp = of(seen, namespace).tcp;
    if tcp.is_empty() && by_nodes(seen, namespace) {
        return Err(NotExposed::NoNode(namespace.to_owned()));
    }
    Ok(tcp)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(objects: &[(Kind, Value)]) -> Seen {
        super::super::tests::seen(objects)
    }

    fn service(name: &str, kind: &str, protocol: &str, ingress: Value) -> (Kind, Value) {
        let ports = json!([{"port": 15443, "protocol": protocol, "nodePort": 31443}]);
        super::super::tests::service(name, json!({"type": kind, "ports": ports}), ingress)
    }

    #[test]
    fn tcp_addresses_are_taken_and_one_that_is_still_to_come_is_waited_for() {
        let given = json!([{ "ip": "10.1.2.3" }, { "hostname": "lb.example" }]);
        let both = [
            service("isthmus-gateway", "LoadBalancer", "TCP", given),
            service("isthmus-gateway-udp", "LoadBalancer", "UDP", json!([])),
        ];
        assert_eq!(told(&seen(&both), "isthmus-system").unwrap(), ["10.1.2.3:15443", "lb.example:15443"]);
        let pending = [service("isthmus-gateway", "LoadBalancer", "TCP", json!([]))];
        let error = told(&seen(&pending), "isthmus-system").unwrap_err().to_string();
        assert!(error.contains("isthmus-gateway has no address") && error.contains("gateway.addresses"), "{error}");
    }

    #[test]
    fn ports_of_nodes_are_waited_for_too_and_who_only_dials_out_waits_for_nothing() {
        let by_nodes = [service("isthmus-gateway", "NodePort", "TCP", json!([]))];
        let error = told(&seen(&by_nodes), "isthmus-system").unwrap_err().to_string();
        assert!(error.contains("ports of nodes") && error.contains("gateway.addresses"), "{error}");
        assert!(told(&seen(&[]), "isthmus-system").unwrap().is_empty());
    }
}
