//! Asks over HTTP: admin endpoints for JSON, and anything through a sidecar's explicit proxy.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Answers are listings of a mesh; larger ones are a mistake.
const LONGEST_ANSWER: usize = 64 << 20;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// It answered, and does not do it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Nobody was reached, so nothing of the request was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreached(pub String);

/// One request on a connection of its own.
///
/// # Errors
/// When nobody listens, as [`Unreached`]; when no whole answer came within `limit`: then it may have been done.
pub async fn exchange(to: SocketAddr, request: Request<Full<Bytes>>, limit: Duration) -> Result<Answer> {
    let until = tokio::time::Instant::now() + limit;
    let stream = match tokio::time::timeout_at(until, TcpStream::connect(to)).await {
        Ok(stream) => stream.map_err(|error| Unreached(error.to_string()))?,
        Err(_) => return Err(Unreached(format!("no connection to {to} within {limit:?}")).into()),
    };
    let exchange = async {
        stream.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|e| anyhow!("{e}"))?.to_bytes();
        connection.abort();
        Ok::<_, anyhow::Error>(Answer { status: head.status, headers: head.headers, body })
    };
    match tokio::time::timeout_at(until, exchange).await {
        Ok(answer) => answer,
        Err(_) => bail!("nothing came from {to} within {limit:?}"),
    }
}

/// GETs a URL through a sidecar's explicit proxy.
///
/// # Errors
/// As [`exchange`].
pub async fn through(proxy: SocketAddr, url: &str, limit: Duration) -> Result<Answer> {
    let authority = url.parse::<http::Uri>()?.authority().map(ToString::to_string).unwrap_or_default();
    let request = Request::get(url).header(header::HOST, authority).body(Full::default())?;
    exchange(proxy, request, limit).await
}

/// GETs JSON of an admin endpoint.
///
/// # Errors
/// When it does not answer, or answers with an error: then the error is what it says, as [`Refused`].
pub async fn read(admin: SocketAddr, path: &str) -> Result<Value> {
    let request = Request::get(path).header(header::HOST, admin.to_string()).body(Full::default())?;
    value(exchange(admin, request, Duration::from_secs(10)).await?)
}

/// POSTs JSON to an admin endpoint.
///
/// # Errors
/// As [`read`].
pub async fn send(admin: SocketAddr, path: &str, body: &Value, limit: Duration) -> Result<Value> {
    let request = Request::post(path)
        .header(header::HOST, admin.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(serde_json::to_vec(body)?.into()))?;
    value(exchange(admin, request, limit).await?)
}

/// DELETEs at an admin endpoint, with JSON that says who and why.
///
/// # Errors
/// As [`read`].
pub async fn delete(admin: SocketAddr, path: &str, body: &Value, limit: Duration) -> Result<Value> {
    let request = Request::delete(path)
        .header(header::HOST, admin.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(serde_json::to_vec(body)?.into()))?;
    value(exchange(admin, request, limit).await?)
}

fn value(answer: Answer) -> Result<Value> {
    let text = String::from_utf8_lossy(&answer.body);
    let parsed = serde_json::from_str::<Value>(&text);
    if !answer.status.is_success() {
        let said = parsed.ok().and_then(|value| said(&value)).unwrap_or_else(|| text.trim().to_owned());
        let said = if said.is_empty() { answer.status.to_string() } else { said };
        return Err(Refused(said).into());
    }
    Ok(parsed.unwrap_or_else(|_| Value::String(text.trim().to_owned())))
}

/// The error in an answer's JSON, with its remedy.
fn said(value: &Value) -> Option<String> {
    let error = value.get("error").or_else(|| value.get("reason"))?.as_str()?;
    Some(match value.get("remedy").and_then(Value::as_str) {
        Some(remedy) if !remedy.is_empty() => format!("{error}; {remedy}"),
        _ => error.to_owned(),
    })
}
