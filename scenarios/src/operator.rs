//! What an operator asks of a federation member: `bootstrap`, `token create`, `join`, `cluster eject` and `operators`. The commands of these names and
//! `up` call the very same functions.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::admin;

/// A join waits for a leader and for a snapshot.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// Makes a member the first of a new mesh. `advertise`: where other members reach it, `host:port`, when its configuration
/// does not say.
///
/// # Errors
/// When the member does not answer, or is a member already.
pub async fn bootstrap(member: SocketAddr, advertise: &[String]) -> Result<Value> {
    admin::send(member, "/bootstrap", &json!({ "advertise": advertise }), JOIN_LIMIT)
        .await
        .with_context(|| format!("the member at {member} did not bootstrap"))
}

/// Issues a token with which a cluster of that name may join once.
///
/// # Errors
/// When the member does not answer, is not joined itself, or there is no quorum.
pub async fn create_token(member: SocketAddr, cluster: &str, ttl: Duration) -> Result<String> {
    let asked = json!({ "cluster": cluster, "ttl_seconds": ttl.as_secs() });
    let answer = admin::send(member, "/tokens", &asked, JOIN_LIMIT)
        .await
        .with_context(|| format!("the member at {member} issued no token for {cluster}"))?;
    match answer.get("token").and_then(Value::as_str) {
        Some(token) => Ok(token.to_owned()),
        None => bail!("the member at {member} answered without a token; it may be of another release"),
    }
}

/// Makes a member join the mesh its token is of; `advertise` as for [`bootstrap`].
///
/// # Errors
/// When the member does not answer, or the token is malformed, unknown, used, expired or for another cluster.
pub async fn join(member: SocketAddr, token: &str, advertise: &[String]) -> Result<Value> {
    admin::send(member, "/join", &json!({ "token": token, "advertise": advertise }), JOIN_LIMIT)
        .await
        .with_context(|| format!("the member at {member} did not join"))
}

/// Puts a cluster out of the mesh, in the name of the member's cluster.
///
/// # Errors
/// When the member does not answer, its cluster is no operator, the other is no member, or there is no quorum.
pub async fn eject(member: SocketAddr, cluster: &str) -> Result<Value> {
    admin::send(member, "/eject", &json!({ "cluster": cluster }), JOIN_LIMIT)
        .await
        .with_context(|| format!("the member at {member} did not eject {cluster}"))
}

/// Names the operators of the mesh, all of them.
///
/// # Errors
/// As [`eject`].
pub async fn name_operators(member: SocketAddr, clusters: &[&str]) -> Result<Value> {
    admin::send(member, "/operators", &json!({ "clusters": clusters }), JOIN_LIMIT)
        .await
        .with_context(|| format!("the member at {member} named no operators"))
}

/// Gives the only vote of a mesh of two clusters to the other one; asks the member that has it.
///
/// # Errors
/// When the member does not answer, has not the only vote, or cannot reach the other one.
pub async fn move_vote(member: SocketAddr, cluster: &str) -> Result<Value> {
    admin::send(member, "/vote", &json!({ "cluster": cluster }), JOIN_LIMIT)
        .await
        .with_context(|| format!("the member at {member} did not give its vote to {cluster}"))
}

/// Who operates the mesh, as a member knows it.
///
/// # Errors
/// When it does not answer.
pub async fn operators(member: SocketAddr) -> Result<Vec<String>> {
    let standing = standing(member).await?;
    let members = standing.get("members").and_then(Value::as_array).cloned().unwrap_or_default();
    let operates = members.iter().filter(|one| one.get("operator") == Some(&Value::Bool(true)));
    Ok(operates.filter_map(|one| one.get("cluster")?.as_str().map(str::to_owned)).collect())
}

/// How a member stands.
///
/// # Errors
/// When it does not answer.
pub async fn standing(member: SocketAddr) -> Result<Value> {
    admin::read(member, "/status").await.with_context(|| format!("the member at {member} did not answer"))
}
