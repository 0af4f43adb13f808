//! Pure: what goes, and in which order. Whatever others wait for or would write again goes before what it writes.

use std::collections::BTreeMap;

use isthmus_kubernetes::reference::Reference;
use serde_json::Value;

use crate::install::{cluster::managed_by, release::MANAGER};

/// What control makes in our namespace, which no label names.
pub const BY_NAME: [(&str, &str, &str); 3] = [
    ("v1", "Secret", "isthmus-ca"),
    ("v1", "Secret", "isthmus-federation-key"),
    ("coordination.k8s.io/v1", "Lease", "isthmus-control"),
];

/// One after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No pod is kept from starting by what is about to go.
    Webhooks,
    /// Nobody writes anything any more.
    Workloads,
    /// What they used.
    Rest,
    /// Keys and disks.
    State,
    /// The kinds, with all objects of them.
    Definitions,
    /// The namespace.
    Namespace,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::Webhooks, Self::Workloads, Self::Rest, Self::State, Self::Definitions, Self::Namespace];

    fn of(kind: &str) -> Self {
        match kind {
            "MutatingWebhookConfiguration"
            | "ValidatingWebhookConfiguration"
            | "ValidatingAdmissionPolicyBinding"
            | "ValidatingAdmissionPolicy" => Self::Webhooks,
            "Deployment" | "StatefulSet" => Self::Workloads,
            "Secret" | "PersistentVolumeClaim" => Self::State,
            "CustomResourceDefinition" => Self::Definitions,
            "Namespace" => Self::Namespace,
            _ => Self::Rest,
        }
    }

    /// Whether the next one begins when these objects are gone, and not when they are deleted.
    pub fn is_waited_for(self) -> bool {
        matches!(self, Self::Workloads | Self::Definitions | Self::Namespace)
    }
}

/// What goes.
#[derive(Debug, Default)]
pub struct Removal(BTreeMap<Phase, Vec<Reference>>);

impl Removal {
    /// What goes in a phase.
    pub fn of(&self, phase: Phase) -> &[Reference] {
        self.0.get(&phase).map_or(&[], Vec::as_slice)
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Of all that is there. A namespace that somebody else made stays, and so does one in which something is kept.
pub fn removal(all: &[Value], keep_crds: bool, keep_state: bool) -> Removal {
    let mut removal = Removal::default();
    for object in all {
        let Some(reference) = Reference::of(object) else { continue };
        let phase = Phase::of(&reference.kind.kind);
        let kept = match phase {
            Phase::State => keep_state,
            Phase::Definitions => keep_crds,
            Phase::Namespace => keep_state || managed_by(object) != MANAGER,
            _ => false,
        };
        let objects = removal.0.entry(phase).or_default();
        if !kept && !objects.contains(&reference) {
            objects.push(reference);
        }
    }
    removal
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, managed: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "a", "labels": { "app.kubernetes.io/managed-by": managed } } })
    }

    fn order(removal: &Removal) -> Vec<String> {
        Phase::ALL.iter().flat_map(|phase| removal.of(*phase)).map(|object| object.kind.kind.clone()).collect()
    }

    #[test]
    fn webhooks_go_before_control_and_control_before_what_it_writes() {
        let kinds = [
            "Namespace",
            "CustomResourceDefinition",
            "Secret",
            "ConfigMap",
            "Deployment",
            "MutatingWebhookConfiguration",
        ];
        let all: Vec<_> = kinds.iter().map(|kind| object(kind, MANAGER)).collect();
        let mut wanted = kinds.map(ToOwned::to_owned);
        wanted.reverse();
        assert_eq!(order(&removal(&all, false, false)), wanted);
    }

    #[test]
    fn what_is_kept_stays_and_so_does_a_namespace_of_somebody_else() {
        let all = ["Secret", "CustomResourceDefinition", "Namespace"].map(|kind| object(kind, MANAGER));
        assert_eq!(order(&removal(&all, true, false)), ["Secret", "Namespace"]);
        assert_eq!(order(&removal(&all, false, true)), ["CustomResourceDefinition"]);
        assert!(removal(&[object("Namespace", "")], false, false).is_empty());
        // Found twice, by two labels, it goes once.
        assert_eq!(removal(&[object("ConfigMap", ""), object("ConfigMap", "")], false, false).len(), 1);
    }
}
