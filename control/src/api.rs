//! The part of the admin port that is control's: JSON arrays for the operator's commands and the dashboard.

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};

use crate::{handle::Handle, view::View};

/// Routes under `/api`.
pub fn router(desk: Handle) -> Router {
    Router::new()
        .route("/api/clusters", get(|State(desk): State<Handle>| rows(desk, |view| view.clusters)))
        .route("/api/services", get(|State(desk): State<Handle>| rows(desk, |view| view.services)))
        .route("/api/endpoints", get(endpoints))
        .route("/api/proxies", get(|State(desk): State<Handle>| rows(desk, |view| view.clients)))
        .route("/api/config", get(|State(desk): State<Handle>| rows(desk, |view| view.config)))
        .route("/api/dns", get(|State(desk): State<Handle>| rows(desk, |view| view.dns)))
        .route("/api/moves", get(|State(desk): State<Handle>| rows(desk, |view| view.moves)))
        .route("/api/speaker", get(|State(desk): State<Handle>| rows(desk, |view| view.speaker)))
        .with_state(desk)
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

async fn rows<T: Serialize>(desk: Handle, pick: impl FnOnce(View) -> T) -> Response {
    match desk.look().await {
        Some(view) => Json(pick(view)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "this control stops").into_response(),
    }
}
