//! Commands to a mesh raised on this machine.

use std::time::Duration;

use anyhow::{Result, bail};
use isthmus_scenarios::{
    socket::{self, Question},
    state::StateDir,
    status::Status,
};
use serde_json::Value;

use crate::{
    args::{Cluster, Form, Output},
    failover, membership, out, picture,
    reach::Reach,
    table,
};

/// `down` waits so long for the mesh's processes; each is killed after three seconds.
const DOWN_LIMIT: Duration = Duration::from_secs(20);

pub async fn down(state: &StateDir) -> Result<()> {
    let answer = socket::ask(state, &Question::Down).await?;
    let until = tokio::time::Instant::now() + DOWN_LIMIT;
    // The runner holds the directory until its last process is gone.
    while let Err(reason) = state.hold() {
        if tokio::time::Instant::now() > until {
            return Err(reason.context("the mesh does not end"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    out::line(format_args!("the mesh is down (process {})", table::field(&answer, "pid")));
    Ok(())
}

pub async fn status(state: &StateDir, output: Output) -> Result<()> {
    let answer = socket::ask(state, &Question::Status).await?;
    if output.output == Form::Json {
        out::line(serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let status = serde_json::from_value::<Status>(answer)?;
    out::raw(&picture::draw(&status));
    let processes = status.clusters.iter().flat_map(|cluster| &cluster.processes);
    let list = Value::Array(processes.map(serde_json::to_value).collect::<Result<_, _>>()?);
    let columns: [table::Column; 8] = [
        ("CLUSTER", |row| table::field(row, "cluster")),
        ("PROCESS", |row| table::field(row, "name")),
        ("ROLE", |row| table::field(row, "role")),
        ("ADDRESS", |row| table::field(row, "address")),
        ("STATE", |row| table::field(row, "state")),
        ("READY", |row| table::field(row, "ready")),
        ("PID", |row| table::field(row, "pid")),
        ("RESTARTS", |row| table::field(row, "restarts")),
    ];
    table::print(&list, output, &columns)
}

pub async fn cluster(reach: &Reach, command: Cluster) -> Result<()> {
    let (question, verb, key) = match command {
        Cluster::Drain(drain) => return failover::drain(reach, drain).await,
        Cluster::Undrain { cluster, undo } => return failover::undrain(reach, cluster, &undo).await,
        Cluster::Eject { cluster, member } => return membership::eject(reach, &cluster, &member).await,
        Cluster::Vote { cluster, member } => return membership::move_vote(reach, &cluster, &member).await,
        Cluster::Operators { clusters, member } => return membership::operators(reach, &clusters, &member).await,
        Cluster::Kill(p) => (Question::Kill { cluster: p.cluster, only: p.only }, "killed", "killed"),
        Cluster::Restart(p) => (Question::Restart { cluster: p.cluster, only: p.only }, "restarted", "restarted"),
        Cluster::Start(p) => (Question::Start { cluster: p.cluster, only: p.only }, "started", "started"),
    };
    let answer = socket::ask(reach.machine()?, &question).await?;
    let count = answer.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (Question::Kill { cluster, .. } | Question::Start { cluster, .. } | Question::Restart { cluster, .. }) =
        question
    else {
        return Ok(());
    };
    if count == 0 {
        bail!("nothing of {cluster} was killed before, so there is nothing to start");
    }
    let noun = if count == 1 { "process" } else { "processes" };
    out::line(format_args!("{verb} {count} {noun} of {cluster}"));
    Ok(())
}
