//! Pure: what is left of the mesh, and why.

use std::collections::BTreeMap;

use isthmus_inject::words::PROXY;
use isthmus_kubernetes::client::SYSTEM_NAMESPACE;
use serde_json::Value;

use crate::{
    args::Uninstall,
    install::{cluster::managed_by, release::MANAGER},
    rollout::{list, named, text},
};

/// A thing and the reason, for everything that is still there.
pub fn left(seen: &[Value], uninstall: &Uninstall) -> Vec<(String, String)> {
    let mut all: Vec<_> = seen.iter().filter_map(|object| of(object, uninstall)).collect();
    let mut pods = BTreeMap::<&str, usize>::new();
    for pod in seen.iter().filter(|object| has_sidecar(object)) {
        *pods.entry(text(pod, "/metadata/namespace")).or_default() += 1;
    }
    all.extend(pods.iter().map(|(namespace, count)| {
        let why = format!(
            "their sidecars serve what they last knew; `kubectl -n {namespace} rollout restart deployment` takes them out"
        );
        (format!("{count} pods in {namespace}"), why)
    }));
    all
}

fn of(object: &Value, uninstall: &Uninstall) -> Option<(String, String)> {
    let name = text(object, "/metadata/name");
    // A dry run takes nothing away; what would go is not what would be left.
    let why = match text(object, "/kind") {
        "CustomResourceDefinition" if uninstall.keep_crds => "--keep-crds".to_owned(),
        "Secret" if name == "cacerts" => "your own certificate authority".to_owned(),
        "Secret" | "PersistentVolumeClaim" if uninstall.keep_state => "--keep-state".to_owned(),
        "Namespace" if uninstall.keep_state => "--keep-state".to_owned(),
        "Namespace" if managed_by(object) != MANAGER => {
            format!("`install` did not make it; `kubectl delete namespace {name}`")
        }
        "PersistentVolume" if text(object, "/spec/claimRef/namespace") == SYSTEM_NAMESPACE => {
            if text(object, "/spec/persistentVolumeReclaimPolicy") != "Retain" {
                return None;
            }
            format!("it retains the member's data; `kubectl delete pv {name}`")
        }
        _ => return None,
    };
    Some((named(object), why))
}

fn has_sidecar(object: &Value) -> bool {
    let is = |container: &Value| text(container, "/name") == PROXY;
    text(object, "/kind") == "Pod" && list(object, "/spec/initContainers").iter().any(is)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::args::{Form, Output};

    fn uninstall(keep_crds: bool, keep_state: bool) -> Uninstall {
        Uninstall { keep_crds, keep_state, yes: true, dry_run: false, output: Output { output: Form::Table } }
    }

    fn object(kind: &str, name: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } })
    }

    #[test]
    fn what_was_to_be_kept_is_told_and_what_is_not_ours_too() {
        let seen = [
            object("CustomResourceDefinition", "c"),
            object("Secret", "isthmus-ca"),
            object("Secret", "cacerts"),
            object("Namespace", "isthmus-system"),
        ];
        let told =
            |uninstall: &Uninstall| left(&seen, uninstall).into_iter().map(|(thing, _)| thing).collect::<Vec<_>>();
        assert_eq!(told(&uninstall(false, false)), ["Secret cacerts", "Namespace isthmus-system"]);
        assert_eq!(
            told(&uninstall(true, false)),
            ["CustomResourceDefinition c", "Secret cacerts", "Namespace isthmus-system"]
        );
        assert_eq!(left(&seen, &uninstall(false, true))[0], ("Secret isthmus-ca".into(), "--keep-state".into()));
    }

    #[test]
    fn pods_that_still_have_sidecars_are_counted_and_volumes_that_retain_data_named() {
        let pod = |name: &str| json!({ "kind": "Pod", "metadata": { "name": "a", "namespace": "n" }, "spec": { "initContainers": [{ "name": name }] } });
        let volume = |policy: &str| {
            json!({
                "kind": "PersistentVolume", "metadata": { "name": "v" },
                "spec": { "claimRef": { "namespace": "isthmus-system" }, "persistentVolumeReclaimPolicy": policy },
            })
        };
        let seen = [pod(PROXY), pod(PROXY), pod("other"), volume("Delete"), volume("Retain")];
        let told: Vec<_> = left(&seen, &uninstall(false, false)).into_iter().map(|(thing, _)| thing).collect();
        assert_eq!(told, ["PersistentVolume v", "2 pods in n"]);
    }
}
