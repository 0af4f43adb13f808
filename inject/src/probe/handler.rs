//! What a probe asks, and whether the sidecar can ask it in the kubelet's stead.
//!
//! What Kubernetes itself would refuse is not taken over: in a variable nobody would find it.

use serde_json::{Map, Value, json};

use crate::{
    view::name,
    words::{HEALTH_PORT, METRICS_PORT},
};

/// What the sidecar can ask.
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];
/// How long the kubelet waits where a probe does not say, seconds.
const DEFAULT_TIMEOUT: u64 = 1;
/// Longest time that Kubernetes takes, seconds.
const MAX_TIMEOUT: u64 = i32::MAX as u64;

/// What a probe asks.
pub(super) enum Asked {
    /// The application: by which handler, and in the words in which the sidecar is told.
    Here(&'static str, Value),
    /// Somebody else, or nobody by the network.
    Elsewhere,
    /// What cannot be asked, and why.
    Wrong(&'static str),
}

/// What a probe of a container asks.
pub(super) fn asked(probe: &Map<String, Value>, container: &Value) -> Asked {
    let handler = HANDLERS.iter().find_map(|key| Some((*key, probe.get(*key)?.as_object()?)));
    let Some((key, handler)) = handler else { return Asked::Elsewhere };
    // With a host the kubelet asks somebody else than this pod.
    if handler.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty()) {
        return Asked::Elsewhere;
    }
    let Some(port) = port(handler.get("port"), container) else {
        return Asked::Wrong("names a port that the container has not");
    };
    if [HEALTH_PORT, METRICS_PORT].contains(&port) {
        return Asked::Elsewhere;
    }
    if !is_well_formed(handler) {
        return Asked::Wrong("has a path, a scheme, a header or a service that none can be asked by");
    }
    let fields = handler.iter().filter(|(field, value)| *field != "host" && !value.is_null());
    let mut asked: Map<_, _> = fields.map(|(field, value)| (field.clone(), value.clone())).collect();
    asked.insert("port".into(), port.into());
    let timeout = probe.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(DEFAULT_TIMEOUT);
    Asked::Here(key, json!({ key: asked, "timeoutSeconds": timeout.min(MAX_TIMEOUT) }))
}

/// A port by number, or by the name that the container gives it.
fn port(port: Option<&Value>, container: &Value) -> Option<u16> {
    let number = match port? {
        Value::String(wanted) => {
            let ports = container.get("ports").and_then(Value::as_array)?;
            ports.iter().find(|port| name(port) == wanted)?.get("containerPort")?.as_u64()?
        }
        other => other.as_u64()?,
    };
    u16::try_from(number).ok().filter(|number| *number > 0)
}

/// Whether all but the port is what Kubernetes has there.
fn is_well_formed(handler: &Map<String, Value>) -> bool {
    handler.iter().all(|(field, value)| match (field.as_str(), value) {
        (_, Value::Null) => true,
        ("path", Value::String(path)) => path.bytes().all(is_of_path),
        ("scheme", Value::String(scheme)) => ["HTTP", "HTTPS"].contains(&scheme.as_str()),
        ("httpHeaders", Value::Array(headers)) => headers.iter().all(is_header),
        ("service", Value::String(_)) => true,
        ("path" | "scheme" | "httpHeaders" | "service", _) => false,
        _ => true,
    })
}

/// RFC 3986: what may stand in a path or a query as it is.
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

/// RFC 9110, 5.1 and 5.5.
fn is_header(header: &Value) -> bool {
    let text = |field| header.get(field).and_then(Value::as_str);
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    text("name").is_some_and(is_token)
        && text("value").is_some_and(|value| !value.chars().any(|letter| letter.is_control() && letter != '\t'))
}
