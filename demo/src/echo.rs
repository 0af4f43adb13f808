//! Says what it received, by whatever protocol.
//!
//! `/status/<code>` answers so, `/delay/<milliseconds>` answers later, `/bytes/<n>` answers n bytes; every other path
//! answers [`Received`] as JSON.

pub mod grpc;
pub mod tcp;
pub mod websocket;

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use crate::{
    config::Itself,
    reply::{self, Reply},
};

/// Bodies up to here are given back, bytes.
const LONGEST_BODY: usize = 1 << 20;
/// The longest `/bytes`.
const LONGEST_ANSWER: usize = 64 << 20;
/// The longest `/delay`.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What came, and to whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Received {
    /// `http/1.1`, `http/2`, `websocket`.
    pub protocol: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Host or authority.
    pub host: String,
    /// Header lines by lower-case name; several joined by a comma.
    pub headers: BTreeMap<String, String>,
    /// The caller, from `x-forwarded-client-cert`.
    pub peer_identity: Option<String>,
    /// Who received it.
    #[serde(flatten)]
    pub by: Itself,
    /// The body as text.
    pub body: String,
}

impl Received {
    pub(crate) fn of<B>(itself: &Itself, request: &Request<B>) -> Self {
        let protocol = if request.version() == Version::HTTP_2 { "http/2" } else { "http/1.1" };
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        Self {
            protocol: protocol.into(),
            method: request.method().to_string(),
            path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            host: host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap_or_default(),
            headers: lines(request.headers()),
            peer_identity: peer_identity(request.headers()),
            by: itself.clone(),
            body: String::new(),
        }
    }
}

pub(crate) fn lines(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        lines
            .entry(name.as_str().to_owned())
            .and_modify(|line| {
                line.push(',');
                line.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    lines
}

/// The URI of the last element of `x-forwarded-client-cert` (Envoy's format): the one the own sidecar wrote.
pub(crate) fn peer_identity(headers: &HeaderMap) -> Option<String> {
    let line = headers.get_all("x-forwarded-client-cert").iter().next_back()?.to_str().ok()?;
    let last = line.rsplit(',').next()?;
    let uri = last.split(';').find_map(|pair| pair.trim().strip_prefix("URI="))?;
    Some(uri.trim_matches('"').to_owned())
}

pub(crate) async fn answer(itself: &Itself, request: Request<Incoming>) -> Reply {
    if websocket::is_upgrade(request.headers()) {
        return websocket::answer(itself, request);
    }
    let path = request.uri().path().to_owned();
    match path.trim_start_matches('/').split_once('/') {
        Some(("status", code)) => {
            let code = code.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok());
            return code.filter(|code| !code.is_informational()).map_or_else(
                || reply::text(StatusCode::BAD_REQUEST, "no such status"),
                |code| reply::text(code, code.to_string()),
            );
        }
        Some(("delay", millis)) => {
            let delay = Duration::from_millis(millis.parse().unwrap_or(0));
            tokio::time::sleep(delay.min(LONGEST_DELAY)).await;
        }
        Some(("bytes", count)) => {
            let count = count.parse().unwrap_or(0).min(LONGEST_ANSWER);
            return reply::reply(StatusCode::OK, "application/octet-stream", vec![b'i'; count]);
        }
        _ => {}
    }
    received(itself, request).await
}

async fn received(itself: &Itself, request: Request<Incoming>) -> Reply {
    let mut received = Received::of(itself, &request);
    match Limited::new(request.into_body(), LONGEST_BODY).collect().await {
        Ok(body) => {
            received.body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            reply::json(StatusCode::OK, &received)
        }
        Err(reason) => reply::text(StatusCode::PAYLOAD_TOO_LARGE, format!("the body was not read: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_who_the_last_proxy_says_it_is() {
        let mut headers = HeaderMap::new();
        let line = "By=spiffe://a/ns/x/sa/y;URI=spiffe://evil/ns/a/sa/b,By=z;Hash=1;URI=spiffe://good/ns/a/sa/b";
        headers.insert("x-forwarded-client-cert", line.parse().unwrap());
        assert_eq!(peer_identity(&headers).as_deref(), Some("spiffe://good/ns/a/sa/b"));
        headers.append("x-forwarded-client-cert", "URI=\"spiffe://last/ns/a/sa/b\"".parse().unwrap());
        assert_eq!(peer_identity(&headers).as_deref(), Some("spiffe://last/ns/a/sa/b"));
        assert_eq!(peer_identity(&HeaderMap::new()), None);
    }
}
