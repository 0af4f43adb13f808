//! A document as a pod: what is looked at, by name. A field that is missing and one that is `null` are the same, as for
//! the API server.

use std::collections::BTreeMap;

use isthmus_core::owner::workload;
use serde_json::{Map, Value};

/// A pod, or the template of one.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a>(pub &'a Value);

/// Why a document cannot be read as a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}, not {expected}: this is no pod")]
pub struct Misshapen {
    /// The field as a path.
    pub field: String,
    /// What stands there.
    found: &'static str,
    /// What should.
    expected: &'static str,
}

impl<'a> Pod<'a> {
    /// Checks the shape of all that injection touches; afterwards nothing is of an unexpected kind.
    ///
    /// # Errors
    /// [`Misshapen`] names the first field that is.
    pub fn checked(document: &'a Value) -> Result<Self, Misshapen> {
        object("the document", document)?;
        let member = |parent: &'a Value, key| parent.get(key).unwrap_or(&Value::Null);
        let (metadata, spec) = (member(document, "metadata"), member(document, "spec"));
        optional("metadata", metadata)?;
        object("spec", spec)?;
        for (key, map) in [("labels", member(metadata, "labels")), ("annotations", member(metadata, "annotations"))] {
            optional(&format!("metadata.{key}"), map)?;
            for (name, value) in map.as_object().into_iter().flatten() {
                text(&format!("metadata.{key}[{name:?}]"), value)?;
            }
        }
        optional("spec.securityContext", member(spec, "securityContext"))?;
        for key in ["containers", "initContainers", "volumes"] {
            let field = format!("spec.{key}");
            for (index, item) in list(&field, member(spec, key))?.iter().enumerate() {
                object(&format!("{field}[{index}]"), item)?;
                text(&format!("{field}[{index}].name"), member(item, "name"))?;
                list(&format!("{field}[{index}].ports"), member(item, "ports"))?;
            }
        }
        Ok(Self(document))
    }

    /// Its namespace, if it says one.
    #[must_use]
    pub fn namespace(self) -> Option<&'a str> {
        self.0.pointer("/metadata/namespace").and_then(Value::as_str)
    }

    /// The workload that it is of, by the object that controls it; `None`: nothing does.
    #[must_use]
    pub fn workload(self) -> Option<&'a str> {
        let mut owners = self.0.pointer("/metadata/ownerReferences")?.as_array()?.iter();
        let owner = owners.find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
        let text = |key| owner.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(workload(text("kind")?, text("name")?, |label| self.label(label)))
    }

    /// One of its labels.
    #[must_use]
    pub fn label(self, key: &str) -> Option<&'a str> {
        self.0.get("metadata")?.get("labels")?.get(key)?.as_str()
    }

    /// One of its annotations.
    #[must_use]
    pub fn annotation(self, key: &str) -> Option<&'a str> {
        self.0.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    /// All its annotations.
    #[must_use]
    pub fn annotations(self) -> BTreeMap<&'a str, &'a str> {
        self.texts("/metadata/annotations").collect()
    }

    /// All its labels.
    #[must_use]
    pub fn labels(self) -> BTreeMap<&'a str, &'a str> {
        self.texts("/metadata/labels").collect()
    }

    fn texts(self, pointer: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let all = self.0.pointer(pointer).and_then(Value::as_object);
        all.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// Whether it uses the node's network.
    #[must_use]
    pub fn is_on_host_network(self) -> bool {
        self.0.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true)
    }

    /// Whether its node runs Windows, by its own word or by the nodes that it may run on.
    #[must_use]
    pub fn is_for_windows(self) -> bool {
        let places =
            ["/spec/os/name", "/spec/nodeSelector/kubernetes.io~1os", "/spec/nodeSelector/beta.kubernetes.io~1os"];
        places.into_iter().any(|place| self.0.pointer(place).and_then(Value::as_str) == Some("windows"))
    }

    /// Containers of the application, init containers first, as they start.
    pub fn containers(self) -> impl Iterator<Item = &'a Value> {
        ["/spec/initContainers", "/spec/containers"].into_iter().flat_map(move |list| self.list(list))
    }

    /// Its volumes.
    pub fn volumes(self) -> impl Iterator<Item = &'a Value> {
        self.list("/spec/volumes")
    }

    fn list(self, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.0.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
    }
}

/// The name of a container or volume.
#[must_use]
pub fn name(item: &Value) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The object at `key`, made when it is missing.
pub fn object_at<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = parent.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

/// The list at `key`, made when it is missing.
pub fn list_at<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    let slot = parent.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}

fn object(field: &str, value: &Value) -> Result<(), Misshapen> {
    if value.is_object() { Ok(()) } else { Err(misshapen(field, value, "an object")) }
}

fn optional(field: &str, value: &Value) -> Result<(), Misshapen> {
    if value.is_null() { Ok(()) } else { object(field, value) }
}

fn text(field: &str, value: &Value) -> Result<(), Misshapen> {
    if value.is_string() { Ok(()) } else { Err(misshapen(field, value, "a text")) }
}

fn list<'a>(field: &str, value: &'a Value) -> Result<&'a [Value], Misshapen> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(misshapen(field, value, "a list")),
    }
}

fn misshapen(field: &str, value: &Value, expected: &'static str) -> Misshapen {
    let found = match value {
        Value::Null => "missing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Misshapen { field: field.to_owned(), found, expected }
}
