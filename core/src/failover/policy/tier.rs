//! A tier of a policy: which clusters are in it, and the parts they get.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{failover::selector::PropertySelector, name::ClusterName};

/// A tier: exactly one of the selectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TierSpec {
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// By cluster properties (KEP-5939).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property_selector: Option<PropertySelector>,
    /// By name; `@SameAsImporter@` is the importing cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// By region; `@SameAsImporter@` is the importing cluster's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// All that no tier above selects, each a tier of its own, by measured round trip.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nearest: bool,
    /// Parts inside the tier, by cluster; 1 where none is written. With 0 it gets none and props up nothing: it is tried
    /// when nothing that has a part, of any tier, is left.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<ClusterName, u32>,
}

impl TierSpec {
    pub(super) fn fault(&self) -> Option<(String, String)> {
        let selectors =
            [self.property_selector.is_some(), !self.clusters.is_empty(), !self.regions.is_empty(), self.nearest];
        if selectors.iter().filter(|is_there| **is_there).count() != 1 {
            let reason = "a tier has exactly one of propertySelector, clusters, regions and nearest";
            return Some((String::new(), reason.into()));
        }
        let fault = self.property_selector.as_ref().and_then(PropertySelector::fault);
        fault.map(|(field, reason)| {
            let dot = if field.is_empty() { "" } else { "." };
            (format!(".propertySelector{dot}{field}"), reason)
        })
    }
}
