//! The part of the admin port that is control's: JSON arrays for the operator's commands and the dashboard.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use isthmus_core::name::ClusterName;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    handle::{Back, Handle, Wish},
    plugged::Standing,
    view::View,
};

/// An operator is told whether what was done is in the federation's log, and waits so long for it.
const WRITTEN: Duration = Duration::from_secs(2);

/// Routes under `/api`.
pub fn router(desk: Handle) -> Router {
    Router::new()
        .route("/api/clusters", get(|State(desk): State<Handle>| rows(desk, |view| view.clusters)))
        .route("/api/services", get(|State(desk): State<Handle>| rows(desk, |view| view.services)))
        .route("/api/endpoints", get(endpoints))
        .route("/api/proxies", get(|State(desk): State<Handle>| rows(desk, |view| view.clients)))
        .route("/api/config", get(|State(desk): State<Handle>| rows(desk, |view| view.config)))
        .route("/api/dns", get(|State(desk): State<Handle>| rows(desk, |view| view.dns)))
        .route("/api/failover", get(|State(desk): State<Handle>| rows(desk, |view| view.failover)))
        .route("/api/history", get(|State(desk): State<Handle>| rows(desk, |view| view.history)))
        .route("/api/simulate", get(simulate))
        .route("/api/verbs", get(|State(desk): State<Handle>| rows(desk, |view| view.verbs)).post(wish))
        .route("/api/verbs/{name}", delete(take_back))
        .route("/api/speaker", get(|State(desk): State<Handle>| rows(desk, |view| view.speaker)))
        .with_state(desk)
}

/// How the certificate authority stands that somebody may bring along; `null` where none is looked for.
pub fn authority(standing: Option<Arc<Mutex<Standing>>>) -> Router {
    let stands = move || std::future::ready(Json(standing.as_ref().map(|standing| standing.lock().clone())));
    Router::new().route("/api/authority", get(stands))
}

#[derive(Deserialize)]
struct Wanted {
    /// `namespace/name`; none: all.
    service: Option<String>,
}

async fn endpoints(State(desk): State<Handle>, Query(wanted): Query<Wanted>) -> Response {
    rows(desk, |view| {
        let is_wanted = |service: &str| wanted.service.as_deref().is_none_or(|wanted| wanted == service);
        view.endpoints.into_iter().filter(|row| is_wanted(&row.service)).collect::<Vec<_>>()
    })
    .await
}

#[derive(Deserialize)]
struct Down {
    /// Clusters, with commas between.
    down: String,
}

async fn simulate(State(desk): State<Handle>, Query(Down { down }): Query<Down>) -> Response {
    let named: Result<BTreeSet<ClusterName>, _> = down.split(',').map(str::parse).collect();
    match named {
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Ok(down) => match desk.simulate(down).await {
            Some(rows) => Json(rows).into_response(),
            None => (StatusCode::SERVICE_UNAVAILABLE, "this control stops").into_response(),
        },
    }
}

async fn wish(State(desk): State<Handle>, body: Bytes) -> Response {
    match serde_json::from_slice::<Wish>(&body) {
        Err(error) => (StatusCode::BAD_REQUEST, format!("this is no verb: {error}")).into_response(),
        Ok(wish) => match desk.wish(wish).await {
            Ok(mut done) => {
                done.local = !(done.quorum && desk.written(done.name.clone(), WRITTEN).await);
                Json(done).into_response()
            }
            Err(reason) => (StatusCode::CONFLICT, reason).into_response(),
        },
    }
}

/// The body says who and why; none: nobody says so.
async fn take_back(State(desk): State<Handle>, Path(name): Path<String>, body: Bytes) -> Response {
    let back = if body.is_empty() { Ok(Back::default()) } else { serde_json::from_slice(&body) };
    let back = match back {
        Err(error) => return (StatusCode::BAD_REQUEST, format!("this is not who and why: {error}")).into_response(),
        Ok(back) => back,
    };
    match desk.take_back(name, back).await {
        Ok(mut taken) => {
            taken.local = !(taken.quorum && desk.written(taken.name.clone(), WRITTEN).await);
            if !taken.local {
                taken.still.clear();
            }
            Json(taken).into_response()
        }
        Err(reason) => (StatusCode::NOT_FOUND, reason).into_response(),
    }
}

async fn rows<T: Serialize>(desk: Handle, pick: impl FnOnce(View) -> T) -> Response {
    match desk.look().await {
        Some(view) => Json(pick(view)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "this control stops").into_response(),
    }
}
