//! The binary as a person runs it: its output, its processes, its end.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Far longer than anything takes, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A state directory, and the mesh that may be up in it; taken down with it, however the test ends.
pub struct Yard {
    folder: tempfile::TempDir,
    number: u8,
}

impl Yard {
    /// Tests that run side by side take different numbers in the address plan.
    pub fn new(number: u8) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the mesh"), number }
    }

    /// The state directory, which does not exist at first.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("mesh")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
        command.env("ISTHMUS_STATE_DIR", self.state()).args(args);
        if args.first() == Some(&"up") {
            command.args(["--first-number", &self.number.to_string()]);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    /// What is offered to fish for the last of these words.
    pub fn completes(&self, words: &[&str]) -> String {
        let typed = [&["--", "isthmus"], words].concat();
        let ran = self.command(&typed).env("ISTHMUS_COMPLETE", "fish").output().expect("the binary runs");
        let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
        // Behind a tab comes what an offer means.
        lines.lines().filter_map(|line| line.split('\t').next()).map(|line| format!("{line}\n")).collect()
    }

    /// What a command prints; it must succeed.
    pub fn says(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "isthmus {args:?}: {out}{err}{}", self.logs());
        out.into_owned()
    }

    /// Why a command does not do it: one line.
    pub fn refuses(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success() && err.lines().count() == 1, "isthmus {args:?} says {err}");
        err
    }

    /// Starts a command and hands back what it prints, line by line.
    pub fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (send, lines) = channel();
        for stream in [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].into_iter().flatten() {
            let send = send.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(send.send(line)));
            });
        }
        Running { child, lines, said: vec![] }
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.says(&["status", "-o", "json"])).expect("status is JSON")
    }

    /// Processes whose command line names the state directory.
    pub fn processes(&self) -> Vec<u32> {
        let of = |entry: std::fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(self.state().to_str()?).then_some(pid)
        };
        std::fs::read_dir("/proc").expect("/proc is there").flatten().filter_map(of).collect()
    }

    pub fn wait_empty(&self) {
        wait("nothing of the mesh is left", || match self.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
    }

    /// The ends of all logs, for the story of a failure.
    fn logs(&self) -> String {
        let log = std::fs::read_to_string(self.state().join("logs/up.log")).unwrap_or_default();
        format!("\n--- up.log\n{log}")
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let _ = self.run(&["down"]);
    }
}

fn boxed(stream: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(stream)
}

/// A command that runs.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Running {
    /// Waits for a line with these words in it.
    pub fn until(&mut self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said.last().is_some_and(|line| line.contains(words)) {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            self.said.push(line.unwrap_or_else(|_| panic!("it never says {words:?}:\n{}", self.said.join("\n"))));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Waits for its end: whether it succeeded, and all it said.
    pub fn end(mut self) -> (bool, String) {
        let status = self.child.wait().expect("it ends");
        self.said.extend(self.lines.iter());
        (status.success(), self.said.join("\n"))
    }
}

pub fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

/// Waits until `check` is content.
pub fn wait(what: &str, mut check: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + PATIENCE;
    while let Err(reason) = check() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}: {reason}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process of a cluster, as `status` has it.
pub fn process<'a>(status: &'a Value, name: &str) -> &'a Value {
    let processes = status["clusters"][0]["processes"].as_array().expect("processes");
    processes.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// Where a cluster's configuration is.
pub fn config(state: &Path, cluster: &str) -> PathBuf {
    state.join("clusters").join(cluster).join("config")
}
