//! `isthmus up`: raises a mesh on this machine, says what is coming up, keeps a picture of it, and takes all of it down.

use std::{
    io::IsTerminal,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use isthmus_scenarios::{
    mesh::Mesh,
    plan::{
        Plan, bookinfo,
        roles::{DNS_PORT, EXPLICIT_PORT},
    },
    socket::{self, Question},
    state::{Found, StateDir},
    status::Status,
    supervisor::Event,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, broadcast},
};

use crate::{
    args::Up,
    out,
    picture::{self, Size},
};

/// How often the live picture is drawn.
const REDRAW: Duration = Duration::from_secs(1);

/// # Errors
/// One line: what hinders the mesh, why, and what to do.
pub fn run(state: &StateDir, up: &Up) -> Result<()> {
    let plan = bookinfo::plan(up.clusters, up.first_number)?;
    if up.detach && !up.background {
        return crate::block_on(detach(state, up));
    }
    if up.background {
        // Out of the terminal's session: neither its Ctrl-C nor its end is ours.
        let _ = rustix::process::setsid();
    }
    // The kernel kills children with the thread that spawned them; here that is the main thread.
    crate::block_on(foreground(state, plan, up))
}

async fn foreground(state: &StateDir, plan: Plan, up: &Up) -> Result<()> {
    let mut stop = Stop::listen()?;
    let (mesh, found) = Mesh::spawn(plan, state.clone(), binary()?)?;
    if found == Found::Earlier {
        out::line(format_args!(
            "going on from an earlier run in {}; remove it for a fresh mesh",
            state.path().display()
        ));
    }
    let down = Arc::new(Notify::new());
    tokio::spawn(socket::answer(socket::listen(state)?, Arc::clone(&mesh), Arc::clone(&down)));
    let deaths = tokio::spawn(tell(mesh.supervisor.events(), up.plain || !std::io::stdout().is_terminal()));
    let raised = tokio::select! {
        raised = mesh.raise(|step| out::line(format_args!("  {step}"))) => Some(raised),
        () = stop.asked() => None,
        () = down.notified() => None,
    };
    let outcome = match raised {
        Some(Ok(after)) => {
            out::line(format_args!("the mesh answers, {:.1} s after the start\n", after.as_secs_f64()));
            out::line(format_args!("{}{}", picture::draw(&mesh.status().await), hints(&mesh.plan, state)));
            keep(&mesh, up, &mut stop, &down).await;
            Ok(())
        }
        Some(Err(reason)) => {
            Err(reason.context(format!("the mesh did not come up; logs are in {}/logs", state.path().display())))
        }
        None => Ok(()),
    };
    deaths.abort();
    out::line(format_args!("taking the mesh down"));
    mesh.supervisor.stop().await;
    let _ = std::fs::remove_file(state.socket());
    outcome
}

/// Until somebody ends it: a live picture on a terminal, silence elsewhere.
async fn keep(mesh: &Mesh, up: &Up, stop: &mut Stop, down: &Notify) {
    let live = std::io::stdout().is_terminal() && !up.plain;
    let draw = async {
        if !live {
            return std::future::pending::<()>().await;
        }
        let mut tick = tokio::time::interval(REDRAW);
        let mut first = true;
        loop {
            tick.tick().await;
            let mut frame = picture::live(&mesh.status().await, &hints(&mesh.plan, &mesh.state), size());
            if std::mem::take(&mut first) {
                frame.insert_str(0, "\x1b[2J");
            }
            out::raw(&frame);
        }
    };
    tokio::select! {
        () = draw => {},
        () = stop.asked() => {},
        () = down.notified() => {},
    }
}

