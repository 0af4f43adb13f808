//! `isthmus up --detach`: starts `up` again in the background, tells its progress, and leaves once its mesh answers.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use isthmus_scenarios::{
    socket::{self, Question},
    state::StateDir,
    status::Status,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    args::Up,
    hints::hints,
    out, picture,
    up::{Stop, binary},
};

/// How often the background half is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// So long after the first answer clusters may need to see each other's paths; the table is worth that wait.
pub const SETTLES: Duration = Duration::from_secs(2);

/// # Errors
/// One line: why there is no mesh, as the background half gave it.
pub async fn detach(state: &StateDir, up: &Up) -> Result<()> {
    let mut stop = Stop::listen()?;
    drop(state.hold()?);
    let logs = state.path().join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let path = logs.join("up.log");
    let mut background = spawn(state, up, &path)?;
    let (mut told, mut answering) = (0, None);
    loop {
        let ended = background.try_wait()?;
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        told = tell(&said, told);
        if let Some(ended) = ended {
            return Err(why(&said, &path.display().to_string(), ended));
        }
        if let Some(status) = ask(state).await.filter(|status| status.answered_ms.is_some()) {
            let since = *answering.get_or_insert_with(Instant::now);
            if status.is_settled() || since.elapsed() > SETTLES {
                return answered(state, &status);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.asked() => return end(&mut background).await,
        }
    }
}

fn spawn(state: &StateDir, up: &Up, log: &Path) -> Result<Child> {
    let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    Command::new(binary()?)
        .arg("--state-dir")
        .arg(state.path())
        .args(["up", "--background", "--plain"])
        .args(["--clusters", &up.clusters.to_string(), "--first-number", &up.first_number.to_string()])
        .args(["--gateways", &up.gateways.to_string()])
        .args(up.witness.then_some("--witness"))
        .args(up.emulate_wan.then_some("--emulate-wan"))
        .args(up.seed.map(|seed| format!("--seed={seed}")))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("the background process could not be started")
}

/// Tells the steps that were not `told` yet; how many there are now.
fn tell(said: &str, told: usize) -> usize {
    let steps = said.lines().take_while(|line| !line.starts_with("the mesh answers")).collect::<Vec<_>>();
    for step in steps.iter().skip(told).filter(|line| !line.starts_with("isthmus: ")) {
        out::line(step);
    }
    steps.len()
}

fn answered(state: &StateDir, status: &Status) -> Result<()> {
    let after = status.answered_ms.unwrap_or_default();
    out::line(format_args!("the mesh answers, {:.1} s after the start\n", after as f64 / 1000.0));
    out::raw(&(picture::draw(status) + &hints(&state.plan()?, state)));
    out::line(format_args!("it runs in the background (process {}); end it with `isthmus down`", status.pid));
    Ok(())
}

/// Whoever changes their mind while it comes up wants nothing left: the background half is asked to end, and waited
/// for.
async fn end(background: &mut Child) -> Result<()> {
    out::line("taking the mesh down");
    let pid = i32::try_from(background.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    while background.try_wait()?.is_none() {
        tokio::time::sleep(LOOK).await;
    }
    bail!("it was told to end before the mesh answered")
}

/// The background process ended: what it gave as its reason.
fn why(said: &str, log: &str, ended: ExitStatus) -> anyhow::Error {
    match said.lines().rev().find_map(|line| line.strip_prefix("isthmus: ")) {
        Some(reason) => anyhow!("{reason}"),
        None => anyhow!("the mesh ended while it came up ({ended}); see {log}"),
    }
}

async fn ask(state: &StateDir) -> Option<Status> {
    let answer = socket::ask(state, &Question::Status).await.ok()?;
    serde_json::from_value(answer).ok()
}
