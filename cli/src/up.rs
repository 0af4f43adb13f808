//! `isthmus up`: raises a mesh on this machine, says what is coming up, keeps a picture of it, and takes all of it down.

use std::{io::IsTerminal, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use isthmus_scenarios::{
    mesh::Mesh,
    plan::{Plan, bookinfo},
    socket,
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
    detach::{SETTLES, detach},
    hints::hints,
    out,
    picture::{self, Size},
};

/// How often the live picture is drawn.
const REDRAW: Duration = Duration::from_secs(1);

/// # Errors
/// One line: what hinders the mesh, why, and what to do.
pub fn run(state: &StateDir, up: &Up) -> Result<()> {
    let plan = bookinfo::plan(up.clusters, up.first_number)?;
    let plan = bookinfo::with_gateways(plan, up.gateways);
    let plan = if up.witness { bookinfo::with_witness(plan)? } else { plan };
    let mut plan = if up.emulate_wan { bookinfo::apart(plan) } else { plan };
    plan.tuning.wan_seed = up.seed;
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
            let table = picture::draw(&settled(&mesh, &mut stop).await);
            out::line(format_args!("{table}{}", hints(&mesh.plan, state)));
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

/// The mesh's status once its clusters have seen each other, which is a moment after the first answer.
async fn settled(mesh: &Mesh, stop: &mut Stop) -> Status {
    let until = tokio::time::Instant::now() + SETTLES;
    loop {
        let status = mesh.status().await;
        if status.is_settled() || tokio::time::Instant::now() > until {
            return status;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            () = stop.asked() => return status,
        }
    }
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
pub struct Stop {
    signals: [tokio::signal::unix::Signal; 3],
    asked: bool,
}

impl Stop {
    /// # Errors
    /// When the system takes no signal handler.
    pub fn listen() -> Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self { signals: [interrupt?, terminate?, hangup?], asked: false })
    }

    /// Returns once it was asked, and at once ever after.
    pub async fn asked(&mut self) {
        if self.asked {
            return;
        }
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {},
            _ = terminate.recv() => {},
            _ = hangup.recv() => {},
        }
        self.asked = true;
    }
}

/// What the roles are run from: this very binary, unless a test says otherwise.
///
/// # Errors
/// When the system does not tell its path.
pub fn binary() -> Result<PathBuf> {
    match std::env::var_os("ISTHMUS_BIN") {
        Some(path) => Ok(path.into()),
        None => std::env::current_exe().context("the path of this binary is not to be had"),
    }
}
