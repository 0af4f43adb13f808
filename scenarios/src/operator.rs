//! What an operator asks of a federation member: `bootstrap`, `token create`, `join`. The commands of these names and
//! `up` call the very same functions.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::admin;

/// A join waits for a leader and for a snapshot.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// Makes a member the first of a new mesh.
///
/// # Errors
/// When the member does not answer, or is a member already.
pub async fn bootstrap(member: SocketAddr) -> Result<Value> {
    admin::send(member, "/bootstrap", &json!({}), JOIN_LIMIT)
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

/// Makes a member join the mesh its token is of.
///
/// # Errors
/// When the member does not answer, or the token is malformed, unknown, used, expired or for another cluster.
pub async fn join(member: SocketAddr, token: &str) -> Result<Value> {
    admin::send(member, "/join", &json!({ "token": token }), JOIN_LIMIT)
        .await
        .with_context(|| format!("the member at {member} did not join"))
}

/// How a member stands.
///
/// # Errors
/// When it does not answer.
pub async fn standing(member: SocketAddr) -> Result<Value> {
    admin::read(member, "/status").await.with_context(|| format!("the member at {member} did not answer"))
}
