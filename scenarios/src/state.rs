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

use anyhow::{Context, Result, anyhow, bail};
use isthmus_core::name::ClusterName;
use isthmus_runtime::disk::write_atomic;
use serde_json::{Value, json};

use crate::plan::Plan;

/// What `mesh.json` and the files beside it are like; it grows when an earlier release's cannot be gone on from.
const FORMAT: u64 = 1;
/// The longest path of a Unix socket (`sockaddr_un`), bytes.
const LONGEST_SOCKET: usize = 107;

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
    /// When another process holds it, it holds something else than a mesh, or it cannot be written.
    pub fn hold(&self) -> Result<Held> {
        if self.socket().as_os_str().len() > LONGEST_SOCKET {
            bail!("{} is too long for a socket; choose a --state-dir with a shorter path", self.socket().display());
        }
        fs::create_dir_all(&self.0)
            .with_context(|| format!("cannot create the state directory {}", self.0.display()))?;
        let path = self.0.join("lock");
        if !path.exists() && fs::read_dir(&self.0).is_ok_and(|mut found| found.next().is_some()) {
            bail!(
                "{} is not empty, and no mesh was ever raised in it; name a new or an empty directory with --state-dir",
                self.0.display()
            );
        }
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
        let found = match self.earlier()? {
            Some(earlier) if earlier.clusters != plan.clusters => bail!(
                "{} holds another mesh ({} from {}), left by an earlier run; raise that one again, remove \
                 the directory, or raise this one with another --state-dir",
                self.0.display(),
                earlier.size(),
                earlier.clusters.first().map_or_else(String::new, |first| first.addresses().control().to_string())
            ),
            Some(_) => Found::Earlier,
            None => Found::Fresh,
        };
        let path = self.0.join("mesh.json");
        let text = serde_json::to_vec_pretty(&json!({ "format": FORMAT, "plan": plan }))?;
        write_atomic(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(found)
    }

    /// Whether a mesh was ever raised here.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.0.join("mesh.json").exists()
    }

    /// The plan an earlier run left; `None`: none was ever raised here.
    fn earlier(&self) -> Result<Option<Plan>> {
        let path = self.0.join("mesh.json");
        let Ok(bytes) = fs::read(&path) else { return Ok(None) };
        let damaged = || {
            anyhow!(
                "{} is cut or changed, so the mesh in its directory is not known; remove the directory, or name \
                 another one with --state-dir",
                path.display()
            )
        };
        let mut kept = serde_json::from_slice::<Value>(&bytes).map_err(|_| damaged())?;
        if kept.get("format").and_then(Value::as_u64) != Some(FORMAT) {
            bail!(
                "{} was left by another release of isthmus; go on from it with that one, remove the directory, or name \
                 another one with --state-dir",
                self.0.display()
            );
        }
        let plan = kept.get_mut("plan").map(Value::take).unwrap_or_default();
        serde_json::from_value(plan).map(Some).map_err(|_| damaged())
    }

    /// The plan the mesh here was raised by.
    ///
    /// # Errors
    /// When no mesh was ever raised here, or by another release.
    pub fn plan(&self) -> Result<Plan> {
        self.earlier()?.with_context(|| {
            let dir = self.0.display();
            format!(
                "no mesh in {dir}; raise one with `isthmus up`, name its directory with --state-dir, or a cluster of \
                 Kubernetes with --context"
            )
        })
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
        // A process that a test beside this one begins has the lock's file too, until it runs its program.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while let Err(reason) = state.hold() {
            assert!(std::time::Instant::now() < until, "{reason}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_earlier_run_is_gone_on_with_and_another_mesh_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path()).unwrap();
        let plan = bookinfo::plan(3, 1).unwrap();
        assert_eq!(state.settle(&plan).unwrap(), Found::Fresh);
        assert_eq!(state.settle(&plan).unwrap(), Found::Earlier);
        let refused = state.settle(&bookinfo::plan(2, 1).unwrap()).unwrap_err().to_string();
        assert!(refused.contains("another mesh (3 clusters from 127.1.1.1)"), "{refused}");
        assert_eq!(state.plan().unwrap(), plan);
    }

    #[test]
    fn what_is_cut_foreign_or_of_another_release_is_left_alone_with_one_line_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(&dir.path().join("mesh")).unwrap();
        let plan = bookinfo::plan(1, 1).unwrap();
        drop(state.hold().unwrap());
        state.settle(&plan).unwrap();
        let path = state.path().join("mesh.json");
        let whole = fs::read_to_string(&path).unwrap();
        let refused = |text: &str| {
            fs::write(&path, text).unwrap();
            let refused = state.settle(&plan).unwrap_err().to_string();
            assert!(!refused.contains('\n'), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left as it is");
            assert_eq!(state.plan().unwrap_err().to_string(), refused);
            refused
        };
        assert!(refused(&whole[..whole.len() / 2]).contains("is cut or changed"));
        assert!(refused("").contains("is cut or changed"));
        assert!(refused(&whole.replace("\"number\"", "\"nmber\"")).contains("is cut or changed"));
        assert!(refused(&whole.replace("\"format\": 1", "\"format\": 2")).contains("another release"));
        assert!(refused("{\"mesh\": \"mesh.local\"}").contains("another release"));
        let foreign = StateDir::at(dir.path()).unwrap().hold().unwrap_err().to_string();
        assert!(foreign.contains("is not empty, and no mesh was ever raised in it"), "{foreign}");
        let long = StateDir::at(&dir.path().join("a".repeat(120))).unwrap().hold().unwrap_err().to_string();
        assert!(long.contains("is too long for a socket"), "{long}");
    }
}
