//! What was added to a pod: the annotation by which it is taken out again, exactly.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    view::{Pod, name},
    words::{INJECTED, PREFIX, STATUS},
};

/// The release that injects.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What was added. A field that a later release writes and this one does not know is an error: what cannot be read
/// cannot be taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Status {
    /// The release that injected.
    pub version: String,
    /// Tells containers and volumes from those of other values or wishes.
    pub digest: String,
    /// Init containers.
    pub containers: BTreeSet<String>,
    /// Volumes.
    pub volumes: BTreeSet<String>,
    /// Whether `fsGroup` is ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fs_group: bool,
    /// Objects and lists that were made to put something in, as paths, parents first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<String>,
    /// By container and field: what the probe asked before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<String, BTreeMap<String, Map<String, Value>>>,
}

/// The annotation does not say what was added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata.annotations[{STATUS:?}] does not say what was added ({reason}); inject the pod as it was before, or \
     remove the annotation and all that begins with {PREFIX}"
)]
pub struct Damaged {
    reason: String,
}

/// All that may have been made, parents first.
const MADE: [&str; 6] = [
    "metadata",
    "metadata.labels",
    "metadata.annotations",
    "spec.securityContext",
    "spec.initContainers",
    "spec.volumes",
];

impl Status {
    /// What a pod says was added to it; none: nothing was.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn of(pod: Pod<'_>) -> Result<Option<Self>, Damaged> {
        let Some(text) = pod.annotation(STATUS) else { return Ok(None) };
        let damaged = |error: serde_json::Error| Damaged { reason: error.to_string() };
        serde_json::from_str(text).map(Some).map_err(damaged)
    }

    /// Whether it says the same of what was added. What was made for it may differ: others put something in since.
    pub(crate) fn adds_as(mut self, other: &Self) -> bool {
        self.made.clone_from(&other.made);
        self == *other
    }

    /// What is not there yet, and will be made.
    pub(crate) fn missing(pod: &Value) -> Vec<String> {
        let is_missing = |path: &str| pod.pointer(&pointer(path)).is_none_or(Value::is_null);
        MADE.into_iter().filter(|path| is_missing(path)).map(str::to_owned).collect()
    }

    /// Takes out of a pod what it says, but for the probes.
    pub(crate) fn take_out(&self, pod: &mut Value) {
        // Only what bears our name: an annotation that anyone can write takes nothing else away.
        let is_ours = |item: &Value, of: &BTreeSet<String>| name(item).starts_with(PREFIX) && of.contains(name(item));
        for (list, of) in [("/spec/initContainers", &self.containers), ("/spec/volumes", &self.volumes)] {
            if let Some(items) = pod.pointer_mut(list).and_then(Value::as_array_mut) {
                items.retain(|item| !is_ours(item, of));
            }
        }
        let mut remove = |parent: &str, key: &str| {
            if let Some(object) = pod.pointer_mut(parent).and_then(Value::as_object_mut) {
                object.remove(key);
            }
        };
        remove("/metadata/labels", INJECTED);
        remove("/metadata/annotations", STATUS);
        if self.fs_group {
            remove("/spec/securityContext", "fsGroup");
        }
        for path in MADE.into_iter().rev().filter(|path| self.made.iter().any(|made| made == path)) {
            remove_empty(pod, path);
        }
    }
}

/// Removes what is at a path if nothing is in it.
fn remove_empty(pod: &mut Value, path: &str) {
    let is_empty = match pod.pointer(&pointer(path)) {
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => false,
    };
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    if let Some(parent) = pod.pointer_mut(&pointer(parent)).and_then(Value::as_object_mut).filter(|_| is_empty) {
        parent.remove(key);
    }
}

/// A path as a JSON pointer; no field of it has a character that would have to be escaped.
fn pointer(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("/{}", path.replace('.', "/")) }
}
