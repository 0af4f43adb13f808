//! Pure: what an installation has or has not: kinds, webhooks, rights of people, policies of the network.

use anyhow::Result;
use serde_json::json;

use super::{in_files, is_workload, items, put};
use crate::install::base::{self, Object};

/// The group of MCS' kinds.
const MCS: &str = "multicluster.x-k8s.io";
/// The webhook that injects.
pub(super) const INJECTION: (&str, &str) = ("MutatingWebhookConfiguration", "isthmus-injection");
/// The webhook that looks at what is applied.
const VALIDATION: (&str, &str) = ("ValidatingWebhookConfiguration", "isthmus-validation");
/// What our kinds need beside their definitions.
const POLICIES: [&str; 2] = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
/// What Kubernetes' own roles hold of our kinds.
const AGGREGATES: [&str; 2] = ["isthmus-view", "isthmus-edit"];

/// Takes our kinds out, and MCS' with them: somebody else brings them.
pub(super) fn without_kinds(objects: &mut Vec<Object>) -> Result<()> {
    let is_istios = |object: &Object| object.reference.name.ends_with(".istio.io");
    objects.retain(|object| {
        let kind = object.reference.kind.kind.as_str();
        !POLICIES.contains(&kind) && (kind != base::DEFINITION || is_istios(object))
    });
    Ok(())
}

/// Takes MCS' kinds out, where another implementation brought them.
pub(super) fn without_mcs(objects: &mut Vec<Object>) -> Result<()> {
    let is_mcs =
        |object: &Object| object.reference.kind.kind == base::DEFINITION && object.reference.name.ends_with(MCS);
    objects.retain(|object| !is_mcs(object));
    Ok(())
}

/// Brings Istio's kinds, behind our own.
pub(super) fn with_istio(objects: &mut Vec<Object>) -> Result<()> {
    let is_before = |object: &Object| [base::DEFINITION, "Namespace"].contains(&object.reference.kind.kind.as_str());
    let behind = objects.iter().rposition(is_before).map_or(0, |at| at + 1);
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

/// Whether our objects are taken while control is away. Of Istio's it warns alone.
pub(super) fn looks_fail(objects: &mut [Object], policy: &str) -> Result<()> {
    for object in objects.iter_mut().filter(|object| object.is(VALIDATION.0, VALIDATION.1)) {
        let ours = items(&mut object.document, "/webhooks");
        let mut ours = ours.filter(|one| one.get("name") == Some(&json!("validation.isthmus.dev")));
        ours.try_for_each(|webhook| put(webhook, &["failurePolicy"], json!(policy)))?;
    }
    Ok(())
}

/// Takes out what view, edit and admin hold of our kinds.
pub(super) fn without_aggregates(objects: &mut Vec<Object>) -> Result<()> {
    objects.retain(|object| !AGGREGATES.iter().any(|name| object.is("ClusterRole", name)));
    Ok(())
}

/// Brings the roles' ports as policies of the network, before who listens there.
pub(super) fn with_network_policies(objects: &mut Vec<Object>) -> Result<()> {
    let before = objects.iter().position(is_workload).unwrap_or(objects.len());
    objects.splice(before..before, base::of_network()?);
    Ok(())
}
