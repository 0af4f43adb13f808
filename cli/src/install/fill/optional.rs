//! Pure: what an installation has or has not: the kinds of others, the webhooks, and which pods the injector is asked about.

use anyhow::Result;
use serde_json::{Value, json};

use super::{in_files, items, names_of, put};
use crate::install::base::{self, Object};

/// The group of MCS' kinds.
const MCS: &str = "multicluster.x-k8s.io";
/// The webhook that injects.
const INJECTION: (&str, &str) = ("MutatingWebhookConfiguration", "isthmus-injection");
/// The webhook that looks at what is applied.
const VALIDATION: (&str, &str) = ("ValidatingWebhookConfiguration", "isthmus-validation");
/// Labels by which Istio's users ask for a sidecar.
const ISTIO_LABELS: [&str; 3] = ["istio-injection", "istio.io/rev", "sidecar.istio.io/inject"];
/// Of webhooks that are there for them alone.
const OF_ISTIO: [&str; 2] = ["istio-", "revision-"];

/// Takes MCS' kinds out, where another implementation brought them.
pub(super) fn without_mcs(objects: &mut Vec<Object>) -> Result<()> {
    let is_mcs =
        |object: &Object| object.reference.kind.kind == base::DEFINITION && object.reference.name.ends_with(MCS);
    objects.retain(|object| !is_mcs(object));
    Ok(())
}

/// Brings Istio's kinds, behind our own.
pub(super) fn with_istio(objects: &mut Vec<Object>) -> Result<()> {
    let behind =
        objects.iter().rposition(|object| object.reference.kind.kind == base::DEFINITION).map_or(0, |at| at + 1);
    objects.splice(behind..behind, base::of_istio()?);
    Ok(())
}

/// Takes the injector out.
pub(super) fn without_injection(objects: &mut Vec<Object>) -> Result<()> {
    without(objects, INJECTION)
}

/// Takes the look at what is applied out.
pub(super) fn without_validation(objects: &mut Vec<Object>) -> Result<()> {
    without(objects, VALIDATION)
}

/// Control serves webhooks as long as there is one.
fn without(objects: &mut Vec<Object>, (kind, name): (&str, &str)) -> Result<()> {
    objects.retain(|object| !object.is(kind, name));
    if [INJECTION, VALIDATION].iter().any(|(kind, name)| objects.iter().any(|object| object.is(kind, name))) {
        return Ok(());
    }
    in_files(objects, "injection: /etc/isthmus/mesh.yaml\n", "")
}

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
pub(super) fn excluded(objects: &mut [Object], value: &str) -> Result<()> {
    let names = names_of(value);
    for configuration in configurations(objects) {
        for webhook in items(configuration, "/webhooks") {
            let said = items(webhook, "/namespaceSelector/matchExpressions");
            let by_name = said.filter(|said| said.get("key") == Some(&json!("kubernetes.io/metadata.name")));
            for values in by_name.filter_map(|said| said.get_mut("values").and_then(Value::as_array_mut)) {
                values.extend(names.iter().map(|name| json!(name)));
            }
        }
    }
    in_files(objects, "excludedNamespaces: []", &format!("excludedNamespaces: {}", json!(names)))
}

/// What becomes of pods that want a sidecar while control is away.
pub(super) fn fails(objects: &mut [Object], policy: &str) -> Result<()> {
    for configuration in configurations(objects) {
        for webhook in items(configuration, "/webhooks") {
            put(webhook, &["failurePolicy"], json!(policy))?;
        }
    }
    Ok(())
}

fn configurations(objects: &mut [Object]) -> impl Iterator<Item = &mut Value> {
    objects.iter_mut().filter(|object| object.is(INJECTION.0, INJECTION.1)).map(|object| &mut object.document)
}
