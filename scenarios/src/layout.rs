//! Writes what a plan says before anything runs: keys, enrolments, configuration. What is there already stays.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    plan::{ClusterPlan, Plan, Process, Role, bookinfo::EXAMPLES, roles::CONTROL_PORT},
    state::StateDir,
};

/// An enrolment must outlive the mesh's pauses: a cluster killed today is started again tomorrow.
const ENROLMENT_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Where control, members and gateways live.
const SYSTEM: &str = "isthmus-system";

/// Writes everything the processes of `plan` need.
///
/// # Errors
/// When a file cannot be written, or a key not made.
pub fn write(plan: &Plan, state: &StateDir) -> Result<()> {
    plan.clusters.iter().try_for_each(|cluster| write_cluster(plan, cluster, state))
}

fn write_cluster(plan: &Plan, cluster: &ClusterPlan, state: &StateDir) -> Result<()> {
    let name = &cluster.name;
    for dir in [state.config(name), state.cluster(name).join("run"), state.cluster(name).join("enrol")] {
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    isthmus_runtime::key::federation_key(state.federation_key(name))
        .with_context(|| format!("no federation key for {name}"))?;
    for process in cluster.processes() {
        let dir = state.role(name, &process.name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        if let Some(config) = plan.configuration(state, &process) {
            write_yaml(&state.run(name, &process.name), &config)?;
        }
        if process.role != Role::App {
            enrol(plan, cluster, state, &process)?;
        }
    }
    write_examples(cluster, &state.config(name))
}

fn enrol(plan: &Plan, cluster: &ClusterPlan, state: &StateDir, process: &Process) -> Result<()> {
    let path = state.enrolment(&cluster.name, &process.name);
    let workload = process.name.strip_suffix(".sidecar").and_then(|name| cluster.workload(name));
    let (namespace, account, name) = match workload {
        Some(workload) => (workload.namespace.as_str(), workload.service_account.as_str(), workload.name.clone()),
        None => (SYSTEM, process.role.subcommand(), process.full_name()),
    };
    let ca_dir = state.role(&cluster.name, "control").join("ca");
    let asked = isthmus_ca::enrol::Asked {
        trust_domain: cluster.name.trust_domain(&plan.mesh),
        namespace,
        service_account: account,
        workload: &name,
        ttl: ENROLMENT_TTL,
        control: &SocketAddr::new(cluster.addresses().control(), CONTROL_PORT).to_string(),
    };
    let enrolment = isthmus_ca::enrol::mint(&ca_dir, &asked)
        .with_context(|| format!("no enrolment for {} of {}", process.name, cluster.name))?;
    let bytes = serde_json::to_vec_pretty(&enrolment)?;
    isthmus_runtime::disk::write_atomic(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn write_yaml(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_saphyr::to_string(value)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The demo's configuration, where the cluster has none of that name: what a person edited stays.
fn write_examples(cluster: &ClusterPlan, dir: &Path) -> Result<()> {
    let has = |app: &str| cluster.workloads.iter().any(|workload| workload.app.as_deref() == Some(app));
    for example in EXAMPLES.iter().filter(|example| example.app.is_none_or(has)) {
        let path = dir.join(example.file);
        if !path.exists() {
            // Whole or not at all: what is there stays, so half a file would stay too.
            let written = isthmus_runtime::disk::write_atomic(&path, example.text.as_bytes());
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::bookinfo;

    #[test]
    fn every_process_finds_its_files_and_what_a_person_edited_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (plan, state) = (bookinfo::plan(2, 1).unwrap(), StateDir::at(dir.path()).unwrap());
        write(&plan, &state).unwrap();
        for process in plan.processes() {
            assert!(state.run(&process.cluster, &process.name).exists(), "{}", process.name);
            assert_eq!(state.enrolment(&process.cluster, &process.name).exists(), process.role != Role::App);
        }
        let west = state.config(&plan.clusters[1].name);
        assert!(!state.config(&plan.clusters[0].name).join("details.yaml").exists(), "details is only in us-west");
        fs::write(west.join("details.yaml"), "edited").unwrap();
        let key = fs::read(state.federation_key(&plan.clusters[0].name)).unwrap();
        write(&plan, &state).unwrap();
        assert_eq!(fs::read_to_string(west.join("details.yaml")).unwrap(), "edited");
        assert_eq!(fs::read(state.federation_key(&plan.clusters[0].name)).unwrap(), key);
    }
}
