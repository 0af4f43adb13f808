//! `AdmissionReview` of `admission.k8s.io/v1`: read, and answered.
//!
//! Source: Kubernetes, "Dynamic Admission Control", request and response.

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_inject::patch;
use serde::Deserialize;
use serde_json::{Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// Longest warning that the API server passes on, characters; and how many are said (it cuts at 4,096 characters).
const MAX_WARNING: usize = 256;
const MAX_WARNINGS: usize = 15;
/// Longest reason of a denial, characters: a person reads it.
const MAX_REASON: usize = 2048;

/// Why a text is no review. The API server treats it as a webhook that failed.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is no JSON, or not of the review's shape.
    #[error("this is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// It is something else.
    #[error("this is a {kind:?} of {api_version:?}, not an AdmissionReview of {API_VERSION}")]
    Other {
        /// What it says it is.
        api_version: String,
        /// What it says it is.
        kind: String,
    },
    /// It asks nothing.
    #[error("this AdmissionReview has no request")]
    Empty,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    request: Option<Request>,
}

/// What the API server asks. Fields that are not looked at are let through unread.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Names the request in its answer.
    pub uid: String,
    /// What the object is.
    #[serde(default)]
    pub kind: Kind,
    /// `status`, `ephemeralcontainers` and so on; empty: the object itself.
    #[serde(default)]
    pub sub_resource: String,
    /// The object's namespace; empty: none.
    #[serde(default)]
    pub namespace: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(default)]
    pub operation: String,
    /// The object as it would be.
    #[serde(default)]
    pub object: Value,
    /// The object as it is.
    #[serde(default)]
    pub old_object: Value,
    /// Whether nothing comes of it anyway.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// Group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Kind {
    /// The group; empty: Kubernetes' own.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind.
    pub kind: String,
}

impl Request {
    /// Reads a review.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let Review { api_version, kind, request } = serde_json::from_slice(bytes)?;
        if (api_version.as_str(), kind.as_str()) != (API_VERSION, KIND) {
            let short = |text: String| text.chars().take(MAX_WARNING).collect();
            return Err(Malformed::Other { api_version: short(api_version), kind: short(kind) });
        }
        request.ok_or(Malformed::Empty)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Why not; none: it may be.
    pub denied: Option<String>,
    /// The object as it shall be instead.
    pub changed: Option<Value>,
    /// What the person who asked should know, in a sentence each.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// It may be as it is.
    #[must_use]
    pub fn allowed() -> Self {
        Self::default()
    }

    /// It may be as it is, and there is something to say about it.
    #[must_use]
    pub fn warned(warning: String) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }

    /// It must not be.
    #[must_use]
    pub fn denied(reason: String) -> Self {
        Self { denied: Some(reason), ..Self::default() }
    }

    /// As the API server reads it.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Value {
        let mut response = json!({ "uid": request.uid, "allowed": self.denied.is_none() });
        let mut say = |key: &str, value: Value| {
            if let Some(fields) = response.as_object_mut() {
                fields.insert(key.to_owned(), value);
            }
        };
        if let Some(reason) = &self.denied {
            let message = cut(reason, MAX_REASON);
            say("status", json!({ "status": "Failure", "reason": "Invalid", "code": 422, "message": message }));
        } else if let Some(changed) = &self.changed {
            let patch = patch(&request.object, changed);
            if !patch.0.is_empty() {
                // A patch is operations on JSON: it always has a text.
                let text = serde_json::to_vec(&patch).unwrap_or_default();
                say("patchType", "JSONPatch".into());
                say("patch", STANDARD.encode(text).into());
            }
        }
        if !self.warnings.is_empty() {
            say("warnings", self.warnings.iter().take(MAX_WARNINGS).map(|text| cut(text, MAX_WARNING)).collect());
        }
        json!({ "apiVersion": API_VERSION, "kind": KIND, "response": response })
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}
