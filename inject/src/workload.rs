//! Where pods are in other objects.

use isthmus_core::owner;
use serde_json::Value;

/// Kinds that make pods: group, kind, and where the template of the pod is.
const TEMPLATES: [(&str, &str, &str); 8] = [
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("batch", "Job", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
];

/// An object that makes pods.
#[derive(Debug)]
pub struct Workload<'a> {
    /// Its kind and name, for messages: `Deployment reviews-v1`.
    pub title: String,
    /// The name that its pods' metrics have; `None`: it has no name yet, or is a pod, which says itself of what it is.
    pub name: Option<String>,
    /// The namespace that it names.
    pub namespace: Option<String>,
    /// The pod, or the template of it.
    pub pod: &'a mut Value,
}

/// The workloads of a document: itself, or what it lists (`List`, `PodList`, `DeploymentList` and so on).
pub fn workloads(document: &mut Value) -> Vec<Workload<'_>> {
    if kind(document).1.ends_with("List") {
        let items = document.get_mut("items").and_then(Value::as_array_mut);
        return items.into_iter().flatten().flat_map(workloads).collect();
    }
    workload(document).into_iter().collect()
}

/// Titles of what is none of the workloads that are known, and has the template of a pod where they have it.
#[must_use]
pub fn unknown(document: &Value) -> Vec<String> {
    let (group, kind) = kind(document);
    if kind.ends_with("List") {
        let items = document.get("items").and_then(Value::as_array);
        return items.into_iter().flatten().flat_map(unknown).collect();
    }
    let is_known = TEMPLATES.iter().any(|(of, is, _)| (*of, *is) == (group, kind));
    let has_pod = document.pointer("/spec/template/spec/containers").is_some_and(Value::is_array);
    if is_known || !has_pod { vec![] } else { vec![title(kind, document)] }
}

fn title(kind: &str, document: &Value) -> String {
    let text = |pointer| document.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
    format!("{kind} {}", name.unwrap_or("without a name"))
}

/// The kind of an object, and its group.
#[must_use]
pub fn kind(document: &Value) -> (&str, &str) {
    let text = |key| document.get(key).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    (group, text("kind"))
}

fn workload(document: &mut Value) -> Option<Workload<'_>> {
    let (group, kind) = kind(document);
    let (_, kind, pointer) = TEMPLATES.iter().find(|(of, is, _)| (*of, *is) == (group, kind))?;
    let text = |pointer| document.pointer(pointer).and_then(Value::as_str);
    let own = text("/metadata/name");
    let title = title(kind, document);
    // As its pods will say by their labels and their owner: a ReplicaSet may be a Deployment's.
    let label = |name: &str| document.pointer("/metadata/labels")?.get(name)?.as_str();
    let name = own.filter(|_| *kind != "Pod").map(|own| owner::workload(kind, own, label).to_owned());
    let namespace = text("/metadata/namespace").map(str::to_owned);
    Some(Workload { title, name, namespace, pod: document.pointer_mut(pointer)? })
}
