//! Selectors: over labels as Kubernetes has them (`metav1.LabelSelector`), and over cluster properties with the words
//! of KEP-5939, which differ in `matchProperties` and in `@SameAsImporter@`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// In the values of `In`, `NotIn` and `matchProperties`: the importing cluster's own value of that property. A cluster
/// that lacks the property selects nothing by it.
pub const SAME_AS_IMPORTER: &str = "@SameAsImporter@";
/// The property every cluster has: its name (KEP-2149).
pub const CLUSTER_PROPERTY: &str = "cluster.clusterset.k8s.io";
/// The property every cluster has: its region (KEP-5939).
pub const REGION_PROPERTY: &str = "region.topology.k8s.io";
/// The property every cluster has: the release of Isthmus that its control is of, as `1.2.3`.
pub const RELEASE_PROPERTY: &str = "release.isthmus.dev";
/// The own release.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// How a requirement compares (`metav1.LabelSelectorOperator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The value is one of these.
    In,
    /// The value is none of these, or there is none.
    NotIn,
    /// There is a value.
    Exists,
    /// There is none.
    DoesNotExist,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The label or property.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what; for `In` and `NotIn` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// All requirements must hold; none: everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels with just these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// All requirements must hold; an empty one is invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PropertySelector {
    /// Properties with just these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_properties: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

type Values = BTreeMap<String, String>;

impl LabelSelector {
    /// Whether these labels are selected.
    #[must_use]
    pub fn selects(&self, labels: &Values) -> bool {
        holds_all(&self.match_labels, &self.match_expressions, labels, None)
    }

    /// What is wrong with it, as (field, reason).
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        fault(&self.match_expressions)
    }
}

impl PropertySelector {
    /// Whether a cluster of these properties is selected by an importer of those.
    #[must_use]
    pub fn selects(&self, properties: &Values, importer: &Values) -> bool {
        holds_all(&self.match_properties, &self.match_expressions, properties, Some(importer))
    }

    /// What is wrong with it, as (field, reason).
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        if self.match_properties.is_empty() && self.match_expressions.is_empty() {
            return Some((String::new(), "an empty propertySelector is invalid (KEP-5939); leave it out".into()));
        }
        fault(&self.match_expressions)
    }
}

fn fault(expressions: &[Requirement]) -> Option<(String, String)> {
    expressions.iter().enumerate().find_map(|(index, requirement)| {
        let with_values = matches!(requirement.operator, Operator::In | Operator::NotIn);
        let reason = match (with_values, requirement.values.is_empty()) {
            (true, true) => "In and NotIn need values",
            (false, false) => "Exists and DoesNotExist have no values",
            _ => return None,
        };
        Some((format!("matchExpressions[{index}].values"), reason.into()))
    })
}

fn holds_all(equal: &Values, expressions: &[Requirement], of: &Values, importer: Option<&Values>) -> bool {
    let equal = equal.iter().all(|(key, value)| is_in(key, std::slice::from_ref(value), of, importer) == Some(true));
    equal && expressions.iter().all(|requirement| holds(requirement, of, importer))
}

fn holds(requirement: &Requirement, of: &Values, importer: Option<&Values>) -> bool {
    let Requirement { key, operator, values } = requirement;
    match operator {
        Operator::In => is_in(key, values, of, importer) == Some(true),
        Operator::NotIn => is_in(key, values, of, importer) == Some(false),
        Operator::Exists => of.contains_key(key),
        Operator::DoesNotExist => !of.contains_key(key),
    }
}

/// Whether the value is among these; `None`: it is asked for the importer's value, and the importer has none.
fn is_in(key: &str, values: &[String], of: &Values, importer: Option<&Values>) -> Option<bool> {
    let own = of.get(key);
    let mut found = false;
    for value in values {
        let wanted = match importer {
            Some(importer) if value == SAME_AS_IMPORTER => importer.get(key)?,
            _ => value,
        };
        found |= own == Some(wanted);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn requirement(key: &str, operator: Operator, of: &[&str]) -> Requirement {
        Requirement { key: key.into(), operator, values: of.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn same_as_importer_is_the_importers_value_and_selects_nothing_where_it_has_none() {
        let same =
            PropertySelector { match_properties: values(&[("continent", SAME_AS_IMPORTER)]), ..Default::default() };
        let (eu, us) = (values(&[("continent", "eu")]), values(&[("continent", "us")]));
        assert!(same.selects(&eu, &eu) && !same.selects(&us, &eu));
        assert!(!same.selects(&eu, &Values::new()));
        let other = PropertySelector {
            match_expressions: vec![requirement("continent", Operator::NotIn, &[SAME_AS_IMPORTER])],
            ..Default::default()
        };
        assert!(other.selects(&us, &eu) && !other.selects(&eu, &eu));
        assert!(other.selects(&Values::new(), &eu), "a cluster without the property has another one");
        assert!(!other.selects(&us, &Values::new()), "an importer without it selects nothing");
    }

    #[test]
    fn requirements_hold_together_as_kubernetes_has_them() {
        let selector = LabelSelector {
            match_labels: values(&[("app", "a")]),
            match_expressions: vec![
                requirement("tier", Operator::In, &["web", "api"]),
                requirement("old", Operator::DoesNotExist, &[]),
            ],
        };
        assert!(selector.selects(&values(&[("app", "a"), ("tier", "api")])));
        for bad in [&[("app", "a")][..], &[("tier", "web")], &[("app", "a"), ("tier", "web"), ("old", "1")]] {
            assert!(!selector.selects(&values(bad)), "{bad:?}");
        }
        assert!(LabelSelector::default().selects(&Values::new()));
    }

    #[test]
    fn what_is_wrong_with_a_selector_is_named() {
        assert!(PropertySelector::default().fault().is_some());
        let wrong = LabelSelector {
            match_expressions: vec![requirement("a", Operator::In, &[]), requirement("b", Operator::Exists, &["x"])],
            ..Default::default()
        };
        assert_eq!(wrong.fault().map(|(field, _)| field).as_deref(), Some("matchExpressions[0].values"));
    }
}
