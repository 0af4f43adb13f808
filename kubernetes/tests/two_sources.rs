//! The same objects from a directory and from an API server compile to the same thing.
//!
//! `same/objects.yaml` was applied to a real API server (Kubernetes 1.35); `same/api.json` is what it then answered to `list`,
//! defaults, managed fields and all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use isthmus_core::{
    compile::{Compiled, Inputs, Setting, Workload, compile},
    model::{EndpointState, Resource},
    name::Locality,
    resource::{Body, Metadata, Object, parse_documents},
    statement::Gateways,
};
use isthmus_kubernetes::{Kind, Seen, arrived::Arrived, seen::Told};

const FILES: &str = include_str!("same/objects.yaml");
const ANSWERS: &str = include_str!("same/api.json");

fn parsed(file: &str, text: &str) -> Vec<Object> {
    let parsed =
        parse_documents(file, text).into_iter().map(|object| object.unwrap_or_else(|errors| panic!("{errors:?}")));
    let bare =
        |object: Object| Object { metadata: Metadata { created_ms: None, ..object.metadata }, line: 0, ..object };
    parsed.map(bare).collect()
}

fn of_files() -> Vec<Object> {
    parsed("objects.yaml", FILES)
}

fn of_api() -> Vec<Object> {
    let answers: BTreeMap<Kind, Vec<serde_json::Value>> = serde_json::from_str(ANSWERS).unwrap();
    let mut seen = Seen::default();
    for (kind, items) in answers {
        let read = |item| Arrived::of(kind, serde_json::from_value(item).unwrap()).unwrap();
        seen.take(Told::All(kind, items.into_iter().map(read).collect()));
    }
    seen.documents().flat_map(|(file, text)| parsed(file, text)).collect()
}

fn workload(id: &str, app: &str, port: u16) -> Workload {
    Workload {
        id: id.parse().unwrap(),
        identity: format!("spiffe://us-east.mesh.test/ns/bookinfo/sa/{app}").parse().unwrap(),
        labels: [("app".to_owned(), app.to_owned()), ("version".to_owned(), "1".to_owned())].into(),
        address: "10.41.1.3:15006".parse().unwrap(),
        locality: Locality::default(),
        state: EndpointState::Ready,
        weight: 1,
        ports: [("web".to_owned(), port)].into(),
    }
}

fn compiled(objects: &[Object]) -> Compiled {
    let setting = Setting {
        mesh: "mesh.test".parse().unwrap(),
        cluster: "us-east".parse().unwrap(),
        region: "us-east".into(),
        zones: vec![],
        nodes: BTreeMap::new(),
        gateways: vec![],
        advertise: Gateways::default(),
        member: None,
        roots: vec!["root".into()],
    };
    compile(&Inputs {
        setting: &setting,
        // The name of a file is in findings alone.
        objects: objects.iter().map(|object| ("f", object)).collect(),
        workloads: &[workload("reviews-1", "reviews", 9080), workload("reviews-2", "reviews", 9082)],
        others: &BTreeMap::new(),
        indexes: &BTreeMap::new(),
        operators: &[],
        born: &BTreeMap::new(),
        pins: &BTreeMap::new(),
    })
}

fn key(object: &Object) -> (String, String, String) {
    let kind = format!("{:?}", std::mem::discriminant(&object.body));
    (kind, object.metadata.namespace.clone(), object.metadata.name.clone())
}

#[test]
fn the_same_objects_from_either_source_compile_to_the_same() {
    let (files, api) = (compiled(&of_files()), compiled(&of_api()));
    assert_eq!(files, api);
    assert_eq!(files.findings.len(), 1, "the UDP port of an exported service: {:?}", files.findings);
    let Some(Resource::Endpoints(ledger)) = files.resources.get("endpoints/bookinfo/ledger") else { panic!() };
    let [endpoint] = ledger.local.as_slice() else { panic!("of the two addresses one is of the mesh: {ledger:?}") };
    assert_eq!(endpoint.state, EndpointState::Ready, "it is not, and its Service publishes it all the same");
    assert_eq!(endpoint.targets, BTreeMap::from([(5432, 5433)]));
    assert!(files.contents.len() > 5 && files.resources.contains_key("service/bookinfo/reviews"));
}

#[test]
fn objects_are_equal_but_for_the_defaults_that_an_api_server_writes_into_services() {
    let (mut files, mut api) = (of_files(), of_api());
    files.sort_by_key(key);
    api.sort_by_key(key);
    assert_eq!(files.len(), api.len());
    for (file, api) in files.iter().zip(&api) {
        match (&file.body, &api.body) {
            (Body::Service(file), Body::Service(api)) => {
                assert_eq!((&file.selector, file.addresses()), (&api.selector, api.addresses()));
            }
            _ => assert_eq!(file.body, api.body),
        }
        assert_eq!(file.metadata.name, api.metadata.name);
        assert_eq!(file.metadata.annotations, api.metadata.annotations);
    }
}
