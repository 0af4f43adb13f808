//! A limit that protects who carries another's load.

use serde::{Deserialize, Serialize};

use crate::name::ClusterName;

/// A limit on what other clusters send to one that this selects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Cap {
    /// Which clusters; none written: every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterName>,
    /// So many requests a second, of all other clusters together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Such a part of its capacity, above 0: healthy endpoints times the `isthmus.dev/capacity` of its Service
    /// (requests a second that an endpoint can take). Without that annotation there is no limit, and status says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_of_capacity: Option<f64>,
}

impl Cap {
    pub(super) fn fault(&self) -> Option<String> {
        let positive = |value: Option<f64>| value.is_none_or(|value| value > 0.0 && value.is_finite());
        match (self.requests_per_second, self.share_of_capacity) {
            (None, None) | (Some(_), Some(_)) => {
                Some("a cap has exactly one of requestsPerSecond and shareOfCapacity".into())
            }
            (rate, share) if !positive(rate) || !positive(share) => Some("a cap is a number above 0".into()),
            _ => None,
        }
    }
}
