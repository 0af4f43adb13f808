//! Whole workloads, before and after: what a reader of `kubectl get -o yaml` sees. After a change that is meant,
//! `ISTHMUS_GOLDEN=write cargo test -p isthmus-inject --test golden` writes them anew; read the difference before you
//! commit it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use isthmus_inject::{
    Values, inject, inject_into, manifest,
    manifest::{Document, Note, Outcome},
    remove, workload,
};

const VALUES: &str = "injection: {mesh: mesh.example, cluster: us-east, image: registry.example/isthmus:1}\n";

fn values() -> Values {
    Values::from_mesh_yaml(VALUES).unwrap()
}

fn injected(text: &str) -> (Vec<Document>, Vec<Note>) {
    let mut documents = manifest::documents(text).unwrap();
    let notes = manifest::inject_all(&mut documents, None, &values()).unwrap();
    (documents, notes)
}

/// Compares what came out with the file beside the input. The release is no part of it: it changes with each.
fn compare(name: &str) -> Vec<Note> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (documents, notes) = injected(&std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap());
    assert_eq!(documents.len(), 1);
    let came = serde_saphyr::to_string(&documents[0].value).unwrap();
    let came = came.replace(env!("CARGO_PKG_VERSION"), "RELEASE");
    let path = folder.join(format!("{name}.injected.yaml"));
    if std::env::var("ISTHMUS_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &came).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (came, kept)) in came.lines().zip(kept.lines()).enumerate() {
        assert_eq!(came, kept, "{}:{}", path.display(), number + 1);
    }
    assert_eq!(came.lines().count(), kept.lines().count(), "{}", path.display());
    notes
}

fn warnings(name: &str) -> Vec<String> {
    match compare(name).remove(0).outcome {
        Outcome::Injected(warnings) => warnings,
        Outcome::Left(reason) => panic!("{name} is left: {reason}"),
    }
}

#[test]
fn a_deployment_gets_capture_and_sidecar() {
    assert!(warnings("deployment").is_empty());
}

#[test]
fn a_job_of_which_nothing_runs_on_gets_both_before_its_own_init_containers() {
    assert!(warnings("job").is_empty());
}

#[test]
fn probes_are_asked_through_the_sidecar_but_for_commands_other_hosts_and_what_cannot_be_asked() {
    let said = warnings("statefulset");
    assert_eq!(
        said,
        [
            "livenessProbe of container exporter names a port that the container has not; the probe stays as it is",
            "startupProbe of container exporter has a path, a scheme, a header or a service that none can be asked by; \
             the probe stays as it is",
        ]
    );
}

#[test]
fn a_pod_on_its_nodes_network_is_left_with_the_reason() {
    let Outcome::Left(reason) = compare("host-network").remove(0).outcome else { panic!("it is injected") };
    assert!(reason.contains("spec.hostNetwork") && reason.contains("remove hostNetwork"), "{reason}");
}

#[test]
fn annotations_say_how_the_sidecar_is_and_what_is_not_honoured_is_said() {
    let said = warnings("annotated");
    assert_eq!(
        said,
        [
            "proxy.istio.io/config: field tracing is not honoured by this mesh",
            "annotation sidecar.istio.io/logLevel is not honoured by this mesh",
            "container cart runs as user 1337, the sidecar's: its connections are not captured",
        ]
    );
}

#[test]
fn every_workload_of_a_bookshop_is_injected_and_nothing_else_is_touched() {
    let text = include_str!("bookinfo.yaml");
    let (after, notes) = injected(text);
    let before = manifest::documents(text).unwrap();
    let titles: Vec<_> = notes.iter().map(|note| note.title.as_str()).collect();
    let expected = ["details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3", "productpage-v1"];
    assert_eq!(titles, expected.map(|name| format!("Deployment {name}")));
    assert!(notes.iter().all(|note| note.outcome == Outcome::Injected(vec![])), "{notes:?}");
    assert_eq!(after.len(), before.len());
    for (after, before) in after.into_iter().zip(before) {
        let mut changed = before.value.clone();
        if workload::workloads(&mut changed).is_empty() {
            assert_eq!((&after.text, &after.value), (&before.text, &before.value), "letter by letter");
            continue;
        }
        for workload in workload::workloads(&mut changed) {
            let once = inject_into(workload.pod, workload.name.as_deref(), &values()).unwrap().pod;
            assert_eq!(remove(&once).unwrap(), *workload.pod, "{}", workload.title);
            *workload.pod = once;
        }
        assert_eq!(after.value, changed);
        assert!(after.text.is_empty(), "its old text counts no more");
    }
}

