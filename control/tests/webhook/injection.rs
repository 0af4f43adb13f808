//! `/inject`, as Kubernetes asks it and expects its answers.

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_control::webhook::Owner;
use serde_json::{Value, json};

use crate::ground::{Ground, JSON, creation, review};

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "reviews-v1-7f9-",
            "labels": { "app": "reviews" },
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-v1-7f9", "uid": "5c", "controller": true },
            ],
        },
        "spec": { "containers": [{ "name": "reviews", "image": "docker.io/istio/examples-bookinfo-reviews-v1:1.20.3" }] },
    })
}

fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let operations: Vec<Value> = serde_json::from_slice(&patch).unwrap();
    // RFC 6902, by hand: what another implementation would do.
    let mut pod = pod.clone();
    for operation in operations {
        let (path, value) = (operation["path"].as_str().unwrap(), operation["value"].clone());
        let (parent, key) = path.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        match (operation["op"].as_str().unwrap(), pod.pointer_mut(parent).unwrap()) {
            ("add" | "replace", Value::Object(fields)) => drop(fields.insert(key, value)),
            ("add", Value::Array(items)) if key == "-" => items.push(value),
            ("add", Value::Array(items)) => items.insert(key.parse().unwrap(), value),
            ("replace", Value::Array(items)) => items[key.parse::<usize>().unwrap()] = value,
            ("remove", Value::Object(fields)) => drop(fields.remove(&key).unwrap()),
            (op, _) => panic!("{op} {path}"),
        }
    }
    pod
}

#[tokio::test]
async fn a_pod_of_a_namespace_that_asks_gets_its_sidecar_and_no_second_one() {
    let ground = Ground::new(1);
    let response = ground.review("/inject", creation("shop", &pod())).await;
    assert_eq!((&response["allowed"], response.get("warnings")), (&json!(true), None));
    let injected = patched(&pod(), &response);
    let names: Vec<_> = injected["spec"]["initContainers"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["isthmus-capture", "isthmus-proxy"]);
    assert_eq!(injected["spec"]["containers"], pod()["spec"]["containers"]);
    // Asked again, as with reinvocation: there is nothing to change.
    let response = ground.review("/inject", creation("shop", &injected)).await;
    assert_eq!(response, json!({ "uid": "8f3a", "allowed": true }));
    // The object itself only, and only when it is created.
    let mut debugging = creation("shop", &pod());
    debugging["operation"] = "UPDATE".into();
    debugging["subResource"] = "ephemeralcontainers".into();
    assert_eq!(ground.review("/inject", debugging).await, json!({ "uid": "8f3a", "allowed": true }));
    for (namespace, labels) in [("plain", json!({})), ("kube-system", json!({ "sidecar.istio.io/inject": "true" }))] {
        let mut pod = pod();
        pod["metadata"]["labels"] = labels;
        let response = ground.review("/inject", creation(namespace, &pod)).await;
        assert_eq!(response, json!({ "uid": "8f3a", "allowed": true }), "{namespace}");
    }
    assert_eq!((ground.counted("inject", "injected"), ground.counted("inject", "skipped")), (2, 3));
}

#[tokio::test]
async fn a_pod_as_large_as_etcd_keeps_gets_its_sidecar_too() {
    let ground = Ground::new(6);
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ "note": "x".repeat(1_400_000) });
    let response = ground.review("/inject", creation("shop", &pod)).await;
    let injected = patched(&pod, &response);
    assert_eq!(injected["metadata"]["annotations"]["note"], pod["metadata"]["annotations"]["note"]);
    assert_eq!(injected["spec"]["initContainers"][1]["name"], "isthmus-proxy");
}

#[tokio::test]
async fn what_cannot_work_runs_without_and_its_owner_is_told() {
    let mut ground = Ground::new(2);
    let mut pod = pod();
    pod["spec"]["hostNetwork"] = true.into();
    let response = ground.review("/inject", creation("shop", &pod)).await;
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("this pod gets no sidecar: spec.hostNetwork"), "{warning}");
    let told = ground.refused.recv().await.unwrap();
    assert_eq!((told.namespace.as_str(), told.pod.as_str(), told.is_named), ("shop", "reviews-v1-7f9-", false));
    assert!(told.is_whole && told.reason.contains("remove hostNetwork"), "{told:?}");
    let owner = ["apps/v1", "ReplicaSet", "reviews-v1-7f9", "5c"].map(str::to_owned);
    let [api_version, kind, name, uid] = owner;
    assert_eq!(told.owner, Some(Owner { api_version, kind, name, uid }));
    // A dry run tells nobody; more than the channel holds delays nobody.
    let mut dry = creation("shop", &pod);
    dry["dryRun"] = true.into();
    ground.review("/inject", dry).await;
    assert!(ground.refused.try_recv().is_err());
    for _ in 0..6 {
        ground.review("/inject", creation("shop", &pod)).await;
    }
    assert_eq!(ground.counted("inject", "refused"), 8);
}

