//! `status` of a cluster of Kubernetes: what runs there of the mesh, how much of it, and of which image. What is wrong with it,
//! and what to do about that, says `check`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use isthmus_kubernetes::reference::ObjectKind;
use serde_json::{Value, json};

use crate::{
    args::Output,
    check::{is_over, sidecar},
    install::{
        cluster::{Cluster, is},
        release,
    },
    reach::Reach,
    rollout::{self, Seen, list, text},
    table::{self, Column, field},
};

const COLUMNS: [Column; 5] = [
    ("CLUSTER", |row| field(row, "cluster")),
    ("WHAT", |row| field(row, "what")),
    ("READY", |row| format!("{}/{}", field(row, "ready"), field(row, "wanted"))),
    ("IMAGE", |row| field(row, "image")),
    ("MISSING", |row| field(row, "missing")),
];

/// # Errors
/// When there is no way to the cluster, or no mesh in it.
pub async fn run(reach: &Reach, output: Output) -> Result<()> {
    let cluster = Cluster::of(reach).await?;
    let Some(map) = cluster.objects.find(&release::map()).await? else {
        bail!("the mesh is not installed there; `isthmus install --cluster NAME` does it");
    };
    let pods = cluster.objects.list(&ObjectKind::new("v1", "Pod"), None, "").await?;
    let rows = rows(text(&map, "/data/cluster"), &cluster.seen().await?, &pods);
    table::print(&Value::Array(rows), output, &COLUMNS)
}

/// A row a workload of the mesh, and one a release of sidecars.
fn rows(cluster: &str, seen: &Seen, pods: &[Value]) -> Vec<Value> {
    let of_workload = |workload: &Value| {
        let containers = list(workload, "/spec/template/spec/containers");
        json!({
            "cluster": cluster,
            "what": rollout::named(workload),
            "ready": workload.pointer("/status/readyReplicas").and_then(Value::as_u64).unwrap_or(0),
            "wanted": workload.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1),
            "image": containers.first().map_or("", |container| text(container, "/image")),
            "missing": rollout::lacks(workload, seen),
        })
    };
    let mut sidecars = BTreeMap::<&str, (u64, u64)>::new();
    for pod in pods.iter().filter(|pod| !is_over(pod)) {
        if let Some(image) = sidecar(pod) {
            let (ready, all) = sidecars.entry(image).or_default();
            (*ready, *all) = (*ready + u64::from(is(pod, "Ready")), *all + 1);
        }
    }
    let of_sidecars = sidecars.into_iter().map(|(image, (ready, wanted))| {
        json!({ "cluster": cluster, "what": "pods with a sidecar", "ready": ready, "wanted": wanted, "image": image, "missing": null })
    });
    seen.workloads.iter().map(of_workload).chain(of_sidecars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_with_what_is_missing_and_sidecars_by_their_release() {
        let workload = json!({
            "kind": "Deployment", "metadata": { "name": "isthmus-control" },
            "spec": { "replicas": 2, "template": { "spec": { "containers": [{ "image": "i:2" }] } } },
            "status": { "updatedReplicas": 2, "readyReplicas": 1, "replicas": 2 },
        });
        let pod = |image: &str, ready: &str, phase: &str| {
            json!({
                "spec": { "initContainers": [{ "name": "isthmus-proxy", "image": image }] },
                "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
            })
        };
        let pods = [
            pod("i:1", "True", "Running"),
            pod("i:2", "False", "Pending"),
            pod("i:1", "False", "Succeeded"),
            json!({}),
        ];
        let rows = rows("us-east", &Seen { workloads: vec![workload], ..Seen::default() }, &pods);
        let shown = table::render(&Value::Array(rows), &COLUMNS).unwrap();
        let lines: Vec<Vec<_>> = shown
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[1], ["us-east", "Deployment isthmus-control", "1/2", "i:2", "1 of 2 are ready"]);
        assert_eq!(lines[2], ["us-east", "pods with a sidecar", "1/1", "i:1", "-"]);
        assert_eq!(lines[3], ["us-east", "pods with a sidecar", "0/1", "i:2", "-"]);
        assert_eq!(lines.len(), 4);
    }
}
