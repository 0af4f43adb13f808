//! Which of several policies binds a service.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::FailoverPolicy;
use crate::name::{ClusterName, ServiceName};

/// A policy as its cluster says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Written {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// When its cluster read it first, Unix milliseconds by that cluster's clock: of two the older binds.
    pub created_ms: u64,
    /// What it says.
    pub spec: FailoverPolicy,
}

/// A policy and who wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// The cluster that wrote it.
    pub writer: &'a ClusterName,
    /// The policy.
    pub policy: &'a Written,
}

impl std::fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} of {}", self.policy.namespace, self.policy.name, self.writer)
    }
}

/// Those that are for a service, the one that binds it first. `candidates` are only those that may bind `importer` at
/// all ([`crate::consent`]).
#[must_use]
pub fn binding<'a>(
    importer: &ClusterName,
    service: &ServiceName,
    labels: &BTreeMap<String, String>,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
) -> Vec<Candidate<'a>> {
    let ranked = |one: Candidate<'a>| {
        let specific = one.policy.spec.services.specificity(&one.policy.namespace, service, labels)?;
        let rank = (Reverse(specific), one.writer != importer, one.policy.created_ms);
        Some(((rank, one.writer, &one.policy.namespace, &one.policy.name), one))
    };
    let mut all: Vec<_> = candidates.into_iter().filter_map(ranked).collect();
    all.sort_by_key(|(rank, _)| *rank);
    all.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::{policy::Targets, selector::LabelSelector};

    fn policy(namespace: &str, name: &str, created_ms: u64, services: Targets) -> Written {
        let spec = FailoverPolicy { services, ..Default::default() };
        Written { namespace: namespace.into(), name: name.into(), created_ms, spec }
    }

    fn names(of: &[&str]) -> Targets {
        Targets { names: of.iter().map(ToString::to_string).collect(), ..Default::default() }
    }

    #[test]
    fn the_more_specific_binds_then_the_importers_own_then_the_older() {
        let [east, west] = ["east", "west"].map(|name| name.parse::<ClusterName>().unwrap());
        let service = ServiceName::new("shop", "cart").unwrap();
        let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
        let by_label = LabelSelector { match_labels: labels.clone(), ..Default::default() };
        let all = policy("isthmus-system", "all", 1, Targets::default());
        let namespace = policy("shop", "namespace", 2, Targets::default());
        let label = policy("shop", "label", 3, Targets { selector: Some(by_label), ..Default::default() });
        let name = policy("isthmus-system", "name", 4, names(&["shop/cart"]));
        let (younger, other) =
            (policy("shop", "younger", 9, names(&["cart"])), policy("shop", "other", 0, names(&["x"])));
        let elsewhere = policy("bank", "elsewhere", 0, Targets::default());
        let of = |writer, policy| Candidate { writer, policy };
        let offered = [
            of(&east, &all),
            of(&east, &namespace),
            of(&east, &label),
            of(&east, &name),
            of(&east, &other),
            of(&east, &elsewhere),
            of(&east, &younger),
            of(&west, &younger),
        ];
        let bound = binding(&west, &service, &labels, offered);
        let order: Vec<_> = bound.iter().map(ToString::to_string).collect();
        assert_eq!(
            order,
            [
                "shop/younger of west",
                "isthmus-system/name of east",
                "shop/younger of east",
                "shop/label of east",
                "shop/namespace of east",
                "isthmus-system/all of east"
            ]
        );
    }
}
