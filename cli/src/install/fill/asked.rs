//! Pure: which pods the injector is asked about.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Object, in_files, items, optional::INJECTION, put};

/// The label that is our own.
const OWN_LABEL: &str = "isthmus.dev/inject";
/// What names of webhooks end in.
const OF_INJECTION: &str = ".injection.isthmus.dev";
/// Webhooks for those who name no revision.
const OF_DEFAULT: [&str; 5] = ["namespace", "both", "istio-namespace", "istio-pod", "everybody"];
/// Labels by which Istio's users ask for a sidecar.
const ISTIO_LABELS: [&str; 3] = ["istio-injection", "istio.io/rev", "sidecar.istio.io/inject"];
/// Of webhooks that are there for them alone.
const OF_ISTIO: [&str; 2] = ["istio-", "revision-"];

/// Only our own label asks for a sidecar: where an Istio is, its labels ask for Istio's.
pub(super) fn without_istio_labels(objects: &mut [Object]) -> Result<()> {
    for configuration in configurations(objects) {
        let webhooks = configuration.get_mut("webhooks").and_then(Value::as_array_mut);
        let name = |webhook: &Value| webhook.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        webhooks.into_iter().for_each(|all| all.retain(|one| !OF_ISTIO.iter().any(|of| name(one).starts_with(of))));
        for webhook in items(configuration, "/webhooks") {
            for selector in ["namespaceSelector", "objectSelector"] {
                let said = webhook.pointer_mut(&format!("/{selector}/matchExpressions")).and_then(Value::as_array_mut);
                let is_istios = |said: &Value| ISTIO_LABELS.iter().any(|label| said.get("key") == Some(&json!(label)));
                said.into_iter().for_each(|all| all.retain(|one| !is_istios(one)));
            }
        }
    }
    Ok(())
}

/// Namespaces whose pods never get a sidecar: the injector is not asked about them, and would not inject them.
pub(super) fn excluded(objects: &mut [Object], names: &[&str]) -> Result<()> {
    for configuration in configurations(objects) {
        for webhook in items(configuration, "/webhooks") {
            let said = items(webhook, "/namespaceSelector/matchExpressions");
            let by_name = said.filter(|said| is_by_name(said));
            for values in by_name.filter_map(|said| said.get_mut("values").and_then(Value::as_array_mut)) {
                values.extend(names.iter().map(|name| json!(name)));
            }
        }
    }
    in_files(objects, "excludedNamespaces: []", &format!("excludedNamespaces: {}", json!(names)))
}

/// A field of every webhook.
pub(super) fn each(objects: &mut [Object], field: &str, value: &Value) -> Result<()> {
    let mut webhooks = configurations(objects).flat_map(|configuration| items(configuration, "/webhooks"));
    webhooks.try_for_each(|webhook| put(webhook, &[field], value.clone()))
}

/// What becomes of pods of which nobody says anything: with `enabled` the injector is asked about them too.
pub(super) fn policy(objects: &mut [Object], policy: &str) -> Result<()> {
    in_files(objects, "policy: disabled", &format!("policy: {policy}"))?;
    if policy == "enabled" {
        configurations(objects).try_for_each(everybody)?;
    }
    Ok(())
}

/// A webhook for who says nothing, as alike to the others as they are to each other.
fn everybody(configuration: &mut Value) -> Result<()> {
    let Some(all) = configuration.get_mut("webhooks").and_then(Value::as_array_mut) else { return Ok(()) };
    let reads_istios = all.iter().any(|webhook| is_one(webhook, "istio-pod"));
    let Some(mut webhook) = all.first().cloned() else { return Ok(()) };
    put(&mut webhook, &["name"], json!(format!("everybody{OF_INJECTION}")))?;
    let absent = |label: &str| json!({ "key": label, "operator": "DoesNotExist" });
    let silent = |labels: [&str; 2]| {
        let istios = labels.into_iter().filter(|_| reads_istios);
        std::iter::once(OWN_LABEL).chain(istios).map(absent).collect::<Vec<_>>()
    };
    let of_pod = silent(["sidecar.istio.io/inject", "istio.io/rev"]);
    put(&mut webhook, &["objectSelector", "matchExpressions"], json!(of_pod))?;
    let said = webhook.pointer_mut("/namespaceSelector/matchExpressions").and_then(Value::as_array_mut);
    let said = said.context("a webhook of the base asks about every namespace")?;
    said.retain(is_by_name);
    said.extend(silent(["istio-injection", "istio.io/rev"]));
    all.push(webhook);
    Ok(())
}

/// The revision that is ours. Only the default one answers for those who name none.
pub(super) fn revision(objects: &mut [Object], revision: &str) -> Result<()> {
    in_files(objects, "revision: \"default\"", &format!("revision: \"{revision}\""))?;
    for configuration in configurations(objects) {
        let webhooks = configuration.get_mut("webhooks").and_then(Value::as_array_mut);
        let is_of_default = |webhook: &Value| OF_DEFAULT.iter().any(|name| is_one(webhook, name));
        let goes = |webhook: &Value| revision != "default" && is_of_default(webhook);
        webhooks.into_iter().for_each(|all| all.retain(|webhook| !goes(webhook)));
        for webhook in items(configuration, "/webhooks") {
            for said in ["/namespaceSelector/matchExpressions", "/objectSelector/matchExpressions"] {
                let mut ours = items(webhook, said).filter(|one| one.get("values") == Some(&json!(["default"])));
                ours.try_for_each(|one| put(one, &["values"], json!([revision])))?;
            }
        }
    }
    Ok(())
}

fn is_one(webhook: &Value, name: &str) -> bool {
    webhook.get("name").and_then(Value::as_str).and_then(|all| all.strip_suffix(OF_INJECTION)) == Some(name)
}

fn is_by_name(said: &Value) -> bool {
    said.get("key") == Some(&json!("kubernetes.io/metadata.name"))
}

fn configurations(objects: &mut [Object]) -> impl Iterator<Item = &mut Value> {
    objects.iter_mut().filter(|object| object.is(INJECTION.0, INJECTION.1)).map(|object| &mut object.document)
}
