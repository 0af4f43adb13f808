//! The difference of two documents as a JSON Patch (RFC 6902), the form in which a webhook answers.

use json_patch::Patch;
use serde_json::Value;

/// What makes `after` of `before`.
#[must_use]
pub fn patch(before: &Value, after: &Value) -> Patch {
    json_patch::diff(before, after)
}
