//! Pure: pods that should have a sidecar and have none, sidecars of another release, and what the webhook does to a pod.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_inject::{Decision, Namespace, Values, decide, words::PROXY};
use serde_json::{Value, json};

use super::{finding::Finding, gather::Installed};
use crate::{
    install::fill::values,
    rollout::{list, text},
};

/// What became of a pod that was tried on the API server and not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tried {
    /// Nobody could ask.
    #[default]
    Not,
    /// It has a sidecar.
    Injected,
    /// It has none.
    Bare,
    /// The API server refused it.
    Refused(String),
}

pub fn verdicts(installed: &Installed) -> Vec<Finding> {
    let mut all = vec![];
    all.extend(webhook(&installed.tried));
    match values(&installed.map) {
        Err(error) => all.push(
            Finding::error("Configuration", format!("ConfigMap isthmus-system/isthmus, mesh.yaml: {error}"))
                .remedy("put that field right where the mesh was installed from, and upgrade"),
        ),
        Ok(values) => all.extend(sidecars(installed, &values)),
    }
    all
}

/// Whether a pod has ended.
pub fn is_over(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))
}

/// A pod that asks for a sidecar, by its namespace or by its own label, and that no pod security refuses for itself; with
/// the namespace to try it in.
pub fn probe(namespaces: &[Value]) -> (String, Value) {
    const ISTIO: &str = "/metadata/labels/istio-injection";
    const OURS: &str = "/metadata/labels/isthmus.dev~1inject";
    let asks = |namespace: &&Value| text(namespace, ISTIO) == "enabled" || text(namespace, OURS) == "true";
    let asking = namespaces.iter().find(asks).map(|namespace| text(namespace, "/metadata/name"));
    let labels = if asking.is_some() { json!({}) } else { json!({ "isthmus.dev/inject": "true" }) };
    let restricted = json!({
        "runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
    });
    let namespace = asking.unwrap_or("default").to_owned();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "isthmus-check", "namespace": namespace, "labels": labels },
        "spec": { "containers": [{ "name": "app", "image": "isthmus.dev/never-run", "securityContext": restricted }] },
    });
    (namespace, pod)
}

/// Whether a pod has our sidecar, and its image.
pub fn sidecar(pod: &Value) -> Option<&str> {
    let containers = list(pod, "/spec/initContainers").iter().chain(list(pod, "/spec/containers"));
    containers
        .into_iter()
        .find(|container| text(container, "/name") == PROXY)
        .map(|container| text(container, "/image"))
}

/// Names of pods as control has them.
pub fn names(pods: &[Value]) -> BTreeSet<String> {
    let name = |pod: &Value| format!("{}.{}", text(pod, "/metadata/name"), text(pod, "/metadata/namespace"));
    pods.iter().map(name).collect()
}

fn webhook(tried: &Tried) -> Option<Finding> {
    const WHAT: &str = "Injection";
    Some(match tried {
        Tried::Not => return None,
        Tried::Injected => Finding::ok(WHAT, "a pod that was tried got its sidecar"),
        Tried::Bare => Finding::error(WHAT, "a pod that was tried got no sidecar").remedy(
            "is there a MutatingWebhookConfiguration isthmus-injection? Where its failurePolicy is Ignore, control does not \
             answer: `kubectl -n isthmus-system get pods`",
        ),
        Tried::Refused(reason) if reason.contains("PodSecurity") => {
            Finding::warning(WHAT, format!("pod security refuses the sidecar: {reason}"))
                .remedy("capture needs NET_ADMIN: label the namespace pod-security.kubernetes.io/enforce=privileged")
        }
        Tried::Refused(reason) => Finding::error(WHAT, format!("no pod with a sidecar can be made: {reason}"))
            .remedy("the API server must reach port 443 of Service isthmus-control: look at control's pods and at network policies"),
    })
}