/// The terminal's size now; where it tells none, that of the first ones.
fn size() -> Size {
    let told = rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    told.map_or(Size { rows: 24, columns: 80 }, |size| Size { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

/// Says in plain lines which role died and is restarted; the live picture shows it by itself.
async fn tell(mut events: broadcast::Receiver<Event>, plain: bool) {
    loop {
        match events.recv().await {
            Ok(Event::Died { process, reason, pause_ms }) if plain => {
                out::line(format_args!(
                    "! {} of {} ended ({reason}); restarting in {pause_ms} ms",
                    process.name, process.cluster
                ));
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// SIGINT, SIGTERM, SIGHUP.
struct Stop([tokio::signal::unix::Signal; 3]);

impl Stop {
    fn listen() -> Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {},
            _ = terminate.recv() => {},
            _ = hangup.recv() => {},
        }
    }
}

/// What the roles are run from: this very binary, unless a test says otherwise.
fn binary() -> Result<PathBuf> {
    match std::env::var_os("ISTHMUS_BIN") {
        Some(path) => Ok(path.into()),
        None => std::env::current_exe().context("the path of this binary is not to be had"),
    }
}

fn hints(plan: &Plan, state: &StateDir) -> String {
    let Some(first) = plan.clusters.first() else { return String::new() };
    let client = first.client().map_or_else(String::new, |client| first.address_of(client).to_string());
    let dns = first.addresses().control();
    let last = plan.clusters.last().map_or("", |cluster| cluster.name.as_str());
    let service = "bookinfo.svc.clusterset.local";
    format!(
        "try next:\n\
         \x20 curl -x http://{client}:{EXPLICIT_PORT} http://reviews.{service}:9080/reviews/0\n\
         \x20 curl -x http://{client}:{EXPLICIT_PORT} http://productpage.bookinfo.svc.cluster.local:9080/productpage\n\
         \x20 dig @{dns} -p {DNS_PORT} details.{service}\n\
         \x20 isthmus trace curl@{} details.bookinfo\n\
         \x20 isthmus clusters; isthmus services; isthmus endpoints reviews.bookinfo; isthmus proxy-status\n\
         \x20 isthmus cluster kill {last}; isthmus cluster start {last}\n\
         state and logs are in {}; edit a cluster's configuration in clusters/<name>/config\n",
        first.name,
        state.path().display()
    )
}

/// Starts `up` again in the background and waits until its mesh answers.
async fn detach(state: &StateDir, up: &Up) -> Result<()> {
    drop(state.hold()?);
    let logs = state.path().join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let path = logs.join("up.log");
    let log = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut background = Command::new(binary()?)
        .arg("--state-dir")
        .arg(state.path())
        .args(["up", "--background", "--plain"])
        .args(["--clusters", &up.clusters.to_string(), "--first-number", &up.first_number.to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("the background process could not be started")?;
    let mut told = 0;
    loop {
        let ended = background.try_wait()?;
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        let steps = said.lines().take_while(|line| !line.starts_with("the mesh answers")).collect::<Vec<_>>();
        for step in steps.iter().skip(told).filter(|line| !line.starts_with("isthmus: ")) {
            out::line(step);
        }
        told = steps.len();
        if let Some(ended) = ended {
            return Err(why(&said, &path.display().to_string(), ended));
        }
        if let Some(status) = ask(state).await.filter(|status| status.answered_ms.is_some()) {
            let after = status.answered_ms.unwrap_or_default();
            out::line(format_args!("the mesh answers, {}.{} s after the start\n", after / 1000, after % 1000 / 100));
            out::raw(&(picture::draw(&status) + &hints(&state.plan()?, state)));
            out::line(format_args!("it runs in the background (process {}); end it with `isthmus down`", status.pid));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The background process ended: what it gave as its reason.
fn why(said: &str, log: &str, ended: std::process::ExitStatus) -> anyhow::Error {
    match said.lines().rev().find_map(|line| line.strip_prefix("isthmus: ")) {
        Some(reason) => anyhow!("{reason}"),
        None => anyhow!("the mesh ended while it came up ({ended}); see {log}"),
    }
}

async fn ask(state: &StateDir) -> Option<Status> {
    let answer = socket::ask(state, &Question::Status).await.ok()?;
    serde_json::from_value(answer).map_err(|reason| anyhow!(reason)).ok()
}
