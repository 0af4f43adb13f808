//! For which services a policy is, and how specific it is about each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{failover::selector::LabelSelector, name::ServiceName};

/// Policies of this namespace may be for services of any.
pub const SYSTEM_NAMESPACE: &str = "isthmus-system";

/// Services by name, by label, or by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Targets {
    /// Of the policy's namespace, or `namespace/name` in a policy of `isthmus-system`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// By the labels of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Of these namespaces; only in a policy of `isthmus-system`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

impl Targets {
    pub(super) fn faults(&self, namespace: &str) -> Vec<(String, String)> {
        let mut faults = vec![];
        let ways = [!self.names.is_empty(), self.selector.is_some(), !self.namespaces.is_empty()];
        if ways.iter().filter(|is_there| **is_there).count() > 1 {
            faults.push(("spec.services".into(), "write one of names, selector and namespaces".into()));
        }
        if !self.namespaces.is_empty() && namespace != SYSTEM_NAMESPACE {
            let reason = format!("only a policy of {SYSTEM_NAMESPACE} is for other namespaces than its own");
            faults.push(("spec.services.namespaces".into(), reason));
        }
        for (index, name) in self.names.iter().enumerate() {
            if self.service(namespace, name).is_none() {
                let reason = match namespace {
                    SYSTEM_NAMESPACE => format!("{name:?} names no service; write namespace/name"),
                    _ => format!("{name:?} is no name of a service in {namespace}"),
                };
                faults.push((format!("spec.services.names[{index}]"), reason));
            }
        }
        faults.extend(
            self.selector
                .as_ref()
                .and_then(LabelSelector::fault)
                .map(|(field, reason)| (format!("spec.services.selector.{field}"), reason)),
        );
        faults
    }

    fn service(&self, namespace: &str, name: &str) -> Option<ServiceName> {
        let full = name
            .parse::<ServiceName>()
            .ok()
            .filter(|full| namespace == SYSTEM_NAMESPACE || full.namespace() == namespace);
        full.or_else(|| ServiceName::new(namespace, name).ok().filter(|_| namespace != SYSTEM_NAMESPACE))
    }

    /// How specific it is about a service: 3 by name, 2 by label, 1 by namespace, 0 all; `None`: it is not for it.
    pub(super) fn specificity(
        &self,
        namespace: &str,
        service: &ServiceName,
        labels: &BTreeMap<String, String>,
    ) -> Option<u8> {
        let anywhere = namespace == SYSTEM_NAMESPACE;
        if !anywhere && service.namespace() != namespace {
            return None;
        }
        if !self.names.is_empty() {
            let named = |name: &String| self.service(namespace, name).as_ref() == Some(service);
            return self.names.iter().any(named).then_some(3);
        }
        if let Some(selector) = &self.selector {
            return selector.selects(labels).then_some(2);
        }
        if !self.namespaces.is_empty() {
            return self.namespaces.iter().any(|name| name == service.namespace()).then_some(1);
        }
        Some(u8::from(!anywhere))
    }
}