fn sidecars(installed: &Installed, values: &Values) -> Vec<Finding> {
    let labels: BTreeMap<_, _> =
        installed.namespaces.iter().map(|one| (text(one, "/metadata/name"), labels(one))).collect();
    let none = BTreeMap::new();
    let (mut bare, mut old, mut injected) = (BTreeMap::<&str, Vec<&str>>::new(), BTreeMap::<&str, Vec<&str>>::new(), 0);
    for pod in installed.pods.iter().filter(|pod| !is_over(pod)) {
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let there = Namespace { name: namespace, labels: labels.get(namespace).unwrap_or(&none) };
        match sidecar(pod) {
            Some(image) if image == values.image => injected += 1,
            Some(_) => old.entry(namespace).or_default().push(name),
            None if decide(pod, there, values) == Decision::Inject => bare.entry(namespace).or_default().push(name),
            None => {}
        }
    }
    let restart = |namespace: &str| format!("`kubectl -n {namespace} rollout restart deployment`, or delete the pods");
    let mut all: Vec<_> = bare
        .iter()
        .map(|(namespace, pods)| {
            let why = format!("pods that should have one and have none: {}", pods.join(", "));
            Finding::warning(format!("Sidecars in {namespace}"), why).remedy(restart(namespace))
        })
        .collect();
    all.extend(old.iter().map(|(namespace, pods)| {
        let why = format!("of another image than {}: {}", values.image, pods.join(", "));
        Finding::note(format!("Sidecars in {namespace}"), why).remedy(restart(namespace))
    }));
    if all.is_empty() {
        all.push(Finding::ok("Sidecars", format!("{injected} pods have one, and none lacks one")));
    }
    all
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Severity;

    fn namespace(name: &str, labels: Value) -> Value {
        json!({ "metadata": { "name": name, "labels": labels } })
    }

    #[test]
    fn a_namespace_that_asks_is_tried_and_without_one_the_pod_asks() {
        let asking = [namespace("a", json!({})), namespace("b", json!({ "istio-injection": "enabled" }))];
        let (name, pod) = probe(&asking);
        assert_eq!((name.as_str(), pod["metadata"]["labels"].clone()), ("b", json!({})));
        let (name, pod) = probe(&asking[..1]);
        assert_eq!(
            (name.as_str(), pod["metadata"]["labels"]["isthmus.dev/inject"].as_str()),
            ("default", Some("true"))
        );
        let values = Values::new("mesh.local".parse().unwrap(), "east".parse().unwrap());
        let there = Namespace { name: "default", labels: &BTreeMap::new() };
        assert_eq!(decide(&pod, there, &values), Decision::Inject);
    }

    #[test]
    fn pods_without_a_sidecar_and_with_an_old_one_are_told_by_namespace() {
        let values = Values::new("mesh.local".parse().unwrap(), "east".parse().unwrap());
        let pod = |name: &str, image: Option<&str>| {
            let own = image.map(|image| json!({ "name": PROXY, "image": image }));
            json!({ "metadata": { "name": name, "namespace": "b" }, "spec": { "initContainers": own.into_iter().collect::<Vec<_>>(), "containers": [] } })
        };
        let judged = |pods: Vec<Value>| {
            let namespaces = vec![namespace("b", json!({ "istio-injection": "enabled" }))];
            sidecars(&Installed { pods, namespaces, ..Installed::default() }, &values)
        };
        assert_eq!(judged(vec![pod("x", Some(&values.image))])[0].severity, Severity::Ok);
        let bare = judged(vec![pod("x", None), pod("y", None)]);
        assert!(bare.len() == 1 && bare[0].severity == Severity::Warning && bare[0].why.ends_with("x, y"), "{bare:?}");
        assert_eq!(judged(vec![pod("x", Some("old:1"))])[0].severity, Severity::Note);
        let mut over = pod("x", None);
        over["status"] = json!({ "phase": "Succeeded" });
        assert_eq!(judged(vec![over])[0].severity, Severity::Ok);
    }

    #[test]
    fn what_the_webhook_did_is_told_from_what_pod_security_did() {
        let severity = |tried: Tried| webhook(&tried).unwrap().severity;
        assert_eq!(severity(Tried::Injected), Severity::Ok);
        assert_eq!(severity(Tried::Bare), Severity::Error);
        assert_eq!(severity(Tried::Refused("violates PodSecurity \"baseline\"".into())), Severity::Warning);
        assert_eq!(severity(Tried::Refused("failed calling webhook".into())), Severity::Error);
        assert_eq!(webhook(&Tried::Not), None);
    }
}
