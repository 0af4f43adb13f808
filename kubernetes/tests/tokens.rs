//! Tokens as a real API server reviews them: `ISTHMUS_KUBECONFIG=… cargo test -p isthmus-kubernetes --test tokens -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{io::Write as _, process::Stdio};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use isthmus_kubernetes::{
    Access, Client,
    review::{AUDIENCE, ReviewError, Reviewed, review},
};

const ROOM: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: isthmus-test-tokens}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reviews, namespace: isthmus-test-tokens}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, namespace: isthmus-test-tokens}
spec:
  serviceAccountName: reviews
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: none.example/none, imagePullPolicy: Never}]
";

fn kubectl(arguments: &str, input: &str) -> String {
    let kubeconfig = std::env::var_os("ISTHMUS_KUBECONFIG").expect("ISTHMUS_KUBECONFIG names a cluster for tests");
    let mut command = std::process::Command::new(std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into()));
    command.arg("--kubeconfig").arg(kubeconfig).args(arguments.split_whitespace());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "kubectl {arguments}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn token(more: &str) -> String {
    kubectl(&format!("-n isthmus-test-tokens create token reviews {more}"), "")
}

struct Room;

impl Drop for Room {
    fn drop(&mut self) {
        kubectl("delete namespace isthmus-test-tokens --wait=false", "");
    }
}

#[tokio::test]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG"]
async fn an_api_server_tells_whose_a_token_is_and_each_that_proves_nothing_has_its_reason() {
    kubectl("delete namespace isthmus-test-tokens --ignore-not-found --wait", "");
    kubectl("apply -f -", ROOM);
    let _room = Room;
    let kubeconfig = std::env::var_os("ISTHMUS_KUBECONFIG").map(Into::into);
    let client: Client = Access { kubeconfig, ..Access::default() }.client().await.unwrap();
    let of_pod = "--bound-object-kind Pod --bound-object-name reviews-1";
    let good = token(&format!("--audience {AUDIENCE} {of_pod}"));
    let Reviewed { namespace, service_account, pod, pod_uid } = review(&client, &good, AUDIENCE).await.unwrap();
    assert_eq!((namespace.as_str(), service_account.as_str()), ("isthmus-test-tokens", "reviews"));
    let uid = kubectl("-n isthmus-test-tokens get pod reviews-1 -o jsonpath={.metadata.uid}", "");
    assert_eq!((pod.as_str(), pod_uid), ("reviews-1", uid));

    let refused = async |token: &str| review(&client, token, AUDIENCE).await.unwrap_err();
    let (rest, signature) = good.rsplit_once('.').unwrap();
    // Another signature; another account under the same one; none at all, which says so itself; no token.
    let (header, claims) = rest.split_once('.').unwrap();
    let claimed = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let other = URL_SAFE_NO_PAD.encode(claimed.replace("reviews", "default"));
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for forged in [
        format!("{rest}.{}", signature.chars().rev().collect::<String>()),
        format!("{header}.{other}.{signature}"),
        format!("{unsigned}.{claims}."),
        "hello".to_owned(),
    ] {
        assert!(matches!(refused(&forged).await, ReviewError::Forged(_)), "{forged}");
    }
    assert!(matches!(refused(&token(of_pod)).await, ReviewError::Audience { .. }));
    assert!(matches!(refused(&token(&format!("--audience {AUDIENCE}"))).await, ReviewError::Unbound { .. }));
    kubectl("-n isthmus-test-tokens delete pod reviews-1 --wait", "");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(90);
    // The API server remembers for a moment what it reviewed.
    while review(&client, &good, AUDIENCE).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the token outlives its pod");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(matches!(refused(&good).await, ReviewError::Gone));
}
