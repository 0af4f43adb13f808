//! `/validate`: what control would refuse is refused while its author is looking, with the field and the reason. An object of
//! Istio's is never refused: it may say what an Istio understands and this mesh does not. Its author is warned.

use isthmus_core::resource::{ObjectError, parse_documents};
use serde_json::Value;

use super::review::{Request, Verdict};

/// What stands for the file in messages, and is left out of them.
const FILE: &str = "object";
/// The group of Istio's kinds that are read.
const ISTIO: &str = "networking.istio.io/";
/// Faults of one object that are said.
const MAX_FAULTS: usize = 10;

/// Reads an object as control would.
#[must_use]
pub fn review(request: &Request) -> Verdict {
    // What goes away, or only changes beside its content (finalizers, status), must not be held up by what it says.
    let content = |object: &Value| object.get("spec").cloned();
    let is_unchanged = !request.old_object.is_null() && content(&request.old_object) == content(&request.object);
    let goes_away = request.object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null());
    if request.object.is_null() || is_unchanged || goes_away || !request.sub_resource.is_empty() {
        return Verdict::allowed();
    }
    // In lines, because messages quote the line.
    let Ok(text) = serde_json::to_string_pretty(&request.object) else { return Verdict::allowed() };
    let mut faults = vec![];
    for parsed in parse_documents(FILE, &text) {
        let errors = parsed.err().unwrap_or_default();
        if let Some(ObjectError { reason, .. }) = errors.iter().find(|error| error.field == "kind") {
            return Verdict::warned(format!("{reason}: it has no effect on the mesh"));
        }
        faults.extend(errors.iter().map(|error| fault(&error.field, &error.reason)));
    }
    if faults.is_empty() {
        return Verdict::allowed();
    }
    faults.truncate(MAX_FAULTS);
    let said = faults.join("; ");
    let version = request.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version.starts_with(ISTIO) {
        return Verdict::warned(format!("Isthmus takes nothing of it, and keeps what was good before: {said}"));
    }
    Verdict::denied(said)
}

fn fault(field: &str, reason: &str) -> String {
    if field.is_empty() { reason.to_owned() } else { format!("{field}: {reason}") }
}
