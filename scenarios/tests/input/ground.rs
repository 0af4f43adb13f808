//! A small mesh of three clusters whose processes can be given a disk that takes nothing: a limit on the size of files
//! (setrlimit(2), RLIMIT_FSIZE), which needs no privilege and no mount. What the kernel then answers to a write is an
//! error like that of a full disk, in every file and in the middle of every append.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use isthmus_scenarios::{
    mesh::Mesh,
    operator,
    plan::{Plan, bookinfo},
    state::StateDir,
    status::ProcessStatus,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{
    Raised, binary, eventually,
    load::{Load, Target},
    url,
};

pub const PATIENCE: Duration = Duration::from_secs(60);
/// Requests a second of each of the two loads.
const RATE: u32 = 20;

/// The mesh.
pub struct Ground {
    pub raised: Raised,
}

/// What each process is begun by: it outlives the signal that comes with the limit, its log goes through a process of
/// its own and stays readable, and where a file says so its disk takes nothing from the start.
const BEGIN: &str = r#"#!/bin/bash
exec 2> >(exec cat >&2)
trap '' XFSZ
[ -e "$(dirname "$3")/full" ] && ulimit -S -f 0
exec "BINARY" "$@"
"#;

fn plan(first_number: u8) -> Plan {
    let mut plan = bookinfo::plan(3, first_number).expect("the demo's plan");
    let kept = [["curl", "ratings"], ["curl", "details-v1-a"], ["curl", "ratings"]];
    for (cluster, kept) in plan.clusters.iter_mut().zip(kept) {
        let mut twins = std::collections::BTreeSet::new();
        cluster.workloads.retain(|workload| {
            kept.iter().any(|name| workload.name.starts_with(name)) && twins.insert(workload.app.clone())
        });
    }
    plan
}

impl Ground {
    pub async fn raise(first_number: u8) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the mesh");
        let begin = folder.path().join("begin");
        std::fs::write(&begin, BEGIN.replace("BINARY", &binary().display().to_string())).expect("a script");
        std::fs::set_permissions(&begin, std::fs::Permissions::from_mode(0o755)).expect("a script that runs");
        let state = StateDir::at(&folder.path().join("mesh")).expect("a state directory");
        let (mesh, _) = Mesh::spawn(plan(first_number), state, begin).expect("the mesh begins");
        let ground = Self { raised: Raised { mesh, folder } };
        if let Err(reason) = ground.raised.mesh.raise(|step| eprintln!("{step}")).await {
            ground.print_logs();
            panic!("the mesh does not come up: {reason:#}");
        }
        for (cluster, service) in [("us-west", "ratings"), ("eu-west", "details")] {
            ground.answers(cluster, service).await;
        }
        ground
    }

    /// Waits until a service answers in a cluster.
    pub async fn answers(&self, cluster: &str, service: &str) {
        let url = url(service, &format!("/{service}/0"));
        eventually(&format!("{service} answers in {cluster}"), PATIENCE, || async {
            let got = crate::support::load::get(self.raised.curl(cluster), &url).await?;
            anyhow::ensure!(got.status == 200, "{got:?}");
            Ok(())
        })
        .await;
    }

    /// Traffic across clusters that nothing of what is done here may harm.
    pub fn traffic(&self) -> Traffic {
        let to = |cluster: &str, service: &str| {
            let proxy = self.raised.curl(cluster);
            Load::start(Target { proxy, url: url(service, &format!("/{service}/0")), rate: RATE })
        };
        Traffic([
            ("ratings from us-west", to("us-west", "ratings")),
            ("details from eu-west", to("eu-west", "details")),
        ])
    }

    /// Who leads the federation; where an election goes on, who has won it.
    pub async fn leader(&self) -> String {
        let leader = std::cell::RefCell::default();
        eventually("somebody leads", PATIENCE, || async {
            let standing = operator::standing(self.raised.member("us-west")).await?;
            let leads = standing["leader"].as_str().filter(|leads| !leads.is_empty());
            leader.replace(leads.ok_or_else(|| anyhow::anyhow!("{standing}"))?.to_owned());
            Ok(())
        })
        .await;
        leader.into_inner()
    }

    fn state(&self) -> &StateDir {
        &self.raised.mesh.state
    }

    /// A role's folder.
    pub fn folder(&self, cluster: &str, process: &str) -> PathBuf {
        self.state().role(&self.raised.cluster(cluster).name, process)
    }

    /// A role's log as it is now.
    pub fn log(&self, cluster: &str, process: &str) -> String {
        read(&self.state().log(&self.raised.cluster(cluster).name, process))
    }

    pub fn processes(&self) -> Vec<ProcessStatus> {
        self.raised.mesh.supervisor.processes()
    }

    pub fn process(&self, cluster: &str, name: &str) -> ProcessStatus {
        let mut all = self.processes().into_iter();
        all.find(|one| one.cluster.as_str() == cluster && one.name == name).expect("it is of the plan")
    }

    /// From now on the disk of a cluster takes nothing, or takes everything again.
    pub fn disk_takes(&self, cluster: &str, everything: bool) {
        let mark = self.state().run(&self.raised.cluster(cluster).name, "x").with_file_name("full");
        if everything {
            std::fs::remove_file(&mark).expect("it was full");
        } else {
            std::fs::write(&mark, "").expect("the test's own disk is not full");
        }
        for pid in self.processes().iter().filter(|one| one.cluster.as_str() == cluster).filter_map(|one| one.pid) {
            let limit = Rlimit { current: (!everything).then_some(0), maximum: None };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            // A process that ended meanwhile is begun again by the script.
            if let Err(error) = prlimit(pid, Resource::Fsize, limit) {
                assert_eq!(error, rustix::io::Errno::SRCH, "this system does not let a test limit its own processes");
            }
        }
    }

    pub fn print_logs(&self) {
        for log in self.logs() {
            let text = read(&log);
            let tail: Vec<_> = text.lines().rev().take(15).collect();
            if !tail.is_empty() {
                eprintln!("--- {}", log.display());
                tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }

    fn logs(&self) -> Vec<PathBuf> {
        let of = |name: &isthmus_core::name::ClusterName, process: &str| self.state().log(name, process);
        self.processes().iter().map(|one| of(&one.cluster, &one.name)).collect()
    }

    /// In no log of any role.
    pub fn nobody_panicked(&self) {
        for log in self.logs() {
            let text = read(&log);
            let panics: Vec<_> = text.lines().filter(|line| line.contains("panicked at")).collect();
            assert!(panics.is_empty(), "{}: {panics:?}", log.display());
        }
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}

/// Load that runs while all of it happens.
pub struct Traffic([(&'static str, Load); 2]);

impl Traffic {
    /// No request failed.
    pub async fn finish_unharmed(self) {
        for (name, load) in self.0 {
            let samples = load.finish().await;
            let failed: Vec<_> = samples.iter().filter(|sample| sample.failed()).collect();
            println!("{name}: {} requests, {} failed", samples.len(), failed.len());
            assert!(
                failed.is_empty(),
                "{name}: {} of {} failed, such as {:?}",
                failed.len(),
                samples.len(),
                failed.first()
            );
            assert!(samples.len() > 100, "the load ran");
        }
    }
}
