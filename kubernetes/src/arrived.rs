//! An object as the API server has it, to the little of it that is read. All else is dropped here, before it is kept.
//!
//! What files have too becomes a document of the very form that files have (JSON is YAML), so that one parser reads both
//! and both give equal objects. Of its metadata only the fields that mean something are in it: what the API server and
//! other controllers add (versions, managed fields, owners, what was applied last) would make it differ for nothing.

use std::collections::BTreeMap;

use isthmus_core::{name::Locality, resource::slice};
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use crate::{
    exposed::{Exposing, is_gateways},
    kind::Kind,
    node::Node,
    pod::Pod,
    status::Standing,
};

/// What `kubectl apply` remembers for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// A node's region, and a pod's.
pub(crate) const REGION: &str = "topology.kubernetes.io/region";
/// A node's zone, and a pod's.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its namespace; empty: it is the cluster's.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Place {
    /// Of an object.
    #[must_use]
    pub fn of(object: &DynamicObject) -> Self {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        Self { namespace: text(&object.metadata.namespace), name: text(&object.metadata.name) }
    }

    /// What stands where a file's name would: `Service/bookinfo/reviews`, `Namespace/bookinfo`.
    #[must_use]
    pub fn file(&self, kind: Kind) -> String {
        match self.namespace.as_str() {
            "" => format!("{kind}/{}", self.name),
            namespace => format!("{kind}/{namespace}/{}", self.name),
        }
    }
}

/// What is read of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// What a file would have.
    Document(String),
    /// A Service: what a file would have, and how it exposes the gateways.
    Service {
        /// The document.
        text: String,
        /// `None`: it is not the gateways', or nobody outside reaches it.
        exposing: Option<Exposing>,
    },
    /// A pod; `None`: it ran to its end.
    Pod(Option<Pod>),
    /// A node.
    Node(Node),
}

/// An object that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// Where it is.
    pub place: Place,
    /// What is read of it.
    pub read: Read,
    /// How it stands, where that is ours to say.
    pub standing: Option<Standing>,
}

impl Arrived {
    /// Reads an object.
    ///
    /// # Errors
    /// When it is not as its API has it.
    pub fn of(kind: Kind, object: DynamicObject) -> Result<Self, serde_json::Error> {
        let place = Place::of(&object);
        let standing = Standing::read(kind, &object);
        let read = match kind {
            Kind::Pod => {
                let is_deleted = object.metadata.deletion_timestamp.is_some();
                Read::Pod(Pod::read(object.metadata.labels.unwrap_or_default(), is_deleted, object.data)?)
            }
            Kind::Node => Read::Node(Node::read(object.metadata.labels.as_ref(), object.data)?),
            Kind::Service => {
                let label = |name: &str| object.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
                let exposing = if is_gateways(label) { Exposing::read(&object.data)? } else { None };
                Read::Service { text: document(kind, &place, object)?, exposing }
            }
            _ => Read::Document(document(kind, &place, object)?),
        };
        Ok(Self { place, read, standing })
    }
}

/// Where a node or a pod is, as its labels say.
pub(crate) fn locality(labels: Option<&BTreeMap<String, String>>) -> Locality {
    let label = |name: &str| labels.and_then(|labels| labels.get(name)).cloned().unwrap_or_default();
    Locality { region: label(REGION), zone: label(ZONE) }
}

