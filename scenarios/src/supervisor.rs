//! Keeps processes running: one task each, restarts with back-off, and what was killed on purpose stays down.
//!
//! Must run on a current-thread runtime or on worker threads that live as long as the runtime: the kernel kills a
//! child when the *thread* that spawned it ends (prctl(2), PR_SET_PDEATHSIG).

mod child;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use isthmus_core::name::ClusterName;
use parking_lot::Mutex;
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
};

use crate::{
    plan::{Process, Role},
    state::StateDir,
    status::{ProcessState, ProcessStatus},
};

/// What shall be of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// It runs, and is restarted when it ends.
    Running,
    /// It was killed on purpose and stays down.
    Killed,
    /// All of it ends.
    Stopped,
}

/// Something people want to be told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A process ended by itself and is started again.
    Died {
        /// Which.
        process: Process,
        /// How it ended, and the last it said.
        reason: String,
        /// How long it pauses before the next start, milliseconds.
        pause_ms: u64,
    },
}

struct Slot {
    process: Process,
    wanted: watch::Sender<Wanted>,
    /// It was asked to end and to begin again: its end is no death.
    restarting: AtomicBool,
    now: Mutex<Now>,
}

#[derive(Clone)]
struct Now {
    state: ProcessState,
    pid: Option<u32>,
    restarts: u32,
    since: Instant,
    last_exit: Option<String>,
}

/// Between two looks at a process that ends or begins.
const LOOK: Duration = Duration::from_millis(2);

/// The processes of a mesh.
pub struct Supervisor {
    slots: Vec<Arc<Slot>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
    events: broadcast::Sender<Event>,
}

