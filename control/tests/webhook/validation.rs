//! `/validate`: what control would refuse, refused with its field and reason.

use serde_json::{Value, json};

use crate::ground::Ground;

fn change(operation: &str, object: &Value, old: &Value) -> Value {
    json!({ "operation": operation, "namespace": "shop", "object": object, "oldObject": old })
}

fn route(http: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "name": "reviews", "namespace": "shop", "managedFields": [{ "manager": "kubectl" }] },
        "spec": { "hosts": ["reviews"], "http": [http] },
    })
}

#[tokio::test]
async fn objects_that_control_would_refuse_are_denied_with_field_and_reason() {
    let ground = Ground::new(11);
    let good = route(&json!({ "route": [{ "destination": { "host": "reviews" } }] }));
    let response = ground.review("/validate", change("CREATE", &good, &Value::Null)).await;
    assert_eq!(response, json!({ "uid": "8f3a", "allowed": true }));
    let policy = |spec: &Value| {
        json!({
            "apiVersion": "isthmus.dev/v1alpha1",
            "kind": "FailoverPolicy",
            "metadata": { "name": "a", "namespace": "shop" },
            "spec": spec,
        })
    };
    for (object, parts) in [
        (route(&json!({ "mirror": { "host": "b" } })), &["spec.http[0].mirror: ", "not supported"][..]),
        (route(&json!({ "retries": { "attempts": "many" } })), &["spec.http[0].retries.attempts: ", "many"]),
        (route(&json!({ "timeouts": "1s" })), &["timeouts"]),
        (
            policy(&json!({ "tiers": [{}], "leave": { "healthyShare": 2 } })),
            &["spec.tiers[0]", "; spec.leave.healthyShare: 2 "],
        ),
        (policy(&json!(7)), &["spec"]),
    ] {
        let response = ground.review("/validate", change("CREATE", &object, &Value::Null)).await;
        // What an Istio may understand is not refused.
        let is_istios = object["kind"] == "VirtualService";
        assert_eq!(response["allowed"], is_istios, "{object}");
        let message = if is_istios { &response["warnings"][0] } else { &response["status"]["message"] };
        let message = message.as_str().unwrap();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(message.len() < 400 && !message.contains("managedFields"), "{message}");
    }
    assert_eq!((ground.counted("validate", "denied"), ground.counted("validate", "allowed")), (2, 4));
}

#[tokio::test]
async fn what_goes_away_or_changes_only_beside_its_content_is_not_held_up() {
    let ground = Ground::new(12);
    let bad = route(&json!({ "mirror": { "host": "b" } }));
    let mut marked = bad.clone();
    marked["metadata"]["finalizers"] = json!([]);
    let mut going = route(&json!({ "rewrite": {} }));
    going["metadata"]["deletionTimestamp"] = "2026-11-27T00:00:00Z".into();
    for request in
        [change("DELETE", &Value::Null, &bad), change("UPDATE", &marked, &bad), change("UPDATE", &going, &bad)]
    {
        let response = ground.review("/validate", request).await;
        assert_eq!(response, json!({ "uid": "8f3a", "allowed": true }));
    }
    let worse = route(&json!({ "rewrite": {} }));
    assert!(ground.review("/validate", change("UPDATE", &worse, &bad)).await["warnings"].is_array());
}

#[tokio::test]
async fn a_kind_that_has_no_effect_is_allowed_and_that_is_said() {
    let ground = Ground::new(13);
    let filter =
        json!({ "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": { "name": "a" } });
    let response = ground.review("/validate", change("CREATE", &filter, &Value::Null)).await;
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("EnvoyFilter") && warning.ends_with("no effect on the mesh"), "{warning}");
}
