//! What is added to a pod's specification, as one: put in, told from what is there, and summed up.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    status::{Status, VERSION},
    view::{list_at, name, object_at},
    words::PROXY_USER,
};

/// What is added.
pub(crate) struct Added {
    /// Init containers, in front of the pod's own.
    pub(crate) containers: Vec<Value>,
    /// Volumes, behind the pod's own.
    pub(crate) volumes: Vec<Value>,
    /// Whether the pod gets the sidecar's group.
    pub(crate) fs_group: bool,
}

impl Added {
    /// What the pod will say about it.
    pub(crate) fn status(
        &self,
        made: Vec<String>,
        probes: BTreeMap<String, BTreeMap<String, Map<String, Value>>>,
    ) -> Status {
        let names = |items: &[Value]| -> BTreeSet<String> { items.iter().map(|item| name(item).to_owned()).collect() };
        Status {
            version: VERSION.to_owned(),
            digest: self.digest(),
            containers: names(&self.containers),
            volumes: names(&self.volumes),
            fs_group: self.fs_group,
            made,
            probes,
        }
    }

    pub(crate) fn put_into(mut self, pod: &mut Value) {
        let Some(spec) = pod.get_mut("spec") else { return };
        if let Some(own) = list_at(spec, "initContainers") {
            self.containers.append(own);
            *own = self.containers;
        }
        if let Some(own) = list_at(spec, "volumes") {
            own.append(&mut self.volumes);
        }
        if let Some(security) = object_at(spec, "securityContext").filter(|_| self.fs_group) {
            security.insert("fsGroup".into(), PROXY_USER.into());
        }
    }

    /// Whether a pod has all of it by name, the containers first and in order. What is inside is the digest's affair.
    pub(crate) fn is_in_place(&self, pod: &Value) -> bool {
        let list = |key| pod.pointer(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let (containers, volumes) = (list("/spec/initContainers"), list("/spec/volumes"));
        let begins = containers.len() >= self.containers.len()
            && self.containers.iter().zip(containers).all(|(ours, there)| name(ours) == name(there));
        begins && self.volumes.iter().all(|ours| volumes.iter().any(|there| name(there) == name(ours)))
    }

    /// FNV-1a over the text of it: not against forgery, a pod's owner can write anything; it tells whether the operator's
    /// values or the pod's wishes have changed since.
    fn digest(&self) -> String {
        let items = self.containers.iter().chain(&self.volumes);
        let text: String = items.map(Value::to_string).collect();
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
    }
}
