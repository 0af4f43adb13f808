//! Pure: the objects of one installation, made of the base, the names and the settings.
//!
//! | module | settings |
//! | --- | --- |
//! | [`roles`] | of the roles' pods: all of them, and one |
//! | [`member`] | of the federation member alone |
//! | [`gateways`] | how other clusters reach the gateways |
//! | [`sidecars`] | what sidecars get |
//! | [`asked`] | which pods the injector is asked about |
//! | [`optional`] | what is there or not |

mod asked;
mod gateways;
mod member;
mod optional;
mod roles;
mod sidecars;

use anyhow::{Context, Result, bail};
use aws_lc_rs::digest;
use isthmus_inject::Values;
use isthmus_kubernetes::client::SYSTEM_NAMESPACE;
use serde_json::{Value, json};

use super::{
    base::{self, Object},
    release::{ANNOTATION, MANAGER, Release},
    settings::Setting,
};
use crate::rollout::text;

/// All that is applied for a release; `namespace_is_ours`: nobody else made the namespace, so an uninstall may delete it.
///
/// # Errors
/// None of a program that passed its tests.
pub fn objects(release: &Release, namespace_is_ours: bool) -> Result<Vec<Object>> {
    member::timing(&release.settings)?;
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
    let (name, value) = (setting.name(), setting.value.as_str());
    match name.split_once('.').unwrap_or((name, "")) {
        (role @ ("control" | "federation" | "gateway"), what) if roles::EACH.contains(&what) => {
            roles::set(objects, role, what, setting)
        }
        ("control", "replicas") => roles::replicas(objects, "control", value),
        ("control", "leafTtlSeconds") => number(objects, "leaf_ttl_seconds: 86400", value),
        ("control", "announceSeconds") => number(objects, "announce_seconds: 300", value),
        ("federation", what) => member::set(objects, what, value),
        ("gateway", what) => gateways::set(objects, what, setting),
        ("cluster", "region") => roles::region(objects, value),
        ("image" | "metrics", what) => roles::all(objects, what, setting),
        ("injection", what) => injection(objects, what, setting),
        ("validation", "failurePolicy") => optional::looks_fail(objects, value),
        ("log", _) => in_files(objects, "log: \"info\"", &format!("log: \"{value}\"")),
        ("crds" | "istioCRDs" | "networkPolicy" | "rbac" | "validation", _) => switch(objects, name, value == "true"),
        _ => bail!("the setting {name} has no place in the base"),
    }
}

fn injection(objects: &mut Vec<Object>, what: &str, setting: &Setting) -> Result<()> {
    let value = setting.value.as_str();
    match what {
        "enabled" | "istioLabels" => switch(objects, setting.name(), value == "true"),
        "excludedNamespaces" => asked::excluded(objects, &setting.words()),
        "failurePolicy" => asked::each(objects, "failurePolicy", &json!(value)),
        "timeoutSeconds" => asked::each(objects, "timeoutSeconds", &json!(value.parse::<u32>()?)),
        "policy" => asked::policy(objects, value),
        "revision" => asked::revision(objects, value),
        _ => sidecars::set(objects, what, setting),
    }
}

/// What is there, or not.
fn switch(objects: &mut Vec<Object>, name: &str, is_on: bool) -> Result<()> {
    match (name, is_on) {
        ("crds.enabled", false) => optional::without_kinds(objects),
        ("crds.mcs", false) => optional::without_mcs(objects),
        ("istioCRDs.enabled", true) => optional::with_istio(objects),
        ("injection.enabled", false) => optional::without_injection(objects),
        ("injection.istioLabels", false) => asked::without_istio_labels(objects),
        ("networkPolicy.enabled", true) => optional::with_network_policies(objects),
        ("rbac.aggregate", false) => optional::without_aggregates(objects),
        ("validation.enabled", false) => optional::without_validation(objects),
        // As in the base.
        _ => Ok(()),
    }
}

/// A number in the files, of which `from` is the whole as it is in the base.
fn number(objects: &mut [Object], from: &str, value: &str) -> Result<()> {
    let (name, _) = from.split_once(": ").unwrap_or((from, ""));
    in_files(objects, from, &format!("{name}: {value}"))
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

/// As Helm lays what somebody sets over what there is: map by map, and `null` takes away.
fn merge(into: &mut Value, from: Value) {
    match from {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = json!({});
            }
            let Some(at) = into.as_object_mut() else { return };
            for (key, value) in fields {
                if value.is_null() {
                    at.remove(&key);
                } else {
                    merge(at.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        other => *into = other,
    }
}

fn one<'a>(objects: &'a mut [Object], kind: &str, name: &str) -> Result<&'a mut Object> {
    let found = objects.iter_mut().find(|object| object.is(kind, name));
    found.with_context(|| format!("the base has no {kind} {name}"))
}

/// Puts a value at a place whose objects need not be there yet.
fn put(at: &mut Value, place: &[&str], value: Value) -> Result<()> {
    *at_place(at, place)? = value;
    Ok(())
}

/// A place whose objects need not be there yet.
fn at_place<'a>(at: &'a mut Value, place: &[&str]) -> Result<&'a mut Value> {
    let mut at = at;
    for key in place {
        if at.is_null() {
            *at = json!({});
        }
        let fields = at.as_object_mut().with_context(|| format!("{} is not where it was", place.join(".")))?;
        at = fields.entry(*key).or_insert(Value::Null);
    }
    Ok(at)
}

#[cfg(test)]
mod chart;
#[cfg(test)]
mod tests;
