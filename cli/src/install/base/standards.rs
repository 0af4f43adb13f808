//! What runs of the mesh, held to what a cluster may expect of it: the Pod Security Standard `restricted`, a root that nobody
//! writes, probes, requests and limits, budgets, and a spread over zones.
//!
//! Source: Kubernetes, "Pod Security Standards", restricted.

use serde_json::{Value, json};

use super::objects;

const ROLES: [(&str, &str); 3] = [("Deployment", "control"), ("StatefulSet", "federation"), ("Deployment", "gateway")];

fn document(kind: &str, name: &str) -> Value {
    let objects = objects().unwrap();
    let found = objects.iter().find(|object| object.is(kind, name));
    found.unwrap_or_else(|| panic!("the base has no {kind} {name}")).document.clone()
}

/// Each role: its workload, its pods' specification, their one container.
fn roles() -> Vec<(&'static str, Value, Value, Value)> {
    let of = |(kind, role): (&str, &'static str)| {
        let workload = document(kind, &format!("isthmus-{role}"));
        let pod = workload["spec"]["template"]["spec"].clone();
        let containers = pod["containers"].as_array().unwrap();
        assert_eq!((containers.len(), pod.get("initContainers")), (1, None), "{role}");
        let container = containers[0].clone();
        (role, workload, pod, container)
    };
    ROLES.into_iter().map(of).collect()
}

#[test]
fn pods_are_of_the_restricted_standard_and_their_roots_are_read_only() {
    const VOLUMES: [&str; 5] = ["configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"];
    for (role, _, pod, container) in roles() {
        for shared in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod.get(shared), None, "{role}");
        }
        let of_pod = &pod["securityContext"];
        assert_eq!((&of_pod["runAsNonRoot"], &of_pod["runAsUser"]), (&json!(true), &json!(1337)), "{role}");
        assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{role}");
        let own = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(container["securityContext"], own, "{role}");
        assert!(container["ports"].as_array().unwrap().iter().all(|port| port.get("hostPort").is_none()), "{role}");
        for volume in pod["volumes"].as_array().unwrap() {
            let mut kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
            assert!(kinds.all(|kind| VOLUMES.contains(&kind.as_str())), "{role}: {volume}");
        }
    }
}

#[test]
fn only_control_has_a_token_for_the_api_server() {
    for (role, _, pod, _) in roles() {
        assert_eq!(pod["automountServiceAccountToken"], role == "control", "{role}");
        assert_eq!(document("ServiceAccount", role)["automountServiceAccountToken"], false, "{role}");
    }
}

#[test]
fn every_role_is_probed_and_says_what_it_needs_and_may_use() {
    let probes = [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/healthz/ready")];
    for (role, _, _, container) in roles() {
        for (probe, path) in probes {
            assert_eq!(container[probe]["httpGet"]["path"], path, "{role}");
        }
        for amount in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            assert!(container["resources"].pointer(amount).is_some_and(Value::is_string), "{role} {amount}");
        }
    }
}

#[test]
fn every_role_has_a_budget_that_lets_a_node_be_drained_and_what_is_two_is_spread() {
    for (role, workload, pod, _) in roles() {
        let budget = document("PodDisruptionBudget", &format!("isthmus-{role}"));
        assert_eq!(budget["spec"]["maxUnavailable"], 1, "{role}");
        assert_eq!(budget["spec"]["selector"], workload["spec"]["selector"], "{role}");
        if role == "federation" {
            continue;
        }
        assert_eq!(workload["spec"]["replicas"], 2, "{role}");
        let spread = pod["topologySpreadConstraints"].as_array().unwrap();
        let over: Vec<_> = spread.iter().map(|one| one["topologyKey"].as_str().unwrap()).collect();
        assert_eq!(over, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"], "{role}");
        assert!(spread.iter().all(|one| one["labelSelector"] == workload["spec"]["selector"]), "{role}");
    }
}
