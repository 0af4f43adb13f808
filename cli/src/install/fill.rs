//! Pure: the objects of one installation, made of the base, the names and the settings.

mod optional;

use anyhow::{Context, Result, bail};
use aws_lc_rs::digest;
use isthmus_inject::Values;
use isthmus_kubernetes::client::SYSTEM_NAMESPACE;
use serde_json::{Value, json};

use super::{
    base::{self, Object},
    release::{ANNOTATION, MANAGER, Release},
    settings::{Setting, addresses, names_of},
};
use crate::rollout::text;

/// All that is applied for a release; `namespace_is_ours`: nobody else made the namespace, so an uninstall may delete it.
///
/// # Errors
/// None of a program that passed its tests.
pub fn objects(release: &Release, namespace_is_ours: bool) -> Result<Vec<Object>> {
    let mut objects = base::objects()?;
    for setting in &release.settings {
        set(&mut objects, setting)?;
    }
    names(&mut objects, release)?;
    configuration(&mut objects)?;
    let map = &one(&mut objects, "ConfigMap", "isthmus")?.document;
    values(map).map_err(|reason| anyhow::anyhow!("these names and settings do not do: {reason}"))?;
    for object in &mut objects {
        if namespace_is_ours || object.reference.kind.kind != "Namespace" {
            put(&mut object.document, &["metadata", "labels", "app.kubernetes.io/managed-by"], json!(MANAGER))?;
        }
    }
    Ok(objects)
}

/// Cluster, mesh and image, and the record of them.
fn names(objects: &mut [Object], release: &Release) -> Result<()> {
    let map = &mut one(objects, "ConfigMap", "isthmus")?.document;
    for (key, value) in [("cluster", &release.cluster), ("mesh", &release.mesh), ("image", &release.image)] {
        put(map, &["data", key], json!(value))?;
    }
    put(map, &["metadata", "annotations", ANNOTATION], json!(serde_json::to_string(release)?))?;
    each_container(objects, |container| put(container, &["image"], json!(release.image)))
}

/// A role whose configuration is another one is replaced: its pods say which they have.
fn configuration(objects: &mut [Object]) -> Result<()> {
    let data = one(objects, "ConfigMap", "isthmus")?.document.get("data").cloned().unwrap_or_default();
    for object in objects.iter_mut().filter(|object| is_workload(object)) {
        let role = object.reference.name.trim_start_matches("isthmus-");
        let own = format!("{role}.yaml");
        let read: Vec<_> = ["cluster", "mesh", "image", "mesh.yaml", &own].map(|key| data.get(key)).into();
        let digest = digest::digest(&digest::SHA256, serde_json::to_string(&read)?.as_bytes());
        let short: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let place = ["spec", "template", "metadata", "annotations", "isthmus.dev/configuration"];
        put(&mut object.document, &place, json!(short))?;
    }
    Ok(())
}

fn set(objects: &mut Vec<Object>, setting: &Setting) -> Result<()> {
    let value = setting.value.as_str();
    match setting.key.as_str() {
        "cluster.region" => region(objects, value),
        "federation.persistence.size" => {
            put(claim(objects)?, &["spec", "resources", "requests", "storage"], json!(value))
        }
        "federation.persistence.storageClass" => {
            let class = if value == "-" { "" } else { value };
            put(claim(objects)?, &["spec", "storageClassName"], json!(class))
        }
        "crds.mcs" | "istioCRDs.enabled" | "injection.enabled" | "injection.istioLabels" | "validation.enabled" => {
            switch(objects, &setting.key, value == "true")
        }
        "gateway.addresses" => told(objects, value),
        "gateway.exposure" => exposure(objects, value),
        "control.replicas" => replicas(objects, "isthmus-control", value),
        "gateway.replicas" => replicas(objects, "isthmus-gateway", value),
        "image.pullPolicy" => {
            in_files(objects, "imagePullPolicy: IfNotPresent", &format!("imagePullPolicy: {value}"))?;
            each_container(objects, |container| put(container, &["imagePullPolicy"], json!(value)))
        }
        "injection.excludedNamespaces" => optional::excluded(objects, value),
        "injection.failurePolicy" => optional::fails(objects, value),
        "log" => in_files(objects, "log: \"info\"", &format!("log: \"{value}\"")),
        other => bail!("the setting {other} has no place in the base"),
    }
}

/// What is there, or not.
fn switch(objects: &mut Vec<Object>, key: &str, is_on: bool) -> Result<()> {
    match (key, is_on) {
        ("istioCRDs.enabled", true) => optional::with_istio(objects),
        ("crds.mcs", false) => optional::without_mcs(objects),
        ("injection.enabled", false) => optional::without_injection(objects),
        ("validation.enabled", false) => optional::without_validation(objects),
        ("injection.istioLabels", false) => optional::without_istio_labels(objects),
        // As in the base.
        _ => Ok(()),
    }
}

fn replicas(objects: &mut [Object], deployment: &str, value: &str) -> Result<()> {
    let found = &mut one(objects, "Deployment", deployment)?.document;
    put(found, &["spec", "replicas"], json!(value.parse::<u16>()?))
}

