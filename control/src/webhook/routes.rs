//! Paths to answers. Reviews have places of their own, because one connection carries many; each has a bounded time, and
//! large ones are worked on one at a time.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use http::HeaderMap;
use isthmus_runtime::places::Places;
use tokio::sync::Semaphore;

use super::{
    body::{MAX_BODY, Room, SMALL, Unread, Whole},
    injection::Injector,
    listener::Source,
    metrics::Metrics,
    review::Request,
    validation,
};

/// Reviews at once; for a further one the oldest of its fullest source ends. More than an API server asks at once.
const MAX_REVIEWS: usize = 512;
/// A review is read and answered in so long: the API server waits no longer by default.
const MAX_TIME: Duration = Duration::from_secs(10);

/// What both webhooks need.
#[derive(Clone)]
struct Desk {
    injector: Arc<Injector>,
    metrics: Metrics,
    places: Places,
    room: Room,
    large: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
enum Webhook {
    Inject,
    Validate,
}

/// The routes of both webhooks.
pub(crate) fn routes(injector: Arc<Injector>, metrics: Metrics) -> Router {
    let (places, room) = (Places::new(MAX_REVIEWS), Room::new());
    let desk = Desk { injector, metrics, places, room, large: Arc::new(Semaphore::new(1)) };
    let route = |webhook| {
        post(move |State(desk): State<Desk>, Extension(Source(from)), headers: HeaderMap, body: Body| async move {
            let place = desk.places.take(from);
            let work = tokio::time::timeout(MAX_TIME, desk.answer(webhook, &headers, body));
            match place.unless_needed(work).await {
                Some(Ok(answer)) => answer,
                Some(Err(_)) => {
                    desk.no(webhook, "overloaded", StatusCode::REQUEST_TIMEOUT, "the review came too slowly")
                }
                None => desk.no(webhook, "overloaded", StatusCode::TOO_MANY_REQUESTS, "too many reviews at once"),
            }
        })
    };
    Router::new().route("/inject", route(Webhook::Inject)).route("/validate", route(Webhook::Validate)).with_state(desk)
}

impl Desk {
    async fn answer(&self, webhook: Webhook, headers: &HeaderMap, body: Body) -> Response {
        let whole = match self.room.read(body).await {
            Ok(whole) => whole,
            Err(unread) => return self.unread(webhook, unread),
        };
        // Only then: few clients read an answer before they have said all.
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            let reason = "a review is sent as application/json";
            return self.no(webhook, "malformed", StatusCode::UNSUPPORTED_MEDIA_TYPE, reason);
        }
        if whole.bytes.len() <= SMALL {
            return self.decide(webhook, &whole);
        }
        // Held until the work is done: of large reviews one is in the processor's way at a time.
        let Ok(turn) = self.large.clone().acquire_owned().await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let desk = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let answer = desk.decide(webhook, &whole);
            drop(turn);
            answer
        });
        work.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }

    fn decide(&self, webhook: Webhook, whole: &Whole) -> Response {
        let _timer = self.metrics.seconds.start_timer();
        let request = match Request::read(&whole.bytes) {
            Ok(request) => request,
            Err(reason) => return self.no(webhook, "malformed", StatusCode::BAD_REQUEST, &reason.to_string()),
        };
        match webhook {
            Webhook::Inject => {
                let outcome = self.injector.review(&request);
                let Some(verdict) = outcome.verdict() else {
                    let reason = format!("namespace {:?} is not known yet; ask again", request.namespace);
                    return self.no(webhook, outcome.word(), StatusCode::SERVICE_UNAVAILABLE, &reason);
                };
                self.metrics.count(webhook.word(), outcome.word());
                Json(verdict.answer(&request)).into_response()
            }
            Webhook::Validate => {
                let verdict = validation::review(&request);
                self.metrics.count(webhook.word(), if verdict.denied.is_some() { "denied" } else { "allowed" });
                Json(verdict.answer(&request)).into_response()
            }
        }
    }

    fn unread(&self, webhook: Webhook, unread: Unread) -> Response {
        match unread {
            Unread::TooLong => {
                let reason = format!("a review has at most {MAX_BODY} bytes");
                self.no(webhook, "malformed", StatusCode::PAYLOAD_TOO_LARGE, &reason)
            }
            Unread::Crowded => self.no(
                webhook,
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "too many large reviews at once; ask again",
            ),
            Unread::Cut => self.no(webhook, "malformed", StatusCode::BAD_REQUEST, "the review ended before its end"),
        }
    }

    /// One clear error, for the API server's log and the person behind it.
    fn no(&self, webhook: Webhook, outcome: &str, status: StatusCode, reason: &str) -> Response {
        self.metrics.count(webhook.word(), outcome);
        tracing::debug!(webhook = webhook.word(), outcome, reason, "a review is not answered");
        (status, format!("{reason}\n")).into_response()
    }
}

impl Webhook {
    fn word(self) -> &'static str {
        match self {
            Self::Inject => "inject",
            Self::Validate => "validate",
        }
    }
}
