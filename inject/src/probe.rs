//! The kubelet's probes, asked through the sidecar.
//!
//! The kubelet has no identity of the mesh, so an application that takes nothing but mutual TLS would refuse it. A probe
//! of HTTP, TCP or gRPC becomes one of HTTP on the sidecar's health port, under a path of its own; the sidecar is told
//! what to ask the application. Commands run inside the container and are left alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    status::Status,
    view::name,
    words::{HEALTH_PORT, METRICS_PORT},
};

/// The kinds of probe, and the last part of their paths.
const KINDS: [(&str, &str); 3] =
    [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")];
/// What the sidecar can ask in the kubelet's stead.
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];
/// Lists of containers that may have probes; init containers may when they are sidecars.
const LISTS: [&str; 2] = ["initContainers", "containers"];
/// How long the kubelet waits where a probe does not say, seconds.
const DEFAULT_TIMEOUT: u64 = 1;

/// What came of rewriting.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    /// By path: what the sidecar asks.
    pub(crate) asked: Map<String, Value>,
    /// By container and field: what the probe was.
    pub(crate) originals: BTreeMap<String, BTreeMap<String, Map<String, Value>>>,
    /// Probes that stay as they are although they should not.
    pub(crate) warnings: Vec<String>,
}

/// Rewrites the probes of all containers.
pub(crate) fn rewrite(pod: &mut Value) -> Rewritten {
    let mut rewritten = Rewritten::default();
    for container in containers(pod) {
        for (kind, word) in KINDS {
            rewritten.probe(container, kind, word);
        }
    }
    rewritten
}

/// Gives probes back what they asked before, unless somebody has changed them since.
pub(crate) fn restore(pod: &mut Value, status: &Status) {
    for container in containers(pod) {
        let container_name = name(container).to_owned();
        for (kind, word) in KINDS {
            let Some(original) = status.probes.get(&container_name).and_then(|probes| probes.get(kind)) else {
                continue;
            };
            let Some(probe) = container.get_mut(kind).and_then(Value::as_object_mut) else { continue };
            let asks = probe.get("httpGet").and_then(|get| get.get("path")).and_then(Value::as_str);
            if asks == Some(path(&container_name, word).as_str()) {
                probe.remove("httpGet");
                probe.extend(original.clone());
            }
        }
    }
}

fn containers(pod: &mut Value) -> Vec<&mut Value> {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return vec![] };
    let lists = spec.iter_mut().filter(|(key, _)| LISTS.contains(&key.as_str()));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten().collect()
}

fn path(container: &str, word: &str) -> String {
    format!("/app-health/{container}/{word}")
}

impl Rewritten {
    fn probe(&mut self, container: &mut Value, kind: &str, word: &str) {
        let Some(probe) = container.get(kind).and_then(Value::as_object) else { return };
        let handler = HANDLERS.iter().find_map(|key| Some((*key, probe.get(*key)?.as_object()?)));
        let Some((key, handler)) = handler else { return };
        // With a host the kubelet asks somebody else than this pod.
        if handler.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty()) {
            return;
        }
        let container_name = name(container).to_owned();
        let Some(port) = port(handler.get("port"), container) else {
            let field = format!("{kind} of container {container_name}");
            self.warnings.push(format!("{field} names a port that the container has not; the probe stays as it is"));
            return;
        };
        if [HEALTH_PORT, METRICS_PORT].contains(&port) {
            return;
        }
        let timeout = probe.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(DEFAULT_TIMEOUT);
        let (original, mut asked) = (Map::from_iter([(key.to_owned(), handler.clone().into())]), handler.clone());
        asked.insert("port".into(), port.into());
        let path = path(&container_name, word);
        self.asked.insert(path.clone(), json!({ key: asked, "timeoutSeconds": timeout }));
        self.originals.entry(container_name).or_default().insert(kind.to_owned(), original);
        if let Some(probe) = container.get_mut(kind).and_then(Value::as_object_mut) {
            probe.remove(key);
            probe.insert("httpGet".into(), json!({ "path": path, "port": HEALTH_PORT }));
        }
    }
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
