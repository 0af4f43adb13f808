//! What holds for every pod: nothing is lost, nothing is added twice, everything can be taken out again; and for every
//! document, pod or not: an answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use isthmus_inject::{
    Namespace, Values, decide, inject, patch, remove,
    words::{CAPTURE, INJECTED, PROXY, STATUS},
};
use proptest::{collection::vec, option, prelude::*, sample};
use serde_json::{Map, Value, json};

fn values() -> Values {
    Values::new("mesh.example".parse().unwrap(), "us-east".parse().unwrap())
}

/// Any JSON at all.
fn anything() -> impl Strategy<Value = Value> {
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

fn pod() -> impl Strategy<Value = Value> {
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

/// Whether all that `before` says is said by `after`, but for what a rewritten probe asks.
fn lost(path: &str, before: &Value, after: &Value) -> Option<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            let is_rewritten = path.contains("Probe.")
                && after.get("httpGet").is_some_and(|get| get.to_string().contains("/app-health/"));
            if is_rewritten && ["httpGet", "tcpSocket", "grpc"].contains(&key.as_str()) {
                return None;
            }
            after.get(key).map_or(Some(path.clone()), |after| lost(&path, value, after))
        }),
        // The pod's own items stay in order; ours are among them.
        (Value::Array(before), Value::Array(after)) => {
            let named = |item: &Value| item["name"].to_string().contains("isthmus-");
            let own: Vec<_> = after.iter().filter(|item| !named(item)).collect();
            let pairs = before.iter().zip(&own).enumerate();
            let inside = pairs.map(|(index, (before, after))| lost(&format!("{path}[{index}]"), before, after));
            inside.flatten().next().or_else(|| (own.len() != before.len()).then(|| path.to_owned()))
        }
        _ => (before != after).then(|| path.to_owned()),
    }
}

/// A pod as an older release would have left it: its own additions and images, and its name in the status.
fn by_older_release(injected: &Value) -> Value {
    let mut pod = injected.clone();
    let mut status: Value = serde_json::from_str(pod["metadata"]["annotations"][STATUS].as_str().unwrap()).unwrap();
    status["version"] = "0.0.1".into();
    status["containers"] = json!([PROXY, CAPTURE, "isthmus-relic"]);
    status["volumes"].as_array_mut().unwrap().push("isthmus-attic".into());
    pod["metadata"]["annotations"][STATUS] = status.to_string().into();
    pod["metadata"]["labels"][INJECTED] = "0.0.1".into();
    let containers = pod["spec"]["initContainers"].as_array_mut().unwrap();
    containers.iter_mut().filter(|one| one["name"] == PROXY).for_each(|proxy| proxy["image"] = "old:1".into());
    containers.push(json!({ "name": "isthmus-relic" }));
    pod["spec"]["volumes"].as_array_mut().unwrap().insert(0, json!({ "name": "isthmus-attic" }));
    pod
}

/// Every place of a document, as JSON pointers.
fn places(document: &Value) -> Vec<String> {
    fn walk(at: &str, value: &Value, into: &mut Vec<String>) {
        into.push(at.to_owned());
        let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| walk(&format!("{at}/{}", escaped(key)), value, into));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| walk(&format!("{at}/{index}"), item, into));
            }
            _ => {}
        }
    }
    let mut all = vec![];
    walk("", document, &mut all);
    all
}

