//! How commands reach a raised mesh: one line of JSON each way on a Unix socket in its state directory, whose
//! permissions are the directory's.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use isthmus_core::name::ClusterName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Notify,
};

use crate::{
    mesh::Mesh,
    state::StateDir,
    wan::{
        links::{Links, Scope},
        settings::Change,
    },
};

/// The longest question, bytes.
const LONGEST: u64 = 64 * 1024;

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Question {
    /// How is the mesh?
    Status,
    /// End it.
    Down,
    /// Kill processes of a cluster.
    Kill {
        /// The cluster.
        cluster: ClusterName,
        /// Which; none: all.
        only: Vec<String>,
    },
    /// Start again what was killed.
    Start {
        /// The cluster.
        cluster: ClusterName,
        /// Which; none: all.
        only: Vec<String>,
    },
    /// Let processes of a cluster drain and begin again, one after the other.
    Restart {
        /// The cluster.
        cluster: ClusterName,
        /// Which; none: all.
        only: Vec<String>,
    },
    /// The links of the emulated network.
    Links,
    /// Change some of them.
    Link {
        /// Which.
        scope: Scope,
        /// To what.
        change: Change,
    },
    /// Make some of them what they were when the mesh was raised.
    Heal {
        /// Which.
        scope: Scope,
    },
}

/// Listens in the mesh's state directory.
///
/// # Errors
/// When the path is not to be written.
pub fn listen(state: &StateDir) -> Result<UnixListener> {
    let path = state.socket();
    // Whoever holds the state directory's lock is the only one: a socket here is an earlier run's.
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))
}

/// Answers until asked to end the mesh; `down` is notified then.
pub async fn answer(listener: UnixListener, mesh: Arc<Mesh>, down: Arc<Notify>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (mesh, down) = (Arc::clone(&mesh), Arc::clone(&down));
        tokio::spawn(async move {
            if let Err(reason) = converse(stream, &mesh, &down).await {
                tracing::debug!(%reason, "a command went away");
            }
        });
    }
}

async fn converse(stream: UnixStream, mesh: &Mesh, down: &Notify) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(question) => reply(&question, mesh, down).await,
        Err(reason) => Err(anyhow!("not a question: {reason}")),
    };
    let answer = match answer {
        Ok(answer) => json!({ "ok": answer }),
        Err(reason) => json!({ "error": format!("{reason:#}") }),
    };
    write.write_all(format!("{answer}\n").as_bytes()).await?;
    write.shutdown().await?;
    Ok(())
}

async fn reply(question: &Question, mesh: &Mesh, down: &Notify) -> Result<Value> {
    Ok(match question {
        Question::Status => serde_json::to_value(mesh.status().await)?,
        Question::Down => {
            down.notify_one();
            json!({ "pid": std::process::id() })
        }
        Question::Kill { cluster, only } => json!({ "killed": mesh.supervisor.kill(cluster, only).await? }),
        Question::Start { cluster, only } => json!({ "started": mesh.supervisor.revive(cluster, only)? }),
        Question::Restart { cluster, only } => json!({ "restarted": mesh.restart(cluster, only).await? }),
        Question::Links => serde_json::to_value(links(mesh)?.rows())?,
        Question::Link { scope, change } => json!({ "changed": links(mesh)?.change(scope, change)? }),
        Question::Heal { scope } => json!({ "changed": links(mesh)?.heal(scope)? }),
    })
}

fn links(mesh: &Mesh) -> Result<&Links> {
    let network = mesh.network.as_ref().map(|network| network.links.as_ref());
    network.context(
        "the clusters of this mesh are on loopback, with no network between them that could be changed; raise one as root \
         with `isthmus up --emulate-wan`",
    )
}

/// Asks the mesh raised in this state directory.
///
/// # Errors
/// When none is up there, or it refuses.
pub async fn ask(state: &StateDir, question: &Question) -> Result<Value> {
    let path = state.socket();
    let stream = connect(&path).await?;
    let (read, mut write) = stream.into_split();
    write.write_all(format!("{}\n", serde_json::to_string(question)?).as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(read).read_line(&mut line).await?;
    let answer = serde_json::from_str::<Value>(&line)
        .map_err(|_| anyhow!("the mesh in {} went away while it was asked", state.path().display()))?;
    match (answer.get("ok"), answer.get("error").and_then(Value::as_str)) {
        (Some(ok), _) => Ok(ok.clone()),
        (None, Some(error)) => bail!("{error}"),
        (None, None) => bail!("the mesh gave no answer; it may be of another release"),
    }
}

async fn connect(path: &Path) -> Result<UnixStream> {
    UnixStream::connect(path).await.map_err(|_| {
        let dir = path.parent().unwrap_or(path);
        anyhow!(
            "no mesh is up in {}; raise one with `isthmus up`, or name its directory with --state-dir",
            dir.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn asking_where_no_mesh_is_up_says_so_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path()).unwrap();
        let refused = ask(&state, &Question::Status).await.unwrap_err().to_string();
        assert!(refused.contains("no mesh is up in") && !refused.contains('\n'), "{refused}");
    }
}
