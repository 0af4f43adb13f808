//! Pods of every kind, and documents that are none.

use proptest::{collection::vec, option, prelude::*, sample};
use serde_json::{Value, json};

/// Any JSON at all.
pub fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/~$()\\PC]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-zA-Z/~.]{1,8}", inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Some of the fields, and some that nobody knows.
fn some(fields: impl IntoIterator<Item = (&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> =
        fields.into_iter().map(|(key, value)| option::of(value.prop_map(move |value| (key, value)))).collect();
    let unknown = option::of(anything().prop_map(|value| ("x-unknown", value)));
    (fields, unknown)
        .prop_map(|(fields, unknown)| {
            fields.into_iter().chain([unknown]).flatten().map(|(key, value)| (key.to_owned(), value)).collect()
        })
        .boxed()
}

fn one_of(values: &'static [&'static str]) -> BoxedStrategy<Value> {
    sample::select(values).prop_map(Value::from).boxed()
}

fn port() -> BoxedStrategy<Value> {
    prop_oneof![(1u16..).prop_map(Value::from), one_of(&["web", "grpc", "nowhere"])].boxed()
}

fn probe() -> BoxedStrategy<Value> {
    let handler = some([("port", port()), ("path", one_of(&["/", "/$(A)"])), ("host", one_of(&["", "elsewhere"]))]);
    let timing = some([("timeoutSeconds", (1u8..9).prop_map(Value::from).boxed())]);
    let kind = sample::select(&["httpGet", "tcpSocket", "grpc", "exec"][..]);
    (kind, handler, timing)
        .prop_map(|(kind, handler, mut timing)| {
            timing[kind] = handler;
            timing
        })
        .boxed()
}

/// Containers or volumes, each name once.
fn named(item: BoxedStrategy<Value>, names: &'static [&'static str]) -> BoxedStrategy<Value> {
    let items = (sample::subsequence(names, 0..=names.len()), vec(item, names.len()));
    items
        .prop_map(|(names, items)| {
            let name = |(name, mut item): (&str, Value)| {
                item["name"] = name.into();
                item
            };
            names.into_iter().zip(items).map(name).collect()
        })
        .boxed()
}

fn container() -> BoxedStrategy<Value> {
    let ports = json!([{ "name": "web", "containerPort": 8080 }, { "name": "grpc", "containerPort": 9000 }]);
    some([
        ("image", one_of(&["a:1", "b@sha256:0"])),
        ("ports", Just(ports).boxed()),
        ("livenessProbe", probe()),
        ("readinessProbe", probe()),
        ("startupProbe", probe()),
        ("securityContext", some([("runAsUser", prop_oneof![Just(json!(1337)), Just(json!(0))].boxed())])),
    ])
}

fn texts(pairs: &'static [(&'static str, &'static str)]) -> BoxedStrategy<Value> {
    sample::subsequence(pairs, 0..=pairs.len())
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect())
        .boxed()
}

const LABELS: &[(&str, &str)] = &[("app", "a"), ("isthmus.dev/inject", "true"), ("a/b~c", "")];
const ANNOTATIONS: &[(&str, &str)] = &[
    ("proxy.istio.io/config", "{concurrency: 2, holdApplicationUntilProxyStarts: false, image: x}"),
    ("sidecar.istio.io/rewriteAppHTTPProbers", "false"),
    ("sidecar.istio.io/proxyCPU", "1500m"),
    ("isthmus.dev/interceptionMode", "NONE"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "1,2"),
    ("shop.example/note", "$(A) \" \\ é"),
];

pub fn pod() -> impl Strategy<Value = Value> {
    let spec = some([
        ("initContainers", named(container(), &["wait", "shipper"])),
        ("containers", named(container(), &["app", "exporter", "logger"])),
        ("volumes", named(some([("emptyDir", Just(json!({})).boxed())]), &["data", "tmp"])),
        ("securityContext", some([("fsGroup", Just(json!(2000)).boxed())])),
    ]);
    let metadata = some([("labels", texts(LABELS)), ("annotations", texts(ANNOTATIONS))]);
    (some([("metadata", metadata)]), spec).prop_map(|(mut pod, spec)| {
        pod["spec"] = spec;
        pod
    })
}
