//! What the sidecar may use.
//!
//! As with Istio, annotations do not complete the operator's values but take their place: a pod that says one of them
//! says all that there is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    annotation::{Annotations, Key},
    quantity::Quantity,
};

/// Requests and limits by resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// What is kept free for it.
    pub requests: BTreeMap<Resource, Quantity>,
    /// What it never exceeds.
    pub limits: BTreeMap<Resource, Quantity>,
}

/// Of what a sidecar needs some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Resource {
    /// Cores.
    #[serde(rename = "cpu")]
    Cpu,
    /// Bytes.
    #[serde(rename = "memory")]
    Memory,
    /// Bytes of the node's disk.
    #[serde(rename = "ephemeral-storage")]
    EphemeralStorage,
}

/// A sidecar that rests needs little; one that is cut off at a limit of its CPU delays every request, so it has none.
const REQUESTS: [(Resource, &str); 2] = [(Resource::Cpu, "50m"), (Resource::Memory, "64Mi")];
/// Memory is bounded: a leak costs one pod, not the node.
const LIMITS: [(Resource, &str); 1] = [(Resource::Memory, "512Mi")];

impl Default for Resources {
    fn default() -> Self {
        let quantities = |of: &[(Resource, &str)]| {
            of.iter().filter_map(|(resource, text)| Some((*resource, text.parse().ok()?))).collect()
        };
        Self { requests: quantities(&REQUESTS), limits: quantities(&LIMITS) }
    }
}

const CPU: Key = Key::sidecar("proxyCPU");
const MEMORY: Key = Key::sidecar("proxyMemory");
const CPU_LIMIT: Key = Key::sidecar("proxyCPULimit");
const MEMORY_LIMIT: Key = Key::sidecar("proxyMemoryLimit");

impl Resources {
    /// What a pod's annotations say, else these values.
    pub(crate) fn of(annotations: &mut Annotations<'_>, values: &Self) -> Self {
        let mut read = |key| annotations.read::<Quantity>(key);
        let (cpu, memory, cpu_limit, memory_limit) = (read(CPU), read(MEMORY), read(CPU_LIMIT), read(MEMORY_LIMIT));
        let amounts = |cpu, memory| {
            let both = [(Resource::Cpu, cpu), (Resource::Memory, memory)];
            both.into_iter().filter_map(|(resource, amount)| Some((resource, amount?))).collect()
        };
        let said = Self { requests: amounts(cpu, memory), limits: amounts(cpu_limit, memory_limit) };
        if said.requests.is_empty() && said.limits.is_empty() {
            return values.clone();
        }
        if let Some((resource, _, limit)) = said.contradiction() {
            let key = if resource == Resource::Cpu.word() { CPU } else { MEMORY };
            annotations
                .refuse(key, format!("is more than the limit {limit}; ask for at most that, or raise the limit"));
        }
        said
    }

    /// A request above its limit, which no node grants: the resource, the request, the limit.
    #[must_use]
    pub fn contradiction(&self) -> Option<(&'static str, &Quantity, &Quantity)> {
        self.requests.iter().find_map(|(resource, request)| {
            let limit = self.limits.get(resource)?;
            (request > limit).then_some((resource.word(), request, limit))
        })
    }

    /// As `resources` of a container.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let amounts = |of: &BTreeMap<Resource, Quantity>| -> Value {
            of.iter().map(|(resource, amount)| (resource.word().to_owned(), json!(amount.to_string()))).collect()
        };
        let mut value = serde_json::Map::new();
        for (key, of) in [("requests", &self.requests), ("limits", &self.limits)] {
            if !of.is_empty() {
                value.insert(key.into(), amounts(of));
            }
        }
        Value::Object(value)
    }
}

impl Resource {
    /// As Kubernetes calls it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::EphemeralStorage => "ephemeral-storage",
        }
    }
}
