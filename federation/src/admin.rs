//! What an operator asks of a member on its admin port: bootstrap, join, tokens, status, eject, operators, vote.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    error::Refusal,
    join,
    member::{Ejected, Member},
    state::Deed,
};

/// The member, once it is there: it waits for its identity first.
pub type Later = watch::Receiver<Option<Arc<Member>>>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::CONFLICT, Json(self)).into_response()
    }
}

async fn there(later: &Later) -> Result<Arc<Member>, Refusal> {
    later.borrow().clone().ok_or_else(|| {
        Refusal::new("the member has no identity yet", "see that the cluster's control runs; its CA gives it one")
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    token: String,
    /// Where other members reach this one, when its configuration does not say.
    #[serde(default)]
    advertise: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    #[serde(default)]
    advertise: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    cluster: String,
    #[serde(default = "an_hour")]
    ttl_seconds: u64,
}

fn an_hour() -> u64 {
    3600
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    cluster: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operators {
    clusters: Vec<String>,
}

/// The routes.
pub fn routes(later: Later) -> Router {
    Router::new()
        .route("/bootstrap", post(bootstrap))
        .route("/join", post(redeem))
        .route("/tokens", post(tokens))
        .route("/eject", post(eject))
        .route("/operators", post(operators))
        .route("/vote", post(vote))
        .route("/status", get(status))
        .with_state(later)
}

async fn bootstrap(State(later): State<Later>, Json(asked): Json<Begin>) -> Result<Json<Value>, Refusal> {
    let member = there(&later).await?;
    member.advertise(asked.advertise);
    member.bootstrap().await?;
    Ok(Json(json!({ "mesh": member.mesh(), "cluster": member.cluster() })))
}

async fn redeem(State(later): State<Later>, Json(asked): Json<Join>) -> Result<Json<Value>, Refusal> {
    let member = there(&later).await?;
    member.advertise(asked.advertise);
    join::redeem(&member, &asked.token).await?;
    Ok(Json(json!({ "mesh": member.mesh(), "cluster": member.cluster() })))
}

async fn tokens(State(later): State<Later>, Json(asked): Json<NewToken>) -> Result<Json<Value>, Refusal> {
    let member = there(&later).await?;
    let token = join::issue(&member, &asked.cluster, Duration::from_secs(asked.ttl_seconds)).await?;
    Ok(Json(json!({ "token": token, "cluster": asked.cluster, "ttl_seconds": asked.ttl_seconds })))
}

async fn eject(State(later): State<Later>, Json(asked): Json<Named>) -> Result<Json<Value>, Refusal> {
    let member = there(&later).await?;
    let (local, why) = match member.eject(&asked.cluster).await? {
        Ejected::Written => (false, String::new()),
        Ejected::Local(why) => (true, why),
    };
    Ok(Json(json!({ "ejected": asked.cluster, "local": local, "why": why })))
}

async fn operators(State(later): State<Later>, Json(asked): Json<Operators>) -> Result<Json<Value>, Refusal> {
    let member = there(&later).await?;
    let generation = member.look(crate::state::State::next_generation)?;
    member.act(Deed::Operators { clusters: asked.clusters.clone(), generation }).await?;
    Ok(Json(json!({ "operators": asked.clusters })))
}

async fn vote(State(later): State<Later>, Json(asked): Json<Named>) -> Result<Json<Value>, Refusal> {
    let member = there(&later).await?;
    member.move_vote(&asked.cluster).await?;
    Ok(Json(json!({ "votes": asked.cluster })))
}

async fn status(State(later): State<Later>) -> Result<Json<Value>, Refusal> {
    let member = there(&later).await?;
    let standing = member.standing();
    let members: Vec<_> = member
        .view
        .members()
        .into_iter()
        .map(|record| {
            json!({
                "cluster": record.cluster, "trust_domain": record.trust_domain, "addresses": record.addresses,
                "raft_id": record.raft_id, "operator": record.operator, "ejected": record.ejected,
                "issuer": record.issuer,
            })
        })
        .collect();
    Ok(Json(json!({
        "joined": member.is_joined(), "mesh": member.mesh(), "cluster": member.cluster(),
        "leader": standing.leader, "term": standing.term, "quorum": standing.quorum,
        "changing": standing.changing,
        "voters": standing.voters, "learners": standing.learners, "applied": standing.applied,
        "sessions": standing.sessions, "revision": member.view.revision(), "members": members,
    })))
}
