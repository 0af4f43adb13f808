//! What holds for every pod: nothing is lost, nothing is added twice, everything can be taken out again; and for every
//! document, pod or not: an answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "properties/pods.rs"]
mod pods;

use std::collections::BTreeMap;

use isthmus_inject::{
    Namespace, Values, decide, inject, manifest, patch, remove,
    words::{CAPTURE, INJECTED, PROXY, STATUS},
};
use pods::{anything, pod};
use proptest::{collection::vec, prelude::*, sample};
use serde_json::{Map, Value, json};

fn values() -> Values {
    Values::new("mesh.example".parse().unwrap(), "us-east".parse().unwrap())
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

/// Texts that a reader of YAML may take for something else.
const WORDS: &[&str] = &[
    "no",
    "Yes",
    "y",
    "on",
    "~",
    "null",
    "",
    " ",
    "012",
    "0o12",
    "0x1F",
    "1_000",
    "1.20",
    "1e3",
    ".inf",
    ".nan",
    "+1",
    "-",
    "---",
    "--- #",
    "- a",
    "a: b",
    "# a",
    "!a",
    "&a",
    "*a",
    "%a",
    "@a",
    "`a",
    "{a",
    "[a",
    "|",
    ">",
    "?",
    ":",
    "=",
    "<<",
    "12:30",
    "2026-11-27",
    "true",
    "TRUE",
    "\t",
    "a\tb",
    "a\r\nb",
    "\u{85}",
    "\u{2028}",
    "é\u{1F600}",
    "'",
    "\"",
    "\\",
    "a #b",
    "$(A)",
];

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
    fn what_is_written_as_yaml_is_read_back_as_it_was(
        pod in pod(), text in "\\PC{0,12}", lines in vec("[ -~]{0,6}", 0..4), number in any::<f64>(), word in sample::select(WORDS)
    ) {
        let mut pod = inject(&pod, &values()).unwrap().pod;
        pod["spec"]["x"] = json!({ "text": text, "lines": lines.join("\n"), "last": lines.join("\n") + "\n", "word": word });
        if number.is_finite() {
            pod["spec"]["y"] = json!([number, word, { (word): text }]);
        }
        let written = serde_saphyr::to_string(&pod).unwrap();
        let read = manifest::documents(&written).unwrap();
        prop_assert_eq!(&read[0].value, &pod, "{}", written);
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