fn answers(document: &Value) -> Result<(), TestCaseError> {
    let labels = BTreeMap::from([("istio-injection".to_owned(), "enabled".to_owned())]);
    let _ = decide(document, Namespace { name: "shop", labels: &labels }, &values());
    match inject(document, &values()) {
        Ok(injected) => {
            let mut patched = document.clone();
            json_patch::patch(&mut patched, &patch(document, &injected.pod)).unwrap();
            prop_assert_eq!(patched, injected.pod);
        }
        Err(error) => prop_assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

proptest! {
    #[test]
    fn nothing_is_lost_and_everything_can_be_taken_out_again(pod in pod()) {
        let injected = inject(&pod, &values()).unwrap().pod;
        prop_assert_eq!(lost("pod", &pod, &injected), None);
        prop_assert_eq!(remove(&injected).unwrap(), pod);
    }

    #[test]
    fn a_pod_is_injected_once_however_often(pod in pod()) {
        let once = inject(&pod, &values()).unwrap();
        let twice = inject(&once.pod, &values()).unwrap();
        prop_assert_eq!(once.pod.to_string(), twice.pod.to_string());
        prop_assert_eq!(once.warnings, twice.warnings);
    }

    #[test]
    fn an_older_injection_is_brought_up_to_date(pod in pod()) {
        let injected = inject(&pod, &values()).unwrap().pod;
        let updated = inject(&by_older_release(&injected), &values()).unwrap().pod;
        prop_assert_eq!(updated, injected);
    }

    #[test]
    fn the_patch_makes_the_one_of_the_other(before in pod(), after in pod()) {
        for after in [after, inject(&before, &values()).unwrap().pod] {
            let mut patched = before.clone();
            json_patch::patch(&mut patched, &patch(&before, &after)).unwrap();
            prop_assert_eq!(patched, after);
        }
    }

    #[test]
    fn a_pod_with_anything_in_any_place_gets_an_answer(
        pod in pod(), injected: bool, at in any::<sample::Index>(), wrong in anything()
    ) {
        let mut pod = if injected { inject(&pod, &values()).unwrap().pod } else { pod };
        let place = places(&pod).swap_remove(at.index(places(&pod).len()));
        *pod.pointer_mut(&place).unwrap() = wrong;
        answers(&pod)?;
    }

    #[test]
    fn any_document_at_all_gets_an_answer(document in anything()) {
        answers(&document)?;
        answers(&json!({ "metadata": document, "spec": document }))?;
    }
}

#[test]
fn what_others_put_in_stays_until_values_change_or_somebody_comes_first() {
    let pod = json!({ "spec": { "initContainers": [{ "name": "wait" }], "containers": [{ "name": "app" }] } });
    let mut injected = inject(&pod, &values()).unwrap().pod;
    // A limit range, the service account's token, a webhook that comes later.
    injected["spec"]["initContainers"][1]["resources"]["limits"]["cpu"] = "1".into();
    let token = json!({ "name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" });
    injected["spec"]["initContainers"][1]["volumeMounts"].as_array_mut().unwrap().push(token);
    injected["spec"]["volumes"].as_array_mut().unwrap().insert(0, json!({ "name": "kube-api-access" }));
    injected["spec"]["initContainers"].as_array_mut().unwrap().push(json!({ "name": "late" }));
    assert_eq!(inject(&injected, &values()).unwrap().pod, injected);
    let names = |pod: &Value| -> Vec<String> {
        let containers = pod["spec"]["initContainers"].as_array().unwrap();
        containers.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut overtaken = injected.clone();
    overtaken["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({ "name": "first" }));
    let again = inject(&overtaken, &values()).unwrap().pod;
    assert_eq!(names(&again), [CAPTURE, PROXY, "first", "wait", "late"]);
    let mut others = values();
    others.control_address = "elsewhere:15012".into();
    let changed = inject(&injected, &others).unwrap().pod;
    assert!(changed.to_string().contains("elsewhere:15012"));
    assert_eq!(names(&changed), names(&injected));
}

#[test]
fn a_status_that_anyone_can_write_takes_away_nothing_but_what_bears_our_name() {
    let status = json!({ "version": "1", "digest": "", "containers": ["app"], "volumes": ["data"], "made": ["spec.volumes", "spec"] });
    let pod = json!({
        "metadata": { "annotations": { STATUS: status.to_string() } },
        "spec": { "initContainers": [{ "name": "app" }], "volumes": [{ "name": "data" }] },
    });
    let removed = remove(&pod).unwrap();
    assert_eq!(removed["spec"], pod["spec"]);
    let mut damaged = pod;
    damaged["metadata"]["annotations"] = Map::from_iter([(STATUS.to_owned(), json!("{}"))]).into();
    let error = inject(&damaged, &values()).unwrap_err().to_string();
    assert!(error.contains(STATUS) && error.contains("version"), "{error}");
}
