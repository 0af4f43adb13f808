//! Who gets a sidecar: Istio's documented rules ("Installing the Sidecar"), a row each, and ours beside them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use isthmus_inject::{
    Decision, Namespace, Values, decide,
    decide::{Refusal, Skip},
    values::Policy,
};
use serde_json::{Value, json};

const INJECT: &str = "sidecar.istio.io/inject";
const OWN: &str = "isthmus.dev/inject";

fn values(policy: Policy, revision: &str) -> Values {
    let mut values = Values::new("mesh.example".parse().unwrap(), "us-east".parse().unwrap());
    (values.policy, values.revision) = (policy, revision.to_owned());
    values.excluded_namespaces.insert("vault".into());
    values
}

type Words<'a> = &'a [(&'a str, &'a str)];

fn map(words: Words<'_>) -> BTreeMap<String, String> {
    words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn pod(labels: Words<'_>, annotations: Words<'_>) -> Value {
    json!({
        "metadata": { "labels": map(labels), "annotations": map(annotations) },
        "spec": { "containers": [{ "name": "a" }] },
    })
}

fn decided(namespace: Words<'_>, labels: Words<'_>, annotations: Words<'_>, values: &Values) -> Decision {
    decide(&pod(labels, annotations), Namespace { name: "shop", labels: &map(namespace) }, values)
}

/// A row: what namespace, pod's labels and pod's annotations say; whether the pod is injected with the policy off, and
/// with it on.
type Row<'a> = (Words<'a>, Words<'a>, Words<'a>, bool, bool);

const ENABLED: (&str, &str) = ("istio-injection", "enabled");
const DISABLED: (&str, &str) = ("istio-injection", "disabled");

const ROWS: [Row<'_>; 22] = [
    (&[], &[], &[], false, true),
    (&[ENABLED], &[], &[], true, true),
    (&[DISABLED], &[], &[], false, false),
    // "If either label is disabled, the pod is not injected."
    (&[ENABLED], &[(INJECT, "false")], &[], false, false),
    (&[DISABLED], &[(INJECT, "true")], &[], false, false),
    (&[], &[(INJECT, "false")], &[], false, false),
    // "If either label is enabled, the pod is injected."
    (&[], &[(INJECT, "true")], &[], true, true),
    (&[ENABLED], &[(INJECT, "true")], &[], true, true),
    // An empty word is none.
    (&[], &[(INJECT, "")], &[], false, true),
    // The annotation, and the label before it.
    (&[ENABLED], &[], &[(INJECT, "false")], false, false),
    (&[], &[], &[(INJECT, "true")], true, true),
    (&[ENABLED], &[(INJECT, "true")], &[(INJECT, "false")], true, true),
    (&[ENABLED], &[(INJECT, "false")], &[(INJECT, "true")], false, false),
    // Our words, before Istio's.
    (&[(OWN, "true")], &[], &[], true, true),
    (&[(OWN, "false"), ENABLED], &[], &[], false, false),
    (&[(OWN, "true"), DISABLED], &[], &[], true, true),
    (&[ENABLED], &[(OWN, "false"), (INJECT, "true")], &[], false, false),
    (&[ENABLED], &[(INJECT, "true")], &[(OWN, "false")], true, true),
    // Revisions: this one is `default`.
    (&[("istio.io/rev", "default")], &[], &[], true, true),
    (&[("istio.io/rev", "canary")], &[], &[], false, false),
    (&[("istio.io/rev", "canary"), ENABLED], &[], &[], true, true),
    (&[], &[("istio.io/rev", "canary"), (INJECT, "true")], &[], false, false),
];

#[test]
fn pods_are_injected_by_the_rules_that_istio_documents() {
    for (namespace, labels, annotations, off, on) in ROWS {
        for (policy, injected) in [(Policy::Disabled, off), (Policy::Enabled, on)] {
            let decision = decided(namespace, labels, annotations, &values(policy, "default"));
            assert_eq!(
                decision == Decision::Inject,
                injected,
                "namespace {namespace:?}, labels {labels:?}, annotations {annotations:?}, policy {policy:?}: {decision:?}"
            );
            assert!(!matches!(decision, Decision::Refuse(_)), "{decision:?}");
        }
    }
}

