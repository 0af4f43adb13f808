//! Which object, of whatever kind: as its document says, and as people read it.

use std::fmt;

use kube::{api::ApiResource, core::GroupVersionKind};
use serde_json::Value;

/// A kind by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKind {
    /// `apps/v1`, `v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
}

impl ObjectKind {
    /// Of its two names.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Self {
        Self { api_version: api_version.to_owned(), kind: kind.to_owned() }
    }

    /// Its API group; empty: the core one.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// As paths of the API server have it. Plurals of the kinds that we apply follow from their names.
    #[must_use]
    pub fn plural(&self) -> String {
        self.resource().plural
    }

    pub(crate) fn resource(&self) -> ApiResource {
        let version = self.api_version.rsplit('/').next().unwrap_or_default();
        ApiResource::from_gvk(&GroupVersionKind::gvk(self.group(), version, &self.kind))
    }
}

/// An object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace; none: it is the cluster's.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// An object of the cluster.
    #[must_use]
    pub fn cluster(api_version: &str, kind: &str, name: &str) -> Self {
        Self { kind: ObjectKind::new(api_version, kind), namespace: None, name: name.to_owned() }
    }

    /// An object of a namespace.
    #[must_use]
    pub fn namespaced(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::cluster(api_version, kind, name) }
    }

    /// Whose document this is; `None`: it names no kind or no name.
    #[must_use]
    pub fn of(document: &Value) -> Option<Self> {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let kind = ObjectKind::new(text("/apiVersion")?, text("/kind")?);
        let namespace = text("/metadata/namespace").map(ToOwned::to_owned);
        Some(Self { kind, namespace, name: text("/metadata/name")?.to_owned() })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.kind, self.name),
            None => write!(f, "{} {}", self.kind.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_says_whose_it_is_and_where_the_api_server_has_it() {
        let document =
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "a", "namespace": "b" } });
        let object = Reference::of(&document).unwrap();
        assert_eq!(object, Reference::namespaced("apps/v1", "Deployment", "b", "a"));
        assert_eq!((object.to_string(), object.kind.group()), ("Deployment b/a".into(), "apps"));
        assert_eq!(Reference::of(&json!({ "kind": "Pod" })), None);
        for (kind, plural) in [
            ("NetworkPolicy", "networkpolicies"),
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            ("StorageClass", "storageclasses"),
            ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
        ] {
            assert_eq!(ObjectKind::new("a/v1", kind).plural(), plural);
        }
        assert_eq!(ObjectKind::new("v1", "Pod").group(), "");
    }
}