impl Supervisor {
    /// Starts all of them, in the order given, without waiting for any.
    #[must_use]
    pub fn start(binary: PathBuf, state: StateDir, processes: Vec<Process>) -> Self {
        let (events, _) = broadcast::channel(256);
        let mut tasks = JoinSet::new();
        let spawn = Arc::new(child::Spawn { binary, state });
        let slots = processes.into_iter().map(|process| {
            let now =
                Now { state: ProcessState::Starting, pid: None, restarts: 0, since: Instant::now(), last_exit: None };
            let (wanted, restarting) = (watch::Sender::new(Wanted::Running), AtomicBool::new(false));
            let slot = Arc::new(Slot { process, wanted, restarting, now: Mutex::new(now) });
            tasks.spawn(child::keep(Arc::clone(&spawn), Arc::clone(&slot), events.clone()));
            slot
        });
        let slots = slots.collect();
        Self { slots, tasks: tokio::sync::Mutex::new(tasks), events }
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Every process as it is now.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessStatus> {
        self.slots.iter().map(|slot| slot.status()).collect()
    }

    /// Kills (SIGKILL) a cluster's processes, all or only these; they stay down. Returns once they are gone, and how
    /// many there were.
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn kill(&self, cluster: &ClusterName, only: &[String]) -> Result<usize> {
        let slots = self.select(cluster, only)?;
        for slot in &slots {
            slot.wanted.send_replace(Wanted::Killed);
            // At once, not when the task comes to it: a killed cluster dies in one instant.
            slot.signal(rustix::process::Signal::KILL);
        }
        for slot in &slots {
            while slot.now.lock().pid.is_some() {
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(slots.len())
    }

    /// Starts again what [`Supervisor::kill`] killed; how many.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn revive(&self, cluster: &ClusterName, only: &[String]) -> Result<usize> {
        let slots = self.select(cluster, only)?;
        let killed = |slot: &&Arc<Slot>| {
            slot.wanted.send_if_modified(|wanted| {
                let killed = *wanted == Wanted::Killed;
                if killed {
                    *wanted = Wanted::Running;
                }
                killed
            })
        };
        Ok(slots.iter().filter(killed).count())
    }

    /// The names of a cluster's processes, all or only these.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn names(&self, cluster: &ClusterName, only: &[String]) -> Result<Vec<String>> {
        Ok(self.select(cluster, only)?.iter().map(|slot| slot.process.name.clone()).collect())
    }

    /// Asks a process to drain (SIGTERM), waits for its end however long it drains, and starts it again. Returns once
    /// the new one runs.
    ///
    /// # Errors
    /// When there is no such process, or it does not run.
    pub async fn restart(&self, cluster: &ClusterName, name: &str) -> Result<()> {
        let slots = self.select(cluster, &[name.to_owned()])?;
        let Some(slot) = slots.iter().find(|slot| slot.process.name == name) else { return Ok(()) };
        let Some(before) = slot.now.lock().pid else {
            bail!("{name} of {cluster} does not run, so it cannot be restarted; `isthmus cluster start` starts it");
        };
        slot.restarting.store(true, Ordering::Release);
        slot.signal(rustix::process::Signal::TERM);
        while slot.now.lock().pid.is_none_or(|pid| pid == before) {
            if *slot.wanted.borrow() != Wanted::Running {
                bail!("{name} of {cluster} was killed while it drained");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends all of them: asked first, killed when that takes too long.
    pub async fn stop(&self) {
        for slot in &self.slots {
            slot.wanted.send_replace(Wanted::Stopped);
        }
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }

    fn select(&self, cluster: &ClusterName, only: &[String]) -> Result<Vec<Arc<Slot>>> {
        let of_cluster = self.slots.iter().filter(|slot| slot.process.cluster == *cluster).collect::<Vec<_>>();
        if of_cluster.is_empty() {
            bail!("no cluster {cluster} in this mesh; `isthmus status` lists them");
        }
        for name in only {
            if !of_cluster.iter().any(|slot| slot.is_meant_by(name)) {
                bail!("no process {name} in {cluster}; `isthmus status` lists them");
            }
        }
        let meant = |slot: &&Arc<Slot>| only.is_empty() || only.iter().any(|name| slot.is_meant_by(name));
        Ok(of_cluster.into_iter().filter(meant).cloned().collect())
    }
}

impl Slot {
    /// A name means the process of that name, and a workload's name its sidecar too; `NAME.app` is its application alone.
    fn is_meant_by(&self, name: &str) -> bool {
        let process = &self.process;
        let alone = process.role == Role::App && name.strip_suffix(".app") == Some(&process.name);
        process.name == name || process.name.strip_suffix(".sidecar") == Some(name) || alone
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let now = self.now.lock();
        let pid = now.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn status(&self) -> ProcessStatus {
        let now = self.now.lock().clone();
        ProcessStatus {
            name: self.process.name.clone(),
            role: self.process.role,
            address: self.process.address,
            state: now.state,
            ready: None,
            pid: now.pid,
            restarts: now.restarts,
            since_ms: u64::try_from(now.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            last_exit: now.last_exit,
            cluster: self.process.cluster.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn start(dir: &Path, script: &str) -> Supervisor {
        let binary = dir.join("role");
        // By another process: a file that this one has open for writing while a test beside this one forks cannot be run.
        let write = ["-c", "printf '%s\\n' '#!/bin/sh' \"$1\" >\"$0\" && chmod 755 \"$0\""];
        let written = std::process::Command::new("sh").args(write).arg(&binary).arg(script).status().unwrap();
        assert!(written.success());
        let process = |name: &str| Process {
            cluster: "east".parse().unwrap(),
            name: name.into(),
            role: Role::Control,
            address: "127.0.0.1".parse().unwrap(),
        };
        Supervisor::start(binary, StateDir::at(dir).unwrap(), vec![process("one"), process("two")])
    }

    async fn until(supervisor: &Supervisor, enough: impl Fn(&[ProcessStatus]) -> bool) -> Vec<ProcessStatus> {
        let wait = async {
            loop {
                let processes = supervisor.processes();
                if enough(&processes) {
                    return processes;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the processes become as expected")
    }

    fn all(state: ProcessState) -> impl Fn(&[ProcessStatus]) -> bool {
        move |processes| processes.iter().all(|process| process.state == state)
    }

    fn lives(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn what_dies_is_started_again_and_its_last_words_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = start(dir.path(), "echo the port is taken; exit 3");
        let Event::Died { reason, .. } = supervisor.events().recv().await.unwrap();
        assert_eq!(reason, "exit status: 3: the port is taken");
        until(&supervisor, |processes| processes.iter().all(|process| process.restarts >= 2)).await;
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn who_is_killed_from_outside_has_no_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = start(dir.path(), "echo all is well; kill -9 $$");
        let Event::Died { reason, .. } = supervisor.events().recv().await.unwrap();
        assert_eq!(reason, "signal: 9 (SIGKILL)");
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn what_is_restarted_is_asked_to_end_and_its_end_is_no_death() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = start(dir.path(), "trap 'echo drained; exit 7' TERM; while :; do sleep 0.01; done");
        let first = until(&supervisor, all(ProcessState::Running)).await;
        let said = || std::fs::read_to_string(StateDir::at(dir.path()).unwrap().log(&first[1].cluster, "two")).unwrap();
        let east = "east".parse().unwrap();
        // A shell that has not set its trap yet dies of the signal: then there are no last words, and it is asked again.
        while !said().contains("drained") {
            supervisor.restart(&east, "two").await.unwrap();
        }
        let second = supervisor.processes();
        assert!(second[1].pid != first[1].pid && !lives(first[1].pid.unwrap()));
        assert_eq!((second[1].restarts, second[0].pid), (0, first[0].pid));
        supervisor.kill(&east, &[]).await.unwrap();
        let refused = supervisor.restart(&east, "two").await.unwrap_err().to_string();
        assert!(refused.contains("does not run"), "{refused}");
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn what_was_killed_stays_down_until_it_is_started_and_stop_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = start(dir.path(), "exec sleep 1000");
        let first = until(&supervisor, all(ProcessState::Running)).await;
        let east = "east".parse().unwrap();
        assert_eq!(supervisor.kill(&east, &[]).await.unwrap(), 2);
        assert!(first.iter().all(|process| !lives(process.pid.unwrap())));
        assert!(all(ProcessState::Killed)(&supervisor.processes()));
        assert_eq!(supervisor.revive(&east, &["two".into()]).unwrap(), 1);
        let second = until(&supervisor, |processes| processes[1].state == ProcessState::Running).await;
        assert_eq!(second[0].state, ProcessState::Killed);
        assert!(supervisor.kill(&east, &["three".into()]).await.unwrap_err().to_string().contains("no process three"));
        supervisor.stop().await;
        assert!(!lives(second[1].pid.unwrap()));
        assert!(all(ProcessState::Stopped)(&supervisor.processes()[1..]));
    }
}
