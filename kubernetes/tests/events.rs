//! Events at a real API server: `ISTHMUS_KUBECONFIG=… cargo test -p isthmus-kubernetes --test events -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use isthmus_kubernetes::{
    Access, Client,
    events::{self, About, Event},
};
use isthmus_runtime::drain::Drain;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    events::v1::Event as Written,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(90);
const BETWEEN: Duration = Duration::from_millis(250);

fn of<T: DeserializeOwned>(object: serde_json::Value) -> T {
    serde_json::from_value(object).unwrap()
}

fn event(kind: &str, name: &str, namespace: &str) -> Event {
    let [api_version, kind, namespace, name] = ["v1", kind, namespace, name].map(str::to_owned);
    let about = About { api_version, kind, namespace, name, uid: String::new() };
    Event { about, reason: "SidecarNotInjected", action: "Inject", note: "a test says so".into() }
}

/// Waits until the Events of a namespace are so.
async fn until(api: &Api<Written>, what: &str, holds: impl Fn(&[Written]) -> bool) -> Vec<Written> {
    let waiting = async {
        loop {
            let all = api.list(&ListParams::default()).await.unwrap().items;
            if holds(&all) {
                return all;
            }
            tokio::time::sleep(BETWEEN).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn count(event: &Written) -> i32 {
    event.series.as_ref().map_or(1, |series| series.count)
}

async fn room(client: &Client) -> String {
    let namespaces = Api::<Namespace>::all(client.clone());
    let made = json!({"metadata": {"generateName": "isthmus-test-events-"}});
    namespaces.create(&PostParams::default(), &of(made)).await.unwrap().metadata.name.unwrap()
}

#[tokio::test]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG"]
async fn a_hundred_are_one_with_a_count_and_a_pod_is_found_by_its_name() {
    let kubeconfig = std::env::var_os("ISTHMUS_KUBECONFIG").expect("ISTHMUS_KUBECONFIG names a cluster for tests");
    let client = Access { kubeconfig: Some(kubeconfig.into()), ..Access::default() }.client().await.unwrap();
    let namespace = room(&client).await;
    // It waits for a gate that nobody opens: it needs no image.
    let container = json!({"name": "app", "image": "none"});
    let spec = json!({"schedulingGates": [{"name": "isthmus.dev/test"}], "automountServiceAccountToken": false, "containers": [container]});
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    let waiting = async {
        loop {
            // The namespace's service account is made a moment after it.
            match pods.create(&PostParams::default(), &of(json!({"metadata": {"name": "bare"}, "spec": spec}))).await {
                Err(kube::Error::Api(status)) if status.code == 403 => tokio::time::sleep(BETWEEN).await,
                made => return made.unwrap(),
            }
        }
    };
    let pod = tokio::time::timeout(LIMIT, waiting).await.expect("a pod is made in time");
    let (tell, told) = mpsc::channel(events::QUEUE);
    let writing = tokio::spawn(events::run(client.clone(), "a-test".into(), told, Drain::new()));
    for _ in 0..100 {
        tell.send(event("Namespace", &namespace, &namespace)).await.unwrap();
    }
    tell.send(event("Pod", "bare", &namespace)).await.unwrap();
    let api = Api::<Written>::namespaced(client.clone(), &namespace);
    let ours = |all: &[Written]| {
        let ours = all.iter().filter(|one| one.reason.as_deref() == Some("SidecarNotInjected"));
        ours.cloned().collect::<Vec<_>>()
    };
    let all = ours(&until(&api, "both", |all| ours(all).len() == 2).await);
    let about = |one: &Written, kind: &str| one.regarding.as_ref().unwrap().kind.as_deref() == Some(kind);
    let of_namespace = all.iter().find(|one| about(one, "Namespace")).unwrap();
    assert_eq!((count(of_namespace), of_namespace.type_.as_deref()), (100, Some("Warning")));
    let of_pod = all.iter().find(|one| about(one, "Pod")).unwrap();
    assert_eq!(of_pod.regarding.as_ref().unwrap().uid, pod.metadata.uid, "nobody told it");
    tell.send(event("Namespace", &namespace, &namespace)).await.unwrap();
    let more = until(&api, "one more is counted", |all| ours(all).iter().any(|one| count(one) == 101)).await;
    assert_eq!(ours(&more).len(), 2, "and it is the same Event");
    drop(tell);
    writing.await.unwrap();
    let namespaces = Api::<Namespace>::all(client);
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
}
