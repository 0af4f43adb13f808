//! Answers: one body type for all, and who answered in each.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde::Serialize;

use crate::config::Itself;

/// What bodies fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of any kind.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// An answer.
pub type Reply = Response<Body>;

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of this status, type and body.
pub fn reply(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full(bytes));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(bytes) => reply(status, "application/json", bytes),
        Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, reason.to_string()),
    }
}

/// Text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    reply(status, "text/plain; charset=utf-8", text)
}

/// Says in the answer's headers who answered.
pub fn sign(itself: &Itself, reply: &mut Reply) {
    let by = [
        ("x-served-by", &itself.workload),
        ("x-served-version", &itself.version),
        ("x-served-cluster", &itself.cluster),
        ("x-served-zone", &itself.zone),
    ];
    for (name, value) in by {
        if let Ok(value) = HeaderValue::from_str(value) {
            reply.headers_mut().insert(name, value);
        }
    }
}