fn document(kind: Kind, place: &Place, object: DynamicObject) -> Result<String, serde_json::Error> {
    let mut whole = match object.data {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    whole.remove("status");
    if kind == Kind::Namespace {
        whole.remove("spec");
    }
    let (mut labels, mut annotations) =
        (object.metadata.labels.unwrap_or_default(), object.metadata.annotations.unwrap_or_default());
    if kind == Kind::EndpointSlice {
        whole.get_mut("endpoints").into_iter().for_each(only_addresses);
        labels.retain(|label, _| label == slice::SERVICE);
        // Controllers write there when they changed it last.
        annotations.clear();
    }
    let version = object.types.map_or_else(|| kind.resource("v1").api_version, |types| types.api_version);
    whole.insert("apiVersion".into(), version.into());
    whole.insert("kind".into(), kind.word().into());
    annotations.remove(LAST_APPLIED);
    let mut metadata = Map::from_iter([("name".to_owned(), Value::from(place.name.as_str()))]);
    if !place.namespace.is_empty() {
        metadata.insert("namespace".into(), place.namespace.as_str().into());
    }
    metadata.insert("labels".into(), json!(labels));
    metadata.insert("annotations".into(), json!(annotations));
    if kind == Kind::FailoverPolicy {
        // Of two policies the older may win.
        metadata.insert("creationTimestamp".into(), json!(object.metadata.creation_timestamp));
    }
    whole.insert("metadata".into(), metadata.into());
    // A line a field, because errors quote the line they are in.
    serde_json::to_string_pretty(&whole)
}

/// Of a slice's endpoints what is read: where they are is their pods' word.
fn only_addresses(endpoints: &mut Value) {
    for endpoint in endpoints.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        endpoint.retain(|field, _| field == "addresses" || field == "conditions");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(kind: Kind, object: Value) -> Arrived {
        Arrived::of(kind, serde_json::from_value(object).unwrap()).unwrap()
    }

    fn service() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "gateway", "namespace": "mesh", "uid": "1", "resourceVersion": "7",
                "labels": {"a": "no", "app.kubernetes.io/name": "isthmus", "app.kubernetes.io/component": "gateway"},
                "annotations": {LAST_APPLIED: "{}", "isthmus.dev/global": "true"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"hostname": "lb.example"}]}},
        })
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_how_the_gateways_are_exposed_is_kept() {
        let Arrived { place, read: Read::Service { text, exposing }, .. } = arrived(Kind::Service, service()) else {
            panic!()
        };
        assert_eq!(place.file(Kind::Service), "Service/mesh/gateway");
        assert!(exposing.is_some());
        let mut of_others = service();
        of_others["metadata"]["labels"] = json!({});
        assert!(matches!(arrived(Kind::Service, of_others).read, Read::Service { exposing: None, .. }));
        for dropped in ["managedFields", "last-applied", "resourceVersion", "uid", "status"] {
            assert!(!text.contains(dropped), "{dropped} is in {text}");
        }
        let object = isthmus_core::resource::parse_documents("f", &text).remove(0).unwrap();
        assert_eq!(object.metadata.annotations["isthmus.dev/global"], "true");
        assert_eq!(object.metadata.labels["a"], "no");
    }

    #[test]
    fn what_only_a_controller_changed_gives_the_same_document() {
        let mut other = service();
        other["metadata"]["resourceVersion"] = "8".into();
        other["metadata"]["managedFields"] = json!([]);
        assert_eq!(arrived(Kind::Service, service()), arrived(Kind::Service, other));
    }

    #[test]
    fn of_a_slice_only_addresses_their_conditions_and_ports_are_kept() {
        let slice = |time: &str, node: &str| {
            let labels = json!({slice::SERVICE: "db", "of": node});
            let annotations = json!({"endpoints.kubernetes.io/last-change-trigger-time": time});
            let endpoint = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": node});
            let metadata = json!({"name": "db-1", "namespace": "shop", "labels": labels, "annotations": annotations});
            let ports = json!([{"name": "sql", "port": 5432}]);
            json!({"metadata": metadata, "addressType": "IPv4", "endpoints": [endpoint], "ports": ports})
        };
        let first = arrived(Kind::EndpointSlice, slice("1", "n1"));
        assert_eq!(first, arrived(Kind::EndpointSlice, slice("2", "n2")));
        let Read::Document(text) = first.read else { panic!() };
        let object = isthmus_core::resource::parse_documents("f", &text).remove(0).unwrap();
        let isthmus_core::resource::Body::EndpointSlice(read) = object.body else { panic!() };
        assert_eq!(read.service.as_deref(), Some("db"));
        assert_eq!((read.endpoints[0].conditions.ready, read.ports[0].port), (Some(true), Some(5432)));
    }

    #[test]
    fn it_is_kept_when_a_policy_came_to_be() {
        let policy = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "FailoverPolicy", "spec": {},
            "metadata": {"name": "p", "namespace": "n", "creationTimestamp": "2026-01-02T03:04:05Z"}});
        let Read::Document(text) = arrived(Kind::FailoverPolicy, policy).read else { panic!() };
        let object = isthmus_core::resource::parse_documents("f", &text).remove(0).unwrap();
        assert_eq!(object.metadata.created_ms, Some(1_767_323_045_000));
    }

    #[test]
    fn an_object_of_the_cluster_has_no_namespace_in_its_name() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let Arrived { place, read: Read::Document(text), .. } = arrived(Kind::Namespace, namespace) else { panic!() };
        assert_eq!(place.file(Kind::Namespace), "Namespace/shop");
        assert!(!text.contains("finalizers"), "{text}");
    }

    #[test]
    fn a_list_leaves_out_what_its_items_are_and_the_kind_is_put_back() {
        let export = json!({"apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceExport",
            "metadata": {"name": "a", "namespace": "n"}});
        let mut bare = service();
        bare.as_object_mut().unwrap().remove("apiVersion");
        bare.as_object_mut().unwrap().remove("kind");
        assert_eq!(arrived(Kind::Service, bare), arrived(Kind::Service, service()));
        let Read::Document(text) = arrived(Kind::ServiceExport, export).read else { panic!() };
        assert!(isthmus_core::resource::parse_documents("f", &text)[0].is_ok(), "{text}");
    }
}
