//! The kubelet's probes, asked through the sidecar.
//!
//! The kubelet has no identity of the mesh, so an application that takes nothing but mutual TLS would refuse it. A probe
//! of HTTP, TCP or gRPC becomes one of HTTP on the sidecar's health port, under a path of its own; the sidecar is told
//! what to ask the application. Commands run inside the container and are left alone.

mod handler;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::handler::Asked;
use crate::{status::Status, view::name, words::HEALTH_PORT};

/// The kinds of probe, and the last part of their paths.
const KINDS: [(&str, &str); 3] =
    [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")];
/// Lists of containers that may have probes; init containers may when they are sidecars.
const LISTS: [&str; 2] = ["initContainers", "containers"];
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
        let (key, asked) = match handler::asked(probe, container) {
            Asked::Here(key, asked) => (key, asked),
            Asked::Elsewhere => return,
            Asked::Wrong(reason) => {
                let field = format!("{kind} of container {}", name(container));
                self.warnings.push(format!("{field} {reason}; the probe stays as it is"));
                return;
            }
        };
        let (container_name, original) = (name(container).to_owned(), probe.get(key).cloned().unwrap_or_default());
        let path = path(&container_name, word);
        self.asked.insert(path.clone(), asked);
        let originals = self.originals.entry(container_name).or_default();
        originals.insert(kind.to_owned(), Map::from_iter([(key.to_owned(), original)]));
        if let Some(probe) = container.get_mut(kind).and_then(Value::as_object_mut) {
            probe.remove(key);
            probe.insert("httpGet".into(), json!({ "path": path, "port": HEALTH_PORT }));
        }
    }
}
