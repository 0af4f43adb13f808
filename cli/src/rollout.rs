//! Pure: whether what was applied runs, and what is missing, by name: Deployments and StatefulSets, their pods and disks.

use serde_json::Value;

use crate::table::field;

/// What a cluster shows of the mesh's own workloads.
#[derive(Debug, Default)]
pub struct Seen {
    /// Deployments and StatefulSets.
    pub workloads: Vec<Value>,
    /// Their pods.
    pub pods: Vec<Value>,
    /// Their disks.
    pub claims: Vec<Value>,
}

fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// Text at a place of an object; none is empty.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list at a place of an object; none is empty.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// As [`lacks`], with the workload's name.
pub fn missing(workload: &Value, seen: &Seen) -> Option<String> {
    lacks(workload, seen).map(|lacks| format!("{}: {lacks}", named(workload)))
}

/// What keeps a workload from running as it was last applied; `None`: nothing.
pub fn lacks(workload: &Value, seen: &Seen) -> Option<String> {
    let behind = behind(workload)?;
    let reasons: Vec<_> = pods(workload, seen).filter_map(|pod| of_pod(pod, &seen.claims)).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
    Some(format!("{behind}{reasons}"))
}

/// `Deployment isthmus-gateway`.
pub fn named(object: &Value) -> String {
    format!("{} {}", field(object, "kind"), text(object, "/metadata/name"))
}

/// Whether any of a workload's pods serves.
pub fn serves(name: &str, seen: &Seen) -> bool {
    let of = seen.workloads.iter().find(|workload| text(workload, "/metadata/name") == name);
    of.is_some_and(|workload| number(workload, "/status/readyReplicas") > 0)
}

fn behind(workload: &Value) -> Option<String> {
    if number(workload, "/status/observedGeneration") < number(workload, "/metadata/generation") {
        return Some("Kubernetes has not looked at it yet".into());
    }
    let wanted = workload.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let (updated, ready) = (number(workload, "/status/updatedReplicas"), number(workload, "/status/readyReplicas"));
    let all = number(workload, "/status/replicas");
    if updated < wanted {
        return Some(format!("{updated} of {wanted} are as they were applied"));
    }
    if ready < wanted {
        return Some(format!("{ready} of {wanted} are ready"));
    }
    (all > wanted).then(|| format!("{} of before still run", all - wanted))
}

fn pods<'a>(workload: &'a Value, seen: &'a Seen) -> impl Iterator<Item = &'a Value> {
    const COMPONENT: &str = "/metadata/labels/app.kubernetes.io~1component";
    seen.pods.iter().filter(move |pod| text(pod, COMPONENT) == text(workload, COMPONENT))
}

/// Why a pod is not ready; `None`: it is, or it leaves.
fn of_pod(pod: &Value, claims: &[Value]) -> Option<String> {
    let condition = |name: &str| list(pod, "/status/conditions").iter().find(|one| text(one, "/type") == name);
    let is = |name: &str, status: &str| condition(name).is_some_and(|one| text(one, "/status") == status);
    if is("Ready", "True") || pod.pointer("/metadata/deletionTimestamp").is_some() {
        return None;
    }
    let name = text(pod, "/metadata/name");
    let unbound = claims.iter().find(|claim| text(claim, "/status/phase") != "Bound");
    if is("PodScheduled", "False") {
        let message = condition("PodScheduled").map_or("", |one| text(one, "/message"));
        let disk =
            unbound.filter(|_| message.contains("PersistentVolumeClaim") || message.contains("persistent volume"));
        return Some(match disk {
            Some(claim) => format!(
                "{name} waits for its disk, PersistentVolumeClaim {}: give the cluster a default StorageClass or make a \
                 volume, or set federation.persistence.storageClass",
                text(claim, "/metadata/name")
            ),
            None => format!("{name} finds no node: {message}"),
        });
    }
    let waiting = list(pod, "/status/containerStatuses").iter().find_map(|container| {
        let state = container.pointer("/state/waiting")?;
        Some(format!("{name} {}: {}", text(state, "/reason"), text(state, "/message")))
    });
    Some(match waiting {
        Some(waiting) => waiting.trim_end_matches([':', ' ']).to_owned(),
        None if text(pod, "/status/phase") == "Running" => {
            format!("{name} runs and is not ready yet (`kubectl -n isthmus-system logs {name}`)")
        }
        None => format!("{name} is not started yet"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(ready: u64, all: u64) -> Value {
        json!({
            "kind": "Deployment",
            "metadata": { "name": "isthmus-gateway", "generation": 2, "labels": { "app.kubernetes.io/component": "gateway" } },
            "spec": { "replicas": 2 },
            "status": { "observedGeneration": 2, "updatedReplicas": 2, "readyReplicas": ready, "replicas": all },
        })
    }

    fn pod(status: Value) -> Value {
        json!({ "metadata": { "name": "g-1", "labels": { "app.kubernetes.io/component": "gateway" } }, "status": status })
    }

    fn said(pods: Vec<Value>, claims: Vec<Value>) -> String {
        missing(&workload(1, 2), &Seen { workloads: vec![], pods, claims }).unwrap()
    }

    #[test]
    fn a_workload_is_there_when_all_of_it_is_new_and_ready_and_nothing_old_is_left() {
        let none = Seen::default();
        assert_eq!(missing(&workload(2, 2), &none), None);
        assert_eq!(missing(&workload(2, 3), &none).unwrap(), "Deployment isthmus-gateway: 1 of before still run");
        assert_eq!(missing(&workload(1, 2), &none).unwrap(), "Deployment isthmus-gateway: 1 of 2 are ready");
        let seen = |ready: u64| Seen { workloads: vec![workload(ready, 2)], ..Seen::default() };
        assert!(serves("isthmus-gateway", &seen(1)) && !serves("isthmus-gateway", &seen(0)));
        let mut unseen = workload(2, 2);
        unseen["metadata"]["generation"] = json!(3);
        assert!(missing(&unseen, &none).unwrap().contains("has not looked at it yet"));
    }

    #[test]
    fn what_keeps_a_pod_is_told_by_name() {
        let pull = json!({ "containerStatuses": [{ "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } } }] });
        assert!(said(vec![pod(pull)], vec![]).ends_with("1 of 2 are ready: g-1 ImagePullBackOff: no such image"));
        let unscheduled = |message: &str| json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": message }] });
        assert!(said(vec![pod(unscheduled("0/1 nodes: cpu"))], vec![]).ends_with("g-1 finds no node: 0/1 nodes: cpu"));
        let claim = json!({ "metadata": { "name": "state-0" }, "status": { "phase": "Pending" } });
        let disk = said(vec![pod(unscheduled("pod has unbound immediate PersistentVolumeClaims"))], vec![claim]);
        assert!(disk.contains("PersistentVolumeClaim state-0") && disk.contains("StorageClass"), "{disk}");
        assert!(said(vec![pod(json!({ "phase": "Running" }))], vec![]).contains("logs g-1"));
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        assert!(said(vec![pod(ready)], vec![]).ends_with("1 of 2 are ready"));
    }
}