#[test]
fn a_pod_has_the_name_of_its_workload_whether_its_template_is_injected_or_itself() {
    let (documents, _) = injected(include_str!("golden/deployment.yaml"));
    let mut pod = documents[0].value["spec"]["template"].clone();
    pod["metadata"]["labels"]["pod-template-hash"] = "7c9d4b".into();
    let owner = |name: &str| serde_json::json!([{"kind": "ReplicaSet", "name": name, "controller": true}]);
    pod["metadata"]["ownerReferences"] = owner("reviews-v1-7c9d4b");
    assert_eq!(inject(&pod, &values()).unwrap().pod, pod, "it has what it would get");
    pod["metadata"]["ownerReferences"] = owner("by-hand");
    assert!(
        inject(&pod, &values()).unwrap().pod.to_string().contains(r#"{"name":"ISTHMUS_WORKLOAD","value":"by-hand"}"#)
    );
}

#[test]
fn the_namespaces_of_a_file_say_no_for_the_workloads_in_it() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: quiet}\nspec: {containers: [{name: a}]}\n";
    let no = "apiVersion: v1\nkind: Namespace\nmetadata: {name: quiet, labels: {istio-injection: disabled}}\n";
    let (_, notes) = injected(&format!("{pod}---\n{no}"));
    let left = Outcome::Left("its namespace says no by the label istio-injection".into());
    assert_eq!(notes, [Note { line: 1, title: "Pod a".into(), outcome: left }]);
    let (_, notes) = injected(pod);
    assert_eq!(notes[0].outcome, Outcome::Injected(vec![]));
}

#[test]
fn workloads_in_lists_and_cron_jobs_are_injected_and_what_is_of_no_known_kind_is_told() {
    let (documents, notes) = injected(include_str!("golden/list.yaml"));
    let is_injected = |note: &Note| note.outcome == Outcome::Injected(vec![]);
    let said: Vec<_> = notes.iter().map(|note| (note.title.as_str(), is_injected(note))).collect();
    assert_eq!(said, [("Rollout canary", false), ("CronJob nightly", true), ("Deployment inner", true)]);
    let Outcome::Left(reason) = &notes[0].outcome else { panic!("{notes:?}") };
    assert!(reason.contains("is not known here") && reason.contains("the webhook"), "{reason}");
    let items = documents[0].value["items"].as_array().unwrap();
    let has_sidecar = |pod: &serde_json::Value| pod["spec"]["initContainers"][1]["name"] == "isthmus-proxy";
    assert!(has_sidecar(&items[0]["spec"]["jobTemplate"]["spec"]["template"]));
    assert!(has_sidecar(&items[3]["items"][0]["spec"]["template"]));
    let before = manifest::documents(include_str!("golden/list.yaml")).unwrap().remove(0).value;
    assert_eq!((&items[1], &items[2]), (&before["items"][1], &before["items"][2]), "untouched");
    assert!(items[0].to_string().contains(r#"{"name":"ISTHMUS_WORKLOAD","value":"nightly"}"#));
}

#[test]
fn a_template_that_was_injected_and_cannot_be_any_more_is_as_it_was_before() {
    let (mut documents, _) = injected(include_str!("golden/deployment.yaml"));
    let mut bare = manifest::documents(include_str!("golden/deployment.yaml")).unwrap().remove(0).value;
    for value in [&mut documents[0].value, &mut bare] {
        value["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    }
    let notes = manifest::inject_all(&mut documents, None, &values()).unwrap();
    let Outcome::Left(reason) = &notes[0].outcome else { panic!("{notes:?}") };
    assert!(reason.contains("hostNetwork") && reason.ends_with("; the sidecar that it had is taken out"), "{reason}");
    assert_eq!(documents[0].value, bare);
}

#[test]
fn a_file_that_is_no_yaml_or_asks_for_what_cannot_be_is_refused_by_line() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    isthmus.dev/excludeOutboundPorts: 80,x\nspec: {containers: []}\n";
    let mut documents = manifest::documents(&format!("a: b\n---\n{pod}")).unwrap();
    let errors = manifest::inject_all(&mut documents, None, &values()).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "line 3: Pod a: metadata.annotations[\"isthmus.dev/excludeOutboundPorts\"]: \"80,x\" is no list of ports: \"x\" \
         is none; write numbers from 1 to 65535 with commas between, such as 80,443"
    );
    let error = manifest::documents("a: b\n---\nc: [\n").unwrap_err();
    assert!(
        error.to_string().starts_with("line 3: this is no YAML: ") || error.to_string().starts_with("line 4: "),
        "{error}"
    );
}
