//! A CustomResourceDefinition of `deploy/crds`: the places of its schema, and a document that has something at each of them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

/// The definitions that the chart brings by default.
pub const DEFINITIONS: [&str; 4] = [
    "isthmus.dev_failoverpolicies.yaml",
    "isthmus.dev_meshclusters.yaml",
    "multicluster.x-k8s.io_serviceexports.yaml",
    "multicluster.x-k8s.io_serviceimports.yaml",
];
/// The key at which a sample has the one member of a map: a name of a cluster, and of a namespace, and of a label.
const KEY: &str = "us-west";

/// The folder `deploy`.
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The documents of one of its files.
pub fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(deploy().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_multiple_with_options(&text, options).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A definition.
pub struct Crd {
    /// Its file.
    pub file: String,
    definition: Value,
}

/// A place in a schema.
pub struct Node {
    /// As people write it: `spec.tiers[].name`, `{}` for the members of a map.
    pub path: String,
    /// Where the sample has it.
    pub pointer: String,
    schema: Value,
}

impl Crd {
    /// Reads one of `deploy/crds`.
    pub fn read(file: &str) -> Self {
        let definition = documents(&format!("crds/{file}")).remove(0);
        Self { file: file.to_owned(), definition }
    }

    fn schema(&self) -> &Value {
        &self.definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    }

    /// Every place of `spec`.
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes = vec![];
        walk(&self.schema()["properties"]["spec"], "spec".into(), "/spec".into(), &mut nodes);
        nodes
    }

    /// Whether an object without `spec` is refused.
    pub fn requires_spec(&self) -> bool {
        names(&self.schema()["required"]).contains("spec")
    }

    /// An object with something at every place.
    pub fn sample(&self) -> Value {
        let spec = &self.definition["spec"];
        let version = format!("{}/{}", spec["group"].as_str().unwrap(), spec["versions"][0]["name"].as_str().unwrap());
        json!({
            "apiVersion": version,
            "kind": spec["names"]["kind"],
            "metadata": {"name": KEY},
            "spec": sample(&self.schema()["properties"]["spec"]),
        })
    }
}

impl Node {
    /// Its path with the names of its properties or of its choices; `None`: it has neither.
    pub fn members(&self) -> Option<(String, BTreeSet<String>)> {
        let properties: BTreeSet<_> = self.properties().into_iter().map(|(name, _)| name).collect();
        let members = if properties.is_empty() { names(&self.schema["enum"]) } else { properties };
        (!members.is_empty()).then(|| (self.path.clone(), members))
    }

    /// Its properties, and whether each is required.
    pub fn properties(&self) -> Vec<(String, bool)> {
        let required = names(&self.schema["required"]);
        let properties = self.schema["properties"].as_object().into_iter().flatten();
        properties.map(|(name, _)| (name.clone(), required.contains(name))).collect()
    }

    /// The values it has to be one of.
    pub fn choices(&self) -> Vec<Value> {
        self.schema["enum"].as_array().cloned().unwrap_or_default()
    }

    /// Of a whole number, the least and the greatest.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        let is_whole = self.schema["type"] == "integer";
        is_whole.then(|| (self.schema["minimum"].as_i64().unwrap(), self.schema["maximum"].as_i64().unwrap()))
    }
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn walk(schema: &Value, path: String, pointer: String, nodes: &mut Vec<Node>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, format!("{path}.{name}"), format!("{pointer}/{name}"), nodes);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], format!("{path}[]"), format!("{pointer}/0"), nodes);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], format!("{path}{{}}"), format!("{pointer}/{KEY}"), nodes);
    }
    nodes.push(Node { path, pointer, schema: schema.clone() });
}

/// The example where there is one, else the simplest of its type.
fn sample(schema: &Value) -> Value {
    if let Some(value) = schema.get("example").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    match schema["type"].as_str().unwrap() {
        "string" => KEY.into(),
        "boolean" => true.into(),
        "integer" | "number" => 1.into(),
        "array" => vec![sample(&schema["items"])].into(),
        _ if schema["additionalProperties"].is_object() => json!({ KEY: sample(&schema["additionalProperties"]) }),
        _ => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, one)| (name.clone(), sample(one))).collect::<Map<_, _>>().into()
        }
    }
}