/// Pods get their region as it is typed, and not from their node.
fn region(objects: &mut [Object], region: &str) -> Result<()> {
    each_container(objects, |container| {
        for variable in items(container, "/env") {
            if variable.get("name").and_then(Value::as_str) == Some("ISTHMUS_REGION") {
                *variable = json!({ "name": "ISTHMUS_REGION", "value": region });
            }
        }
        Ok(())
    })
}

/// How many Services the gateways have, and of which type: control sees by them where the gateways are.
fn exposure(objects: &mut Vec<Object>, exposure: &str) -> Result<()> {
    const NAME: &str = "isthmus-gateway";
    let service = one(objects, "Service", NAME)?.clone();
    objects.retain(|object| !object.is("Service", NAME));
    let services: Vec<Object> = match exposure {
        "DialOut" => vec![],
        "HostPort" => {
            host_ports(objects)?;
            vec![]
        }
        "LoadBalancerPerProtocol" => {
            let of = |protocol: &str| of_protocol(&service, NAME, protocol);
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
    let gateway = &mut one(objects, "Deployment", "isthmus-gateway")?.document;
    put(gateway, &["spec", "strategy", "rollingUpdate"], json!({ "maxSurge": 0, "maxUnavailable": 1 }))?;
    for container in items(gateway, "/spec/template/spec/containers") {
        for port in items(container, "/ports") {
            let is_tunnel = port.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with("tunnel-"));
            if let Some(number) = port.get("containerPort").filter(|_| is_tunnel).cloned() {
                put(port, &["hostPort"], number)?;
            }
        }
    }
    Ok(())
}

/// Where the gateways are, in the words of each who tells others.
fn told(objects: &mut [Object], value: &str) -> Result<()> {
    let addresses = addresses(value).context("gateway.addresses has none")?;
    let with_port = |(host, port): &(String, u16)| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    let texts: Vec<_> = addresses.iter().map(with_port).collect();
    let both = format!("advertise_gateways: {{udp: {texts}, tcp: {texts}}}", texts = json!(texts));
    in_files(objects, "advertise_gateways: {udp: [], tcp: []}", &both)?;
    in_files(objects, "advertise: []", &format!("advertise: {}", json!(texts)))
}

/// The Service of one protocol, for clouds that refuse both on one.
fn of_protocol(service: &Object, name: &str, protocol: &str) -> Result<Object> {
    let mut service = service.clone();
    let name = format!("{name}-{}", protocol.to_lowercase());
    put(&mut service.document, &["metadata", "name"], json!(name))?;
    let ports = service.document.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    let ports = ports.context("the base's Service of the gateways has no ports")?;
    ports.retain(|port| port.get("protocol").and_then(Value::as_str) == Some(protocol));
    service.reference.name = name;
    Ok(service)
}

fn claim(objects: &mut [Object]) -> Result<&mut Value> {
    let member = &mut one(objects, "StatefulSet", "isthmus-federation")?.document;
    member.pointer_mut("/spec/volumeClaimTemplates/0").context("the base's member has no disk")
}

/// Replaces a line's text in the files of the ConfigMap that have it.
fn in_files(objects: &mut [Object], from: &str, to: &str) -> Result<()> {
    let map = &mut one(objects, "ConfigMap", "isthmus")?.document;
    let mut found = false;
    for (_, file) in map.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
        let text = file.as_str().unwrap_or_default();
        if text.contains(from) {
            (*file, found) = (json!(text.replace(from, to)), true);
        }
    }
    anyhow::ensure!(found, "the base's ConfigMap {SYSTEM_NAMESPACE}/isthmus has no {from:?}");
    Ok(())
}

fn each_container(objects: &mut [Object], change: impl Fn(&mut Value) -> Result<()>) -> Result<()> {
    for object in objects.iter_mut().filter(|object| is_workload(object)) {
        items(&mut object.document, "/spec/template/spec/containers").try_for_each(&change)?;
    }
    Ok(())
}

/// What the webhook reads of the ConfigMap, with the names in their places.
///
/// # Errors
/// What control would refuse.
pub fn values(map: &Value) -> Result<Values, String> {
    let data = |key: &str| text(map, &format!("/data/{key}"));
    let mut mesh = data("mesh.yaml").to_owned();
    for (name, key) in [("MESH", "mesh"), ("CLUSTER", "cluster"), ("IMAGE", "image")] {
        mesh = mesh.replace(&format!("${{ISTHMUS_{name}}}"), data(key));
    }
    Values::from_mesh_yaml(&mesh).map_err(|error| error.to_string())
}

/// Whether it has pods.
pub fn is_workload(object: &Object) -> bool {
    ["Deployment", "StatefulSet"].contains(&object.reference.kind.kind.as_str())
}

fn items<'a>(of: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    of.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

fn one<'a>(objects: &'a mut [Object], kind: &str, name: &str) -> Result<&'a mut Object> {
    let found = objects.iter_mut().find(|object| object.is(kind, name));
    found.with_context(|| format!("the base has no {kind} {name}"))
}

/// Puts a value at a place whose objects need not be there yet.
fn put(at: &mut Value, place: &[&str], value: Value) -> Result<()> {
    let mut at = at;
    for key in place {
        if at.is_null() {
            *at = json!({});
        }
        let fields = at.as_object_mut().with_context(|| format!("{} is not where it was", place.join(".")))?;
        at = fields.entry(*key).or_insert(Value::Null);
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests;
