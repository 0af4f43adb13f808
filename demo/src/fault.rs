//! An application that does badly on request, so that people can see what the mesh makes of it: `POST /fault` with
//! `{"delayMs": 300, "errorShare": 0.5}`; `{}` makes it well again.

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::reply::{self, Reply};

/// The path it is asked at.
pub(crate) const PATH: &str = "/fault";
/// The longest question.
const LONGEST: usize = 4096;

/// What is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Wrong {
    /// Every answer waits so long, milliseconds.
    delay_ms: u64,
    /// This part of the answers, 0 to 1, is a 500.
    error_share: f64,
}

/// What is wrong with this application now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<(Wrong, f64)>>);

impl Faults {
    /// Sets what is wrong.
    pub(crate) async fn set(&self, request: Request<Incoming>) -> Reply {
        let body = Limited::new(request.into_body(), LONGEST).collect().await;
        let asked = body.ok().and_then(|body| serde_json::from_slice::<Wrong>(&body.to_bytes()).ok());
        let Some(wrong) = asked.filter(|wrong| (0.0..=1.0).contains(&wrong.error_share)) else {
            let how = r#"write {"delayMs": 300, "errorShare": 0.5}, or {} to end it"#;
            return reply::text(StatusCode::BAD_REQUEST, how);
        };
        *self.0.lock() = (wrong, 0.0);
        reply::json(StatusCode::OK, &serde_json::json!({"delayMs": wrong.delay_ms, "errorShare": wrong.error_share}))
    }

    /// Does badly, if it is to; the answer that takes the place of the real one.
    pub(crate) async fn suffer(&self) -> Option<Reply> {
        let (delay, fails) = {
            let mut state = self.0.lock();
            // Evenly, not by chance: of a half every second one fails.
            state.1 += state.0.error_share;
            let fails = state.1 >= 1.0;
            if fails {
                state.1 -= 1.0;
            }
            (state.0.delay_ms, fails)
        };
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        fails.then(|| reply::text(StatusCode::INTERNAL_SERVER_ERROR, "it was told to fail at /fault"))
    }
}
