//! Pure: the pods of the roles.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Object, Setting, at_place, each_container, in_files, is_workload, items, merge, put};

/// What may be set of each role.
pub(super) const EACH: [&str; 8] = [
    "affinity",
    "nodeSelector",
    "podAnnotations",
    "podDisruptionBudget.enabled",
    "podLabels",
    "priorityClassName",
    "resources",
    "tolerations",
];
/// Of a workload: its pods.
const POD: [&str; 3] = ["spec", "template", "spec"];
/// Where Prometheus looks, as its users have it.
const PROMETHEUS: [&str; 3] = ["prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path"];

/// Of one role.
pub(super) fn set(objects: &mut Vec<Object>, role: &str, what: &str, setting: &Setting) -> Result<()> {
    let name = format!("isthmus-{role}");
    if what == "podDisruptionBudget.enabled" {
        let goes = setting.value == "false";
        objects.retain(|object| !(goes && object.is("PodDisruptionBudget", &name)));
        return Ok(());
    }
    let found = objects.iter_mut().find(|object| is_workload(object) && object.reference.name == name);
    let document = &mut found.with_context(|| format!("the base has no {name}"))?.document;
    let pod = at_place(document, &POD)?;
    match what {
        "priorityClassName" => return put(pod, &[what], json!(setting.value)),
        "nodeSelector" => merge(at_place(pod, &[what])?, setting.structure()?),
        "affinity" | "tolerations" => put(pod, &[what], setting.structure()?)?,
        "resources" => {
            let (container, amounts) = (items(pod, "/containers").next(), setting.structure()?);
            merge(at_place(container.context("a role has no container")?, &[what])?, amounts);
        }
        "podAnnotations" => {
            merge(at_place(document, &["spec", "template", "metadata", "annotations"])?, setting.structure()?)
        }
        "podLabels" => merge(at_place(document, &["spec", "template", "metadata", "labels"])?, setting.structure()?),
        _ => bail!("{what} is not of every role"),
    }
    Ok(())
}

/// Of all of them.
pub(super) fn all(objects: &mut [Object], what: &str, setting: &Setting) -> Result<()> {
    let value = setting.value.as_str();
    match what {
        "pullPolicy" => {
            in_files(objects, "imagePullPolicy: IfNotPresent", &format!("imagePullPolicy: {value}"))?;
            each_container(objects, |container| put(container, &["imagePullPolicy"], json!(value)))
        }
        "pullSecrets" => {
            let secrets: Vec<_> = setting.words().into_iter().map(|name| json!({ "name": name })).collect();
            each(objects, |workload| put(at_place(workload, &POD)?, &["imagePullSecrets"], json!(secrets)))
        }
        "prometheusAnnotations" if value == "false" => each(objects, |workload| {
            let annotations = at_place(workload, &["spec", "template", "metadata", "annotations"])?;
            let said = annotations.as_object_mut().into_iter();
            said.for_each(|all| all.retain(|name, _| !PROMETHEUS.contains(&name.as_str())));
            Ok(())
        }),
        _ => Ok(()),
    }
}

fn each(objects: &mut [Object], change: impl Fn(&mut Value) -> Result<()>) -> Result<()> {
    objects.iter_mut().filter(|object| is_workload(object)).try_for_each(|object| change(&mut object.document))
}

/// How many pods a role has.
pub(super) fn replicas(objects: &mut [Object], role: &str, value: &str) -> Result<()> {
    let found = &mut super::one(objects, "Deployment", &format!("isthmus-{role}"))?.document;
    put(found, &["spec", "replicas"], json!(value.parse::<u32>()?))
}

/// Pods get their region as it is typed, and not from their node.
pub(super) fn region(objects: &mut [Object], region: &str) -> Result<()> {
    each_container(objects, |container| {
        for variable in items(container, "/env") {
            if variable.get("name").and_then(Value::as_str) == Some("ISTHMUS_REGION") {
                *variable = json!({ "name": "ISTHMUS_REGION", "value": region });
            }
        }
        Ok(())
    })
}
