//! Which pods the API server asks the injector about, held to what the injector decides: whoever gets a sidecar is asked about,
//! once; who can get none is not asked about at all, so that a control that is away stops none of them.

use std::collections::BTreeMap;

use isthmus_inject::{Decision, Namespace, Values, decide, decide::Skip};
use serde_json::{Value, json};

use crate::install::{fill, release::Release};

type Labels = BTreeMap<String, String>;

/// Each of these labels with each of its values, and without.
fn every(words: &[(&str, [&str; 2])]) -> Vec<Labels> {
    words.iter().fold(vec![Labels::new()], |all, (label, values)| {
        let with = |labels: &Labels, value: &str| {
            let mut labels = labels.clone();
            labels.insert((*label).to_owned(), value.to_owned());
            labels
        };
        let each = |labels: &Labels| [labels.clone(), with(labels, values[0]), with(labels, values[1])];
        all.iter().flat_map(each).collect()
    })
}

fn of_namespaces() -> Vec<Labels> {
    let injection = [("isthmus.dev/inject", ["true", "false"]), ("istio-injection", ["enabled", "disabled"])];
    every(&[injection[0], injection[1], ("istio.io/rev", ["default", "other"])])
}

fn of_pods() -> Vec<Labels> {
    let injection = [("isthmus.dev/inject", ["true", "false"]), ("sidecar.istio.io/inject", ["true", "false"])];
    every(&[injection[0], injection[1], ("istio.io/rev", ["default", "other"])])
}

/// Each pod in each namespace.
fn every_pod() -> Vec<(Labels, Labels)> {
    let pods = of_pods();
    let with = |namespace: Labels| pods.clone().into_iter().map(move |pod| (namespace.clone(), pod));
    of_namespaces().into_iter().flat_map(with).collect()
}

fn matches(selector: &Value, labels: &Labels) -> bool {
    let holds = |said: &Value| {
        let there = labels.get(said["key"].as_str().unwrap());
        let is_one = |value: &String| said["values"].as_array().unwrap().contains(&json!(value));
        match said["operator"].as_str().unwrap() {
            "Exists" => there.is_some(),
            "DoesNotExist" => there.is_none(),
            "In" => there.is_some_and(is_one),
            "NotIn" => !there.is_some_and(is_one),
            other => panic!("no operator of selectors: {other}"),
        }
    };
    selector["matchExpressions"].as_array().unwrap().iter().all(holds)
}

/// The injector's webhooks, as they are applied with a setting.
fn webhooks(setting: &str) -> Vec<Value> {
    let release = Release::new("us-east", "mesh.test", None, &[setting.parse().unwrap()]);
    let objects = fill::objects(&release, true).unwrap();
    let found = objects.iter().find(|object| object.is("MutatingWebhookConfiguration", "isthmus-injection")).unwrap();
    found.document["webhooks"].as_array().unwrap().clone()
}

/// How often the API server asks about a pod.
fn asked(webhooks: &[Value], (name, namespace): (&str, &Labels), pod: &Labels) -> usize {
    let mut labels = namespace.clone();
    labels.insert("kubernetes.io/metadata.name".into(), name.into());
    let asks =
        |webhook: &&Value| matches(&webhook["namespaceSelector"], &labels) && matches(&webhook["objectSelector"], pod);
    webhooks.iter().filter(asks).count()
}

#[test]
fn who_gets_a_sidecar_is_asked_about_once_and_who_says_nothing_never() {
    let webhooks = webhooks("injection.istioLabels=true");
    let values = Values::new("mesh.test".parse().unwrap(), "us-east".parse().unwrap());
    let mut injected = 0;
    for (namespace, pod) in every_pod() {
        let document = json!({ "metadata": { "labels": pod }, "spec": { "containers": [] } });
        let count = asked(&webhooks, ("shop", &namespace), &pod);
        match decide(&document, Namespace { name: "shop", labels: &namespace }, &values) {
            Decision::Inject => {
                assert_eq!(count, 1, "{namespace:?} {pod:?}");
                injected += 1;
            }
            Decision::Skip(Skip::NotAsked) => assert_eq!(count, 0, "{namespace:?} {pod:?}"),
            _ => assert!(count <= 1, "{namespace:?} {pod:?}"),
        }
    }
    assert!(injected > 50, "of all combinations hardly any is injected: {injected}");
}

#[test]
fn pods_of_kubernetes_and_of_the_mesh_are_never_asked_about() {
    let webhooks = webhooks("injection.excludedNamespaces=infra");
    for name in ["kube-system", "kube-public", "kube-node-lease", "isthmus-system", "infra"] {
        for (namespace, pod) in every_pod() {
            assert_eq!(asked(&webhooks, (name, &namespace), &pod), 0, "{name} {namespace:?} {pod:?}");
        }
    }
}

#[test]
fn beside_an_istio_only_our_own_label_decides_who_is_asked_about() {
    let webhooks = webhooks("injection.istioLabels=false");
    for (namespace, pod) in every_pod() {
        let words = [&namespace, &pod].map(|labels| labels.get("isthmus.dev/inject").map(String::as_str));
        let asks = words.contains(&Some("true")) && !words.contains(&Some("false"));
        assert_eq!(asked(&webhooks, ("shop", &namespace), &pod), usize::from(asks), "{namespace:?} {pod:?}");
    }
}
