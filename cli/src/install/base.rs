//! What the Helm chart renders, as it is in `deploy/kustomize/base`: part of the program, so that nothing else is needed to
//! install.

#[cfg(test)]
mod asked;
#[cfg(test)]
mod standards;

use anyhow::{Context, Result};
use isthmus_kubernetes::reference::Reference;
use serde_json::Value;

const FILES: [&str; 3] = [
    include_str!("../../../deploy/kustomize/base/namespace.yaml"),
    include_str!("../../../deploy/kustomize/base/crds.yaml"),
    include_str!("../../../deploy/kustomize/base/isthmus.yaml"),
];

/// Istio's kinds, which the chart brings where it is told to.
const ISTIO: [&str; 2] = [
    include_str!("../../../deploy/helm/isthmus/files/crds/istio/networking.istio.io_destinationrules.yaml"),
    include_str!("../../../deploy/helm/isthmus/files/crds/istio/networking.istio.io_virtualservices.yaml"),
];
/// The roles' ports as policies of the network, which the chart brings where it is told to.
const NETWORK: [&str; 1] = [include_str!("../../../deploy/kustomize/network-policies/networkpolicies.yaml")];
/// What brings a kind.
pub const DEFINITION: &str = "CustomResourceDefinition";

/// An object that is to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which it is.
    pub reference: Reference,
    /// All that is applied of it.
    pub document: Value,
}

impl Object {
    /// Whether it is of this kind and name.
    pub fn is(&self, kind: &str, name: &str) -> bool {
        self.reference.kind.kind == kind && self.reference.name == name
    }
}

/// All objects, in the order in which they are applied.
///
/// # Errors
/// None of a program that passed its tests.
pub fn objects() -> Result<Vec<Object>> {
    let mut objects = read(&FILES)?;
    objects.sort_by_key(|object| turn(&object.reference.kind.kind));
    Ok(objects)
}

/// Istio's definitions.
///
/// # Errors
/// None of a program that passed its tests.
pub fn of_istio() -> Result<Vec<Object>> {
    read(&ISTIO)
}

/// Policies of the network.
///
/// # Errors
/// None of a program that passed its tests.
pub fn of_network() -> Result<Vec<Object>> {
    read(&NETWORK)
}

fn read(texts: &[&str]) -> Result<Vec<Object>> {
    let mut objects = vec![];
    for text in texts {
        let options = serde_saphyr::options! { strict_booleans: true };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)?;
        for document in documents {
            let reference = Reference::of(&document).context("an object of the base has no name")?;
            objects.push(Object { reference, document });
        }
    }
    Ok(objects)
}

/// Whatever others need comes before them. Webhooks come last: until control serves them they keep pods from starting.
fn turn(kind: &str) -> u8 {
    match kind {
        "Namespace" => 0,
        DEFINITION => 1,
        "Deployment" | "StatefulSet" => 3,
        "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => 4,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => 5,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::release::VERSION;

    #[test]
    fn the_base_is_read_whole_and_webhooks_come_last() {
        let objects = objects().unwrap();
        let text = FILES.concat();
        let kinds = text.lines().filter(|line| line.starts_with("kind: ")).count();
        assert_eq!(objects.len(), kinds);
        assert!(objects[0].is("Namespace", "isthmus-system"));
        assert!(objects.last().unwrap().reference.kind.kind.ends_with("WebhookConfiguration"));
        let turns: Vec<_> = objects.iter().map(|object| turn(&object.reference.kind.kind)).collect();
        assert!(turns.is_sorted());
    }

    #[test]
    fn the_base_is_of_this_release() {
        for object in objects().unwrap() {
            let version = object.document.pointer("/metadata/labels/app.kubernetes.io~1version");
            if let Some(version) = version {
                assert_eq!(version, VERSION, "{}: run deploy/render", object.reference);
            }
        }
    }
}
