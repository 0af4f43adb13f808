//! Where other clusters reach this one's gateways, as its load balancer says: what a joiner's entry has to name.

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::facts::{GATEWAY_PORT, with_port};

/// Which Services are the gateways'.
const SELECTOR: &str = "app.kubernetes.io/name=isthmus,app.kubernetes.io/component=gateway";

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum NotExposed {
    /// The API server refuses or does not answer.
    #[error("the API server does not say where the gateways are")]
    Unlisted(#[source] Box<kube::Error>),
    /// The load balancer takes its time.
    #[error(
        "the gateways' Service {0} has no address from a load balancer yet; wait for it (`kubectl -n {1} get service \
         {0}`), or choose another exposure, or give addresses by `gateway.addresses`"
    )]
    Pending(String, String),
}

/// `host:port`, of TCP, of each address that a load balancer gave; none where no Service of the gateways wants one: then
/// the mesh's configuration says it.
///
/// # Errors
/// [`NotExposed`].
pub async fn gateways(client: &Client, namespace: &str) -> Result<Vec<String>, NotExposed> {
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    let listed = services.list(&ListParams::default().labels(SELECTOR)).await;
    let listed = listed.map_err(|error| NotExposed::Unlisted(Box::new(error)))?;
    of(&listed.items, namespace)
}

fn of(services: &[Service], namespace: &str) -> Result<Vec<String>, NotExposed> {
    let mut addresses = vec![];
    for service in services.iter().filter(|service| wants_one(service)) {
        let given: Vec<_> = ingress(service).map(with_port).collect();
        if given.is_empty() {
            return Err(NotExposed::Pending(service.name_any(), namespace.to_owned()));
        }
        addresses.extend(given);
    }
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// Whether it is of a load balancer and has the port for TCP.
fn wants_one(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let is_tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    let has_port = ports.iter().any(|port| port.port == i32::from(GATEWAY_PORT) && is_tcp(port.protocol.as_deref()));
    spec.type_.as_deref() == Some("LoadBalancer") && has_port
}

fn ingress(service: &Service) -> impl Iterator<Item = &str> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let given = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    given.iter().filter_map(|one| one.ip.as_deref().or(one.hostname.as_deref()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, kind: &str, protocol: &str, ingress: serde_json::Value) -> Service {
        let service = json!({
            "metadata": { "name": name },
            "spec": { "type": kind, "ports": [{ "port": 15443, "protocol": protocol }] },
            "status": { "loadBalancer": { "ingress": ingress } },
        });
        serde_json::from_value(service).unwrap()
    }

    #[test]
    fn tcp_addresses_of_load_balancers_are_taken_and_one_that_is_still_to_come_is_waited_for() {
        let given = json!([{ "ip": "10.1.2.3" }, { "hostname": "lb.example" }]);
        let both = [
            service("isthmus-gateway", "LoadBalancer", "TCP", given),
            service("isthmus-gateway-udp", "LoadBalancer", "UDP", json!([])),
        ];
        assert_eq!(of(&both, "isthmus-system").unwrap(), ["10.1.2.3:15443", "lb.example:15443"]);
        let ports = [service("isthmus-gateway", "NodePort", "TCP", json!([]))];
        assert!(of(&ports, "isthmus-system").unwrap().is_empty(), "the configuration says it");
        let pending = [service("isthmus-gateway", "LoadBalancer", "TCP", json!([]))];
        let error = of(&pending, "isthmus-system").unwrap_err().to_string();
        assert!(error.contains("isthmus-gateway has no address") && error.contains("gateway.addresses"), "{error}");
    }
}
