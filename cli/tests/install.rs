//! Installing, changing and taking away a mesh in a real cluster that has none: `ISTHMUS_KUBECONFIG=… cargo test -p isthmus
//! --test install -- --ignored`. An API server with controllers is enough: nothing has to run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

use std::process::{Command, Output};

use serde_json::Value;

fn kubeconfig() -> std::ffi::OsString {
    std::env::var_os("ISTHMUS_KUBECONFIG").expect("ISTHMUS_KUBECONFIG names a cluster for tests")
}

fn isthmus(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
    command.arg("--kubeconfig").arg(kubeconfig()).args(arguments.split_whitespace()).output().unwrap()
}

/// What a command says it did, line by line: outcome and thing.
fn done(arguments: &str) -> Vec<(String, String)> {
    let output = isthmus(&format!("{arguments} -o json"));
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let of =
        |line: &str| serde_json::from_str::<Value>(line).map(|line| (text(&line, "outcome"), text(&line, "thing")));
    lines.lines().map(|line| of(line).unwrap()).collect()
}

fn refused(arguments: &str) -> String {
    let output = isthmus(arguments);
    assert!(!output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Every object of the mesh that kubectl finds.
fn left() -> String {
    let mut command = Command::new(std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into()));
    command.arg("--kubeconfig").arg(kubeconfig());
    command.args(["get", "-A", "-o", "name", "-l", "app.kubernetes.io/part-of=isthmus"]);
    command.arg(
        "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,roles,rolebindings,deployments,statefulsets,\
         services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,persistentvolumeclaims,\
         mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicies",
    );
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Takes the mesh away, whatever a test ends with.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        isthmus("uninstall --yes");
    }
}

#[test]
#[ignore = "wants a cluster without a mesh, named by ISTHMUS_KUBECONFIG"]
fn a_mesh_is_installed_changed_and_taken_away_and_nothing_is_left() {
    assert_eq!(left(), "", "the cluster is not empty");
    let tried = done("install --cluster us-test --dry-run");
    assert_eq!(left(), "", "a dry run left something");

    let _installed = Installed;
    let made = done("install --cluster us-test --no-wait");
    assert_eq!(made, tried);
    assert!(made.iter().all(|(outcome, _)| outcome == "created"), "{made:?}");
    assert!(done("install --cluster us-test --no-wait").iter().all(|(outcome, _)| outcome == "unchanged"));
    assert!(refused("install --cluster us-other --no-wait").contains("this is cluster us-test"));
    assert!(refused("install --cluster us-test --no-wait --set federation.persistence.size=2Gi").contains("disk"));

    let changed = done("upgrade --no-wait --set gateway.exposure=DialOut");
    let deleted: Vec<_> = changed.iter().filter(|(outcome, _)| outcome == "deleted").collect();
    assert!(
        matches!(deleted[..], [(_, thing)] if thing.starts_with("Service isthmus-system/isthmus-gateway")),
        "{deleted:?}"
    );
    let again = done("upgrade --no-wait");
    assert!(again[1..].iter().all(|(outcome, _)| outcome == "unchanged"), "what was set stays set: {again:?}");

    let gone = done("uninstall --yes");
    let first = gone.iter().position(|(_, thing)| thing.contains("WebhookConfiguration"));
    assert_eq!(first, Some(0), "webhooks go first: {gone:?}");
    assert_eq!(left(), "");
    assert_eq!(done("uninstall --yes")[0].0, "nothing");
}

#[test]
#[ignore = "wants a cluster, named by ISTHMUS_KUBECONFIG"]
fn a_check_says_what_it_looked_at_with_a_remedy_for_all_that_is_wrong() {
    let output = isthmus("check -o json");
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        findings.iter().any(|finding| finding["what"] == "Kubernetes" && finding["severity"] == "ok"),
        "{findings:?}"
    );
    let is_wrong = |finding: &&Value| finding["severity"] == "error";
    assert_eq!(output.status.success(), !findings.iter().any(|finding| is_wrong(&finding)));
    assert!(findings.iter().filter(is_wrong).all(|finding| finding["remedy"].is_string()), "{findings:?}");
}