#[test]
fn a_revision_takes_only_what_names_it() {
    let canary = values(Policy::Enabled, "canary");
    let names: (&str, &str) = ("istio.io/rev", "canary");
    assert_eq!(decided(&[names], &[], &[], &canary), Decision::Inject);
    assert_eq!(decided(&[], &[names], &[], &canary), Decision::Inject);
    assert_eq!(decided(&[names], &[(INJECT, "false")], &[], &canary), Decision::Skip(Skip::PodSaysNo(INJECT)));
    let others = Decision::Skip(Skip::OtherRevision(None));
    assert_eq!(decided(&[ENABLED], &[], &[], &canary), others);
    assert_eq!(decided(&[], &[(INJECT, "true")], &[], &canary), others);
    assert_eq!(decided(&[], &[], &[], &canary), others, "the policy is the default revision's");
}

#[test]
fn kubernetes_own_namespaces_the_meshs_and_the_excluded_are_left_whatever_they_say() {
    let values = values(Policy::Enabled, "default");
    for name in ["kube-system", "kube-public", "kube-node-lease", "isthmus-system", "vault"] {
        let labels = map(&[ENABLED]);
        let decision = decide(&pod(&[(INJECT, "true")], &[]), Namespace { name, labels: &labels }, &values);
        assert_eq!(decision, Decision::Skip(Skip::Namespace(name.into())));
    }
    let mirror = decided(&[ENABLED], &[], &[("kubernetes.io/config.mirror", "x")], &values);
    assert_eq!(mirror, Decision::Skip(Skip::Mirror));
}

#[test]
fn what_is_asked_for_and_cannot_work_is_refused_with_a_reason_and_what_nobody_asks_for_is_not() {
    let values = values(Policy::Disabled, "default");
    let refused = |namespace: Words<'_>, pod: &Value| match decide(
        pod,
        Namespace { name: "shop", labels: &map(namespace) },
        &values,
    ) {
        Decision::Refuse(refusal) => Some(refusal),
        _ => None,
    };
    let mut on_host = pod(&[], &[]);
    on_host["spec"]["hostNetwork"] = true.into();
    assert_eq!(refused(&[ENABLED], &on_host), Some(Refusal::HostNetwork));
    assert_eq!(refused(&[], &on_host), None);
    let mut windows = pod(&[], &[]);
    windows["spec"]["os"] = json!({ "name": "windows" });
    assert_eq!(refused(&[ENABLED], &windows), Some(Refusal::Windows));
    windows["spec"] = json!({ "nodeSelector": { "kubernetes.io/os": "windows" }, "containers": [{ "name": "a" }] });
    assert_eq!(refused(&[ENABLED], &windows), Some(Refusal::Windows));
    let istio = pod(&[], &[("sidecar.istio.io/status", "{}")]);
    assert_eq!(refused(&[ENABLED], &istio), Some(Refusal::HasIstio));
    for (list, container, mesh) in [
        ("containers", "istio-proxy", "Istio"),
        ("initContainers", "linkerd-proxy", "Linkerd"),
        ("containers", "consul-dataplane", "Consul"),
        ("containers", "kuma-sidecar", "Kuma"),
    ] {
        let mut theirs = pod(&[], &[]);
        theirs["spec"][list] = json!([{ "name": container, "image": "x" }]);
        assert_eq!(refused(&[ENABLED], &theirs), Some(Refusal::OtherMesh { mesh, container }));
        assert_eq!(refused(&[], &theirs), None);
    }
    let gateway = pod(&[(INJECT, "true")], &[("inject.istio.io/templates", "gateway")]);
    assert_eq!(refused(&[], &gateway), Some(Refusal::Template("gateway".into())));
    let misspelt = refused(&[("istio-injection", "on")], &pod(&[(INJECT, "true")], &[])).unwrap();
    assert_eq!(
        misspelt.to_string(),
        "istio-injection of the namespace is \"on\", which means nothing; write enabled or disabled"
    );
    assert_eq!(refused(&[("istio-injection", "on")], &pod(&[(INJECT, "false")], &[])), None, "it does not want one");
    let misspelt = refused(&[ENABLED], &pod(&[(INJECT, "yes")], &[])).unwrap();
    assert_eq!(
        misspelt.to_string(),
        "sidecar.istio.io/inject of the pod is \"yes\", which means nothing; write true or false"
    );
}
