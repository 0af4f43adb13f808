//! Pure: how other clusters reach the gateways: how many Services they have, and of which type. Control sees by them where the
//! gateways are.

use anyhow::{Context, Result, bail};
use isthmus_kubernetes::client::SYSTEM_NAMESPACE;
use serde_json::{Value, json};

use super::{Object, Setting, at_place, in_files, is_workload, items, merge, number, one, put, roles};
use crate::install::settings::addresses;

const NAME: &str = "isthmus-gateway";
/// After the drain a pod says how much was still open, seconds.
const REST: u32 = 5;

pub(super) fn set(objects: &mut Vec<Object>, what: &str, setting: &Setting) -> Result<()> {
    let value = setting.value.as_str();
    match what {
        "addresses" => told(objects, value),
        "exposure" => exposure(objects, value),
        "replicas" => roles::replicas(objects, "gateway", value),
        "hostPort" => {
            let taken = |port: &mut Value| port.get("hostPort").is_some();
            each_port(objects, taken, |port| put(port, &["hostPort"], json!(value.parse::<u16>()?)))
        }
        "segmentationOffload" => number(objects, "segmentation_offload: true", value),
        "drainDeadlineSeconds" => {
            number(objects, "drain_deadline_seconds: 25", value)?;
            let gateway = &mut one(objects, "Deployment", NAME)?.document;
            let lives = value.parse::<u32>()?.saturating_add(REST);
            put(gateway, &["spec", "template", "spec", "terminationGracePeriodSeconds"], json!(lives))
        }
        _ => match what.strip_prefix("service.") {
            Some(of) => service(objects, of, setting),
            None => bail!("gateway.{what} has no place in the base"),
        },
    }
}

/// Of the Services that there are; what only one of two has comes behind, as names are sorted.
fn service(objects: &mut [Object], what: &str, setting: &Setting) -> Result<()> {
    let (only, what) = match what.split_once('.') {
        Some((protocol @ ("tcp" | "udp"), of)) => (Some(format!("{NAME}-{protocol}")), of),
        _ => (None, what),
    };
    let is_gateways =
        |object: &&mut Object| object.reference.kind.kind == "Service" && object.reference.name.starts_with(NAME);
    let is_meant = |object: &&mut Object| only.as_ref().is_none_or(|name| object.reference.name == *name);
    for object in objects.iter_mut().filter(is_gateways).filter(is_meant) {
        of_service(&mut object.document, what, setting)?;
    }
    Ok(())
}

fn of_service(service: &mut Value, what: &str, setting: &Setting) -> Result<()> {
    let value = setting.value.as_str();
    let kind = service.pointer("/spec/type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (what, kind.as_str()) {
        ("annotations", _) => merge(at_place(service, &["metadata", "annotations"])?, setting.structure()?),
        ("externalTrafficPolicy", _) | ("loadBalancerClass" | "loadBalancerIP", "LoadBalancer") => {
            put(service, &["spec", what], json!(value))?;
        }
        ("loadBalancerSourceRanges", "LoadBalancer") => put(service, &["spec", what], json!(setting.words()))?,
        ("nodePort", "NodePort") => {
            let number = value.parse::<u16>()?;
            items(service, "/spec/ports").try_for_each(|port| put(port, &[what], json!(number)))?;
        }
        // It is about another way to expose them.
        _ => {}
    }
    Ok(())
}

fn exposure(objects: &mut Vec<Object>, exposure: &str) -> Result<()> {
    let service = one(objects, "Service", NAME)?.clone();
    objects.retain(|object| !object.is("Service", NAME));
    let services: Vec<Object> = match exposure {
        "DialOut" => vec![],
        "HostPort" => {
            host_ports(objects)?;
            vec![]
        }
        "LoadBalancerPerProtocol" => {
            let of = |protocol: &str| of_protocol(&service, protocol);
            vec![of("UDP")?, of("TCP")?]
        }
        kind => {
            let mut service = service;
            put(&mut service.document, &["spec", "type"], json!(kind))?;
            vec![service]
        }
    };
    let before_workloads = objects.iter().position(is_workload).unwrap_or(objects.len());
    objects.splice(before_workloads..before_workloads, services);
    Ok(())
}

/// Ports of the nodes that gateways run on. One is free only once the gateway before has left it.
/// No pod security but the widest allows them.
fn host_ports(objects: &mut [Object]) -> Result<()> {
    let namespace = &mut one(objects, "Namespace", SYSTEM_NAMESPACE)?.document;
    for mode in ["enforce", "warn"] {
        put(namespace, &["metadata", "labels", &format!("pod-security.kubernetes.io/{mode}")], json!("privileged"))?;
    }
    let gateway = &mut one(objects, "Deployment", NAME)?.document;
    put(gateway, &["spec", "strategy", "rollingUpdate"], json!({ "maxSurge": 0, "maxUnavailable": 1 }))?;
    let is_tunnel =
        |port: &mut Value| port.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with("tunnel-"));
    each_port(objects, is_tunnel, |port| {
        let number = port.get("containerPort").cloned().context("a port of the gateway has no number")?;
        put(port, &["hostPort"], number)
    })
}

fn each_port(
    objects: &mut [Object],
    is_meant: impl Fn(&mut Value) -> bool,
    change: impl Fn(&mut Value) -> Result<()>,
) -> Result<()> {
    let gateway = &mut one(objects, "Deployment", NAME)?.document;
    for container in items(gateway, "/spec/template/spec/containers") {
        for port in items(container, "/ports") {
            if is_meant(port) {
                change(port)?;
            }
        }
    }
    Ok(())
}

/// Where the gateways are, in the words of each who tells others.
fn told(objects: &mut [Object], value: &str) -> Result<()> {
    let addresses = addresses(value).context("gateway.addresses has none")?;
    let by = |transport: &str| {
        let carries = addresses.iter().filter(|one| one.transports.iter().any(|other| other == transport));
        let with_port = carries.map(|one| match one.host.contains(':') {
            true => format!("[{}]:{}", one.host, one.port),
            false => format!("{}:{}", one.host, one.port),
        });
        json!(with_port.collect::<Vec<_>>())
    };
    let both = format!("advertise_gateways: {{udp: {}, tcp: {}}}", by("udp"), by("tcp"));
    in_files(objects, "advertise_gateways: {udp: [], tcp: []}", &both)?;
    in_files(objects, "advertise: []", &format!("advertise: {}", by("tcp")))
}

/// The Service of one protocol, for clouds that refuse both on one.
fn of_protocol(service: &Object, protocol: &str) -> Result<Object> {
    let mut service = service.clone();
    let name = format!("{NAME}-{}", protocol.to_lowercase());
    put(&mut service.document, &["metadata", "name"], json!(name))?;
    let ports = service.document.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    let ports = ports.context("the base's Service of the gateways has no ports")?;
    ports.retain(|port| port.get("protocol").and_then(Value::as_str) == Some(protocol));
    service.reference.name = name;
    Ok(service)
}
