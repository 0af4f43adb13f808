//! `isthmus inject` as a person types it: objects on standard output, reasons on standard error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

const VALUES: &str = "injection: {mesh: mesh.example, cluster: us-east}\n";
const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: cart, annotations: {}}\nspec: {containers: [{name: cart}]}\n";

fn inject(values: &str, input: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mesh = folder.path().join("mesh.yaml");
    std::fs::write(&mesh, values).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
    command.args(["inject", "-f", "-", "--values"]).arg(mesh).args(more);
    let mut running =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // A command that refuses its values reads nothing.
    let _ = running.stdin.take().unwrap().write_all(input.as_bytes());
    running.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn objects_come_out_in_order_and_what_was_left_is_said_beside_them() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: cart} # as it was\n";
    let on_host = POD.replace("spec: {", "spec: {hostNetwork: true, ");
    let ran = inject(VALUES, &format!("{service}---\n{POD}---\n{on_host}"), &[]);
    let (out, err) = (text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success(), "{err}");
    let documents: Vec<_> = out.split("---\n").collect();
    assert_eq!((documents.len(), documents[0], documents[2]), (3, service, on_host.as_str()));
    assert!(documents[1].contains("name: isthmus-proxy"), "{out}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with("standard input: line 10: Pod cart: not injected: spec.hostNetwork"), "{err}");
    let ran = inject(VALUES, service, &[]);
    assert_eq!((ran.status.success(), text(&ran.stdout).as_str()), (true, service));
    assert_eq!(text(&ran.stderr), "standard input: nothing in it makes pods; it comes out as it went in\n");
    let ran = inject(VALUES, POD, &["--namespace", "kube-system", "-o", "json"]);
    assert!(text(&ran.stderr).contains("namespace kube-system never get a sidecar"), "{ran:?}");
    assert!(text(&ran.stdout).starts_with("{\n  \"apiVersion\": \"v1\","), "{ran:?}");
}

#[test]
fn a_file_of_which_a_part_cannot_be_injected_prints_nothing_that_could_be_applied() {
    let wrong = POD.replace("annotations: {}", "annotations: {sidecar.istio.io/proxyCPU: lots}");
    let ran = inject(VALUES, &format!("{POD}---\n{wrong}"), &[]);
    let err = text(&ran.stderr);
    assert!(!ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
    assert!(err.contains("line 6: Pod cart: metadata.annotations[\"sidecar.istio.io/proxyCPU\"]: \"lots\""), "{err}");
    for (values, input, words) in [
        ("injection: {mesh: mesh.example}\n", POD, "cluster"),
        ("injection: {mesh: mesh.example, cluster: us-east, colour: red}\n", POD, "colour"),
        (VALUES, "a: [\n", "standard input: line "),
    ] {
        let ran = inject(values, input, &[]);
        let err = text(&ran.stderr);
        assert!(!ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
        assert!(err.starts_with("isthmus: ") && err.contains(words) && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn a_clusters_own_config_map_is_taken_whole_and_a_part_of_it_that_leaves_names_open_is_not() {
    let open = "injection: {mesh: \"${ISTHMUS_MESH}\", cluster: \"${ISTHMUS_CLUSTER}\", image: \"${ISTHMUS_IMAGE}\"}";
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  mesh: mesh.example\n  cluster: us-east\n  image: here/isthmus:7\n  \
         mesh.yaml: '{open}'\n"
    );
    let ran = inject(&map, POD, &[]);
    assert!(ran.status.success() && text(&ran.stdout).contains("here/isthmus:7"), "{ran:?}");
    let ran = inject(open, POD, &[]);
    let err = text(&ran.stderr);
    assert!(!ran.status.success() && err.contains("kubectl get configmap isthmus -n isthmus-system -o yaml"), "{err}");
}

#[test]
fn without_values_a_cluster_is_asked_and_both_together_are_refused() {
    let run = |arguments: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_isthmus")).args(arguments).output().unwrap();
        assert!(!ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
        text(&ran.stderr)
    };
    let folder = tempfile::tempdir().unwrap();
    let (nowhere, mesh) = (folder.path().join("kubeconfig"), folder.path().join("mesh.yaml"));
    let (nowhere, mesh) = (nowhere.to_str().unwrap(), mesh.to_str().unwrap());
    let said = run(&["inject", "-f", "-", "--kubeconfig", nowhere]);
    assert!(said.contains("--context") && said.contains("--values") && said.contains(nowhere), "{said}");
    let said = run(&["inject", "-f", "-", "--values", mesh, "--context", "us-east"]);
    assert!(said.contains("cannot be used with"), "{said}");
}
