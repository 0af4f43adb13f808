//! Child processes that end with the run, and what CPU they have used.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a child may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// A running child; dropping it ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Starts `command` with both outputs in `directory/name.log`.
    ///
    /// # Errors
    /// The program cannot be started or the log not be written.
    pub fn start(name: &str, directory: &Path, command: &mut Command) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name} ({command:?})"))?;
        Ok(Self { child, log, name: name.to_owned() })
    }

    /// Fails, with the end of its log, once the child has ended by itself.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n");
        bail!("{} ended with {status}; the end of its log:\n{tail}", self.name)
    }

    /// CPU that the child and its own children have used since they began, seconds.
    ///
    /// # Errors
    /// `/proc` does not tell, as when it has ended.
    pub fn cpu(&self) -> Result<f64> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let mut total = cpu_of(id).with_context(|| format!("cannot read the CPU of {}", self.name))?;
        for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
            total += cpu_of(child)?;
        }
        Ok(total)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// User and system time of one process, seconds.
fn cpu_of(id: u32) -> Result<f64> {
    let path = format!("/proc/{id}/stat");
    let text = match fs::read_to_string(&path) {
        // A child of the child that ended between the two readings has no more to tell.
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("process {id} has ended"),
        other => other?,
    };
    let ticks = ticks(&text).with_context(|| format!("{path} is not as proc(5) says"))?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of a run are far below 2^52")]
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// `utime + stime` of a line of `/proc/PID/stat` (proc(5): fields 14 and 15, after a name that may hold anything).
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_process_name() {
        let line = "12 (a) b (c)) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 7 9 20 0 3 0 100 0 0";
        assert_eq!(ticks(line), Some(300));
        assert_eq!(ticks("12 (cut"), None);
    }

    #[test]
    fn a_child_that_ends_is_reported_with_the_end_of_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let mut process =
            Process::start("talker", directory.path(), command.args(["-c", "echo last words; exit 3"])).unwrap();
        let said = loop {
            if let Err(error) = process.check() {
                break error.to_string();
            }
            thread::yield_now();
        };
        assert!(said.contains("talker") && said.contains("last words") && said.contains('3'), "{said}");
    }
}