/// Webhooks are asked in turn, and again when one of them changed the pod.
#[tokio::test]
async fn a_sidecar_that_another_webhook_made_impossible_is_taken_out_again() {
    let mut ground = Ground::new(7);
    let response = ground.review("/inject", creation("shop", &pod())).await;
    let mut both = patched(&pod(), &response);
    both["metadata"]["annotations"]["sidecar.istio.io/status"] = "{}".into();
    both["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "istio-proxy", "image": "istio/proxyv2" }));
    let response = ground.review("/inject", creation("shop", &both)).await;
    let left = patched(&both, &response);
    assert_eq!(left["metadata"]["annotations"], json!({ "sidecar.istio.io/status": "{}" }));
    assert_eq!((left["spec"].get("initContainers"), left["spec"].get("volumes")), (None, None));
    assert_eq!(left["spec"]["containers"], both["spec"]["containers"]);
    let told = ground.refused.recv().await.unwrap();
    assert!(told.is_whole && told.reason.contains("has Istio's sidecar already"), "{told:?}");
    // What was added is not known: on its node's network it must not run.
    both["metadata"]["annotations"]["isthmus.dev/status"] = "{}".into();
    let response = ground.review("/inject", creation("shop", &both)).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("no sidecar can be taken out") && message.contains("isthmus.dev/status"), "{message}");
}

#[tokio::test]
async fn a_wish_that_is_not_understood_denies_the_pod_and_one_that_is_not_honoured_is_said() {
    let mut ground = Ground::new(3);
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ "traffic.sidecar.istio.io/excludeOutboundPorts": "80,x" });
    let response = ground.review("/inject", creation("shop", &pod)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(422)));
    let message = response["status"]["message"].as_str().unwrap();
    for part in ["excludeOutboundPorts", "\"80,x\"", "\"x\" is none", "such as 80,443"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    pod["metadata"]["annotations"] = json!({ "sidecar.istio.io/componentLogLevel": "x".repeat(300) });
    let response = ground.review("/inject", creation("shop", &pod)).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(
        response["warnings"],
        json!(["annotation sidecar.istio.io/componentLogLevel is not honoured by this mesh"])
    );
    // Nobody reads the warnings of a ReplicaSet: whoever looks at it is told. Who is asked again has told.
    let told = ground.refused.recv().await.unwrap();
    let kind = told.owner.as_ref().map(|owner| owner.kind.as_str());
    assert_eq!((told.is_whole, kind), (false, Some("ReplicaSet")));
    assert_eq!(told.reason, "annotation sidecar.istio.io/componentLogLevel is not honoured by this mesh");
    let injected = patched(&pod, &response);
    assert!(ground.review("/inject", creation("shop", &injected)).await["warnings"].is_array());
    // A person who makes a pod reads the warning.
    pod["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    assert!(ground.review("/inject", creation("shop", &pod)).await["warnings"].is_array());
    assert!(ground.refused.try_recv().is_err());
    let warnings = isthmus_control::webhook::review::Verdict::warned("é".repeat(300));
    let request = isthmus_control::webhook::review::Request::read(review(json!({})).to_string().as_bytes()).unwrap();
    let said = warnings.answer(&request)["response"]["warnings"][0].as_str().unwrap().chars().count();
    assert_eq!(said, 256, "the API server passes on no more");
}

#[tokio::test]
async fn a_namespace_that_is_not_known_yet_is_a_failure_not_a_no() {
    let ground = Ground::new(4);
    let asked = review(creation("unheard-of", &pod())).to_string();
    let (code, answer) = ground.curl("/inject", &JSON, asked.as_bytes()).await;
    assert_eq!((code, answer.as_str()), (503, "namespace \"unheard-of\" is not known yet; ask again\n"));
}

#[tokio::test]
async fn clients_check_the_name_and_take_a_renewed_certificate() {
    let ground = Ground::new(5);
    let asked = review(creation("shop", &pod())).to_string();
    let other = ground.run("somebody.else.svc", "/inject", &JSON, asked.as_bytes()).await;
    assert!(!other.status.success(), "{other:?}");
    let long_lived = ground.connect().await;
    ground.certificate.renew().unwrap();
    for version in ["--http1.1", "--http2"] {
        let (code, _) = ground.curl("/inject", &[&JSON[..], &[version]].concat(), asked.as_bytes()).await;
        assert_eq!(code, 200, "{version}");
    }
    let (_, tls) = ground.connect().await.into_inner();
    assert_eq!(tls.peer_certificates().unwrap(), ground.certificate.chain());
    assert_ne!(long_lived.get_ref().1.peer_certificates(), tls.peer_certificates());
}
