use serde_json::{Value, json};

use super::*;
use crate::{Kind, arrived::Arrived, seen::Told};

pub(super) fn seen(objects: &[(Kind, Value)]) -> Seen {
    let mut seen = Seen::default();
    for (kind, object) in objects {
        let arrived = Arrived::of(*kind, serde_json::from_value(object.clone()).unwrap()).unwrap();
        seen.take(Told::One(*kind, Box::new(arrived)));
    }
    seen
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": "isthmus", "app.kubernetes.io/component": "gateway"})
}

pub(super) fn service(name: &str, spec: Value, ingress: Value) -> (Kind, Value) {
    let metadata = json!({"name": name, "namespace": "isthmus-system", "labels": labels()});
    (Kind::Service, json!({"metadata": metadata, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}))
}

fn node(name: &str, ip: &str, ready: &str) -> (Kind, Value) {
    let status = json!({"addresses": [{"type": "InternalIP", "address": ip}],
        "conditions": [{"type": "Ready", "status": ready}]});
    (Kind::Node, json!({"metadata": {"name": name}, "status": status}))
}

fn gateway(name: &str, node: &str, ready: &str, host_port: Option<u16>) -> (Kind, Value) {
    let port = |protocol: &str| json!({"containerPort": 15443, "protocol": protocol, "hostPort": host_port});
    let containers = json!([{"name": "gateway", "ports": [port("UDP"), port("TCP"), {"containerPort": 15444}]}]);
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
    let metadata = json!({"name": name, "namespace": "isthmus-system", "labels": labels()});
    (Kind::Pod, json!({"metadata": metadata, "spec": {"nodeName": node, "containers": containers}, "status": status}))
}

fn told(objects: &[(Kind, Value)]) -> Gateways {
    of(&seen(objects), "isthmus-system")
}

fn both(addresses: &[&str]) -> Gateways {
    Gateways::both(addresses.iter().map(|&address| address.to_owned()).collect())
}

fn ports(ports: &[(&str, u16, u16)]) -> Value {
    let port =
        |(protocol, port, node): &(&str, u16, u16)| json!({"protocol": protocol, "port": port, "nodePort": node});
    ports.iter().map(port).collect()
}

#[test]
fn one_load_balancer_carries_both_transports_at_addresses_and_names() {
    let ingress = json!([{"ip": "10.0.0.9"}, {"ip": "fd00::9"}, {"hostname": "lb.example"}]);
    let spec = json!({"type": "LoadBalancer", "ports": ports(&[("UDP", 15443, 30001), ("TCP", 15443, 30002)])});
    let all = both(&["10.0.0.9:15443", "[fd00::9]:15443", "lb.example:15443"]);
    assert_eq!(told(&[service("isthmus-gateway", spec, ingress), node("n1", "10.1.0.1", "True")]), all);
}

#[test]
fn of_one_load_balancer_a_protocol_each_says_where_its_own_is() {
    let of = |protocol: &str, host: &str| {
        let spec = json!({"type": "LoadBalancer", "ports": ports(&[(protocol, 15443, 30001)])});
        let name = format!("isthmus-gateway-{}", protocol.to_lowercase());
        service(&name, spec, json!([{"hostname": host}]))
    };
    let udp_alone = told(&[of("UDP", "u.example")]);
    assert_eq!(udp_alone, Gateways { udp: vec!["u.example:15443".into()], tcp: vec![] });
    let both = told(&[of("UDP", "u.example"), of("TCP", "t.example")]);
    assert_eq!((both.udp, both.tcp), (vec!["u.example:15443".into()], vec!["t.example:15443".into()]));
}

fn by_nodes(policy: &str) -> (Kind, Value) {
    let ports = ports(&[("UDP", 15443, 30001), ("TCP", 15443, 30002)]);
    service("isthmus-gateway", json!({"type": "NodePort", "externalTrafficPolicy": policy, "ports": ports}), json!([]))
}

#[test]
fn ports_of_nodes_are_those_of_each_protocol_on_some_nodes_first_those_with_a_gateway() {
    let mut objects: Vec<_> = (1..=9).map(|n| node(&format!("n{n}"), &format!("10.1.0.{n}"), "True")).collect();
    objects.extend([by_nodes("Cluster"), gateway("g-1", "n8", "True", None)]);
    let listed = |port: u16| {
        let at = |n: &u8| format!("10.1.0.{n}:{port}");
        [8, 1, 2, 3, 4].iter().map(at).collect::<Vec<_>>()
    };
    assert_eq!(told(&objects), Gateways { udp: listed(30001), tcp: listed(30002) });
    objects.push(node("n2", "10.1.0.2", "Unknown"));
    assert!(!told(&objects).tcp.contains(&"10.1.0.2:30002".to_owned()), "it is not ready");
    let few = [by_nodes("Cluster"), node("n1", "10.1.0.1", "False")];
    assert_eq!(told(&few).tcp, ["10.1.0.1:30002"], "rather one that may be there than none");
    let own = [by_nodes("Local"), node("n1", "10.1.0.1", "True"), node("n2", "10.1.0.2", "True")];
    assert!(told(&own).is_empty(), "nodes without a gateway pass nothing on");
    let own = [own.as_slice(), &[gateway("g-1", "n2", "True", None)]].concat();
    assert_eq!(told(&own).udp, ["10.1.0.2:30001"]);
}

#[test]
fn host_ports_are_on_the_nodes_that_gateways_run_on() {
    let nodes = [node("n1", "10.1.0.1", "True"), node("n2", "10.1.0.2", "True"), node("n3", "10.1.0.3", "True")];
    let with = |pods: &[(Kind, Value)]| told(&[&nodes, pods].concat());
    let first = gateway("g-1", "n1", "True", Some(15443));
    assert_eq!(
        with(&[first.clone(), gateway("g-2", "n3", "True", Some(443))]),
        both(&["10.1.0.1:15443", "10.1.0.3:443"])
    );
    assert_eq!(with(&[first.clone(), gateway("g-2", "n3", "False", Some(443))]), both(&["10.1.0.1:15443"]));
    let mut ending = gateway("g-2", "n3", "False", Some(443));
    ending.1["metadata"]["deletionTimestamp"] = "2026-11-27T10:00:00Z".into();
    assert_eq!(
        with(&[first, ending]),
        both(&["10.1.0.1:15443", "10.1.0.3:443"]),
        "it drains, and is there until it has"
    );
}

#[test]
fn who_only_dials_out_is_nowhere_and_nothing_of_others_counts() {
    let nodes = [node("n1", "10.1.0.1", "True"), gateway("g-1", "n1", "True", None)];
    assert!(told(&nodes).is_empty());
    let mut elsewhere = by_nodes("Cluster");
    elsewhere.1["metadata"]["namespace"] = "shop".into();
    let mut other = by_nodes("Cluster");
    other.1["metadata"]["labels"]["app.kubernetes.io/name"] = "other".into();
    let inside =
        service("isthmus-gateway", json!({"type": "ClusterIP", "ports": ports(&[("TCP", 15443, 0)])}), json!([]));
    assert!(told(&[&nodes[..], &[elsewhere, other, inside]].concat()).is_empty());
}
