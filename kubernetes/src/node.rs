//! What is read of a node: where it is, where it is reached, and whether it is there.

use std::{collections::BTreeMap, net::IpAddr};

use isthmus_core::name::Locality;
use serde::{Deserialize, Serialize};

use crate::arrived::locality;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where it is.
    #[serde(flatten)]
    pub locality: Locality,
    /// Where it is reached from other clusters, as far as it says: its external address, else its internal one, of the
    /// family that it names first.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Whether its kubelet says that it is ready.
    #[serde(default)]
    pub is_ready: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    addresses: Vec<Address>,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Node {
    /// From labels and `status`.
    ///
    /// # Errors
    /// When it is not a node as the API has them.
    pub(crate) fn read(
        labels: Option<&BTreeMap<String, String>>,
        data: serde_json::Value,
    ) -> Result<Self, serde_json::Error> {
        let Raw { status } = serde_json::from_value(data)?;
        let of = |kind: &str| {
            let all = status.addresses.iter().filter(|one| one.kind == kind);
            all.filter_map(|one| one.address.parse().ok()).next()
        };
        Ok(Self {
            locality: locality(labels),
            address: of("ExternalIP").or_else(|| of("InternalIP")),
            is_ready: status.conditions.iter().any(|one| one.kind == "Ready" && one.status == "True"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_reached_at_its_external_address_and_else_at_its_internal_one() {
        let read = |addresses: serde_json::Value, ready: &str| {
            let conditions = json!([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}]);
            let node = json!({"spec": {}, "status": {"addresses": addresses, "conditions": conditions}});
            Node::read(None, node).unwrap()
        };
        let internal = json!({"type": "InternalIP", "address": "10.0.0.1"});
        let name = json!({"type": "Hostname", "address": "n1"});
        let node = read(json!([name, internal, {"type": "ExternalIP", "address": "203.0.113.1"}]), "True");
        assert_eq!((node.address, node.is_ready), (Some("203.0.113.1".parse().unwrap()), true));
        let node = read(json!([internal, {"type": "InternalIP", "address": "fd00::1"}, name]), "Unknown");
        assert_eq!((node.address, node.is_ready), (Some("10.0.0.1".parse().unwrap()), false));
        assert_eq!(read(json!([name]), "True").address, None, "a name that only its cluster knows helps nobody");
    }
}
