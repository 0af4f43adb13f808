//! One process: spawned, waited for, spawned again.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    process::{Child, Command},
    sync::{broadcast, watch},
};

use super::{Event, Now, Slot, Wanted};
use crate::{parent::PARENT, plan::Process, state::StateDir, status::ProcessState, wan::namespace};

/// First pause before a restart; doubled with every further death.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Who ran so long has recovered: the next pause is the first again.
const RECOVERED: Duration = Duration::from_secs(10);
/// What a process gets to end when asked; `down` must not take longer than a person waits.
const GRACE: Duration = Duration::from_secs(3);

/// How the end of a process reads that somebody killed.
const KILLED: &str = "signal: 9 (SIGKILL)";

/// How processes are spawned.
pub(super) struct Spawn {
    pub(super) binary: PathBuf,
    pub(super) state: StateDir,
}

/// The pause before the start after `deaths` deaths in a row.
fn pause(deaths: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << deaths.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

pub(super) async fn keep(spawn: Arc<Spawn>, slot: Arc<Slot>, events: broadcast::Sender<Event>) {
    let mut wanted = slot.wanted.subscribe();
    let mut deaths = 0;
    loop {
        let wish = *wanted.borrow_and_update();
        match wish {
            Wanted::Stopped => return,
            Wanted::Killed => {
                deaths = 0;
                if wanted.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Wanted::Running => {}
        }
        let begun = Instant::now();
        let reason = match spawn.spawn(&slot.process) {
            Ok(child) => match run(child, &slot, &mut wanted).await {
                Some(_) if slot.restarting.swap(false, Ordering::AcqRel) => continue,
                // Whoever is killed had no part in it: what it said last is no reason.
                Some(exit) if exit == KILLED => exit,
                Some(exit) => format!("{exit}{}", last_words(&spawn.log(&slot.process))),
                None => continue,
            },
            Err(reason) => format!("could not be started: {reason}"),
        };
        deaths = if begun.elapsed() > RECOVERED { 1 } else { deaths + 1 };
        let pause = pause(deaths);
        slot.set(|now| {
            now.state = ProcessState::Restarting;
            now.restarts += 1;
            now.last_exit = Some(reason.clone());
        });
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let _ = events.send(Event::Died { process: slot.process.clone(), reason, pause_ms });
        let _ = tokio::time::timeout(pause, wanted.changed()).await;
    }
}

/// Until it ends: by itself, with how; or because it was wanted, with nothing.
async fn run(mut child: Child, slot: &Slot, wanted: &mut watch::Receiver<Wanted>) -> Option<String> {
    slot.set(|now| {
        now.state = ProcessState::Running;
        now.pid = child.id();
    });
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        _ = wanted.wait_for(|wanted| *wanted != Wanted::Running) => None,
    };
    let stopped = *wanted.borrow();
    if ended.is_none() && stopped == Wanted::Stopped {
        slot.signal(rustix::process::Signal::TERM);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    } else if ended.is_none() {
        let _ = child.kill().await;
    }
    slot.set(|now| {
        now.pid = None;
        now.state = match stopped {
            Wanted::Killed => ProcessState::Killed,
            _ => ProcessState::Stopped,
        };
    });
    match ended {
        Some(ended) if stopped == Wanted::Running => {
            Some(ended.map_or_else(|e| e.to_string(), |status| status.to_string()))
        }
        _ => None,
    }
}

impl Slot {
    fn set(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now.lock();
        change(&mut now);
        now.since = Instant::now();
    }
}

impl Spawn {
    fn log(&self, process: &Process) -> PathBuf {
        self.state.log(&process.cluster, &process.name)
    }

    fn spawn(&self, process: &Process) -> std::io::Result<Child> {
        let log = open_log(&self.log(process))?;
        let mut command = match process.namespace().map(|name| namespace::runner(&name)) {
            Some((program, namespace)) => {
                let mut command = Command::new(program);
                command.arg(namespace).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        command
            .arg(process.role.subcommand())
            .arg("--config")
            .arg(self.state.run(&process.cluster, &process.name))
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C in the terminal is the supervisor's to handle, not each role's.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last line a process said, as the likely reason of its end.
fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).into_owned())
    };
    let tail = read().unwrap_or_default();
    let line = tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if line.is_empty() { String::new() } else { format!(": {}", line.chars().take(400).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        assert_eq!([1, 2, 3].map(pause), [200, 400, 800].map(Duration::from_millis));
        assert_eq!(pause(50), LONGEST_PAUSE);
    }
}
