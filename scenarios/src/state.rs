//! The state directory: one mesh, one owner at a time, and everything the mesh keeps.
//!
//! ```text
//! lock, up.sock, mesh.json          who runs it, how it is asked, the plan it was raised by
//! logs/<cluster>/<process>.log      what each process says
//! clusters/<cluster>/config/        the cluster's YAML: edit it while the mesh runs
//! clusters/<cluster>/run/, enrol/   each role's configuration and enrolment
//! clusters/<cluster>/<process>/     each role's own state
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use isthmus_core::name::ClusterName;

use crate::plan::Plan;

/// Where a mesh's state is.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// Held by the one who runs the mesh; the lock goes with the process, however it ends.
#[derive(Debug)]
pub struct Held(#[allow(dead_code, reason = "its lock lives as long as it is open")] File);

/// What was found in a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the mesh begins here.
    Fresh,
    /// An earlier run's state of the same mesh: it goes on from it.
    Earlier,
}

impl StateDir {
    /// At this path; nothing is touched yet.
    ///
    /// # Errors
    /// When the current directory of a relative path is not to be had.
    pub fn at(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The socket on which the mesh's runner is asked.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("up.sock")
    }

    /// A cluster's directory.
    #[must_use]
    pub fn cluster(&self, cluster: &ClusterName) -> PathBuf {
        self.0.join("clusters").join(cluster.as_str())
    }

    /// A cluster's YAML.
    #[must_use]
    pub fn config(&self, cluster: &ClusterName) -> PathBuf {
        self.cluster(cluster).join("config")
    }

    /// A process's own state.
    #[must_use]
    pub fn role(&self, cluster: &ClusterName, process: &str) -> PathBuf {
        self.cluster(cluster).join(process)
    }

    /// A process's configuration file.
    #[must_use]
    pub fn run(&self, cluster: &ClusterName, process: &str) -> PathBuf {
        self.cluster(cluster).join("run").join(format!("{process}.yaml"))
    }

    /// A process's enrolment.
    #[must_use]
    pub fn enrolment(&self, cluster: &ClusterName, process: &str) -> PathBuf {
        self.cluster(cluster).join("enrol").join(format!("{process}.json"))
    }

    /// A cluster's federation key.
    #[must_use]
    pub fn federation_key(&self, cluster: &ClusterName) -> PathBuf {
        self.cluster(cluster).join("federation.key")
    }

    /// What a process says.
    #[must_use]
    pub fn log(&self, cluster: &ClusterName, process: &str) -> PathBuf {
        self.0.join("logs").join(cluster.as_str()).join(format!("{process}.log"))
    }

    /// A sidecar's access log.
    #[must_use]
    pub fn access_log(&self, cluster: &ClusterName, workload: &str) -> PathBuf {
        self.0.join("logs").join(cluster.as_str()).join(format!("{workload}.access.log"))
    }

    /// Takes the directory for this process, creating it when it is not there.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be written.
    pub fn hold(&self) -> Result<Held> {
        fs::create_dir_all(&self.0)
            .with_context(|| format!("cannot create the state directory {}", self.0.display()))?;
        let path = self.0.join("lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.as_mut().map_err(|e| anyhow::anyhow!("cannot write {}: {e}", path.display()))?;
        if rustix::fs::flock(&*file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            bail!(
                "a mesh is already up in {} (process {}); look at it with `isthmus status`, end it with `isthmus down`, \
                 or raise another one with --state-dir",
                self.0.display(),
                holder.trim()
            );
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Held(file.try_clone()?))
    }

    /// Compares the plan with what an earlier run left here, and writes it down.
    ///
    /// # Errors
    /// When the directory holds another mesh: its keys and members would not fit.
    pub fn settle(&self, plan: &Plan) -> Result<Found> {
        let path = self.0.join("mesh.json");
        let found = match fs::read(&path) {
            Ok(bytes) => {
                let earlier = serde_json::from_slice::<Plan>(&bytes).ok().map(|earlier| earlier.clusters);
                if earlier.as_ref() != Some(&plan.clusters) {
                    bail!(
                        "{} holds another mesh ({}), left by an earlier run; remove the directory, or raise this one \
                         with another --state-dir",
                        self.0.display(),
                        earlier.map_or("unreadable".into(), |clusters| format!("{} clusters", clusters.len()))
                    );
                }
                Found::Earlier
            }
            Err(_) => Found::Fresh,
        };
        fs::write(&path, serde_json::to_vec_pretty(plan)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(found)
    }

    /// The plan the mesh here was raised by.
    ///
    /// # Errors
    /// When no mesh was ever raised here.
    pub fn plan(&self) -> Result<Plan> {
        let path = self.0.join("mesh.json");
        let bytes = fs::read(&path).map_err(|_| {
            anyhow::anyhow!(
                "no mesh in {}; raise one with `isthmus up`, or name its directory with --state-dir",
                self.0.display()
            )
        })?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged; remove it", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::bookinfo;

    #[test]
    fn a_directory_has_one_holder_and_says_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path()).unwrap();
        let held = state.hold().unwrap();
        let refused = state.hold().unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(!refused.contains('\n'));
        drop(held);
        state.hold().unwrap();
    }

    #[test]
    fn an_earlier_run_is_gone_on_with_and_another_mesh_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path()).unwrap();
        let plan = bookinfo::plan(3, 1).unwrap();
        assert_eq!(state.settle(&plan).unwrap(), Found::Fresh);
        assert_eq!(state.settle(&plan).unwrap(), Found::Earlier);
        let refused = state.settle(&bookinfo::plan(2, 1).unwrap()).unwrap_err().to_string();
        assert!(refused.contains("another mesh (3 clusters)"), "{refused}");
        assert_eq!(state.plan().unwrap(), plan);
    }
}
