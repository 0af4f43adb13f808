//! Where pods are in other objects.

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
    let name = text("/metadata/name").or_else(|| text("/metadata/generateName")).unwrap_or("without a name");
    let title = format!("{kind} {name}");
    let namespace = text("/metadata/namespace").map(str::to_owned);
    Some(Workload { title, namespace, pod: document.pointer_mut(pointer)? })
}
