//! The volumes of the sidecar, and where it finds them.

use serde_json::{Value, json};

/// Who a token of the sidecar is for: the API server says so when control asks it about one.
const AUDIENCE: &str = "isthmus.dev";
/// Life of a token, seconds; the kubelet renews it in time.
const TOKEN_SECONDS: u32 = 3600;

/// A volume by name, where it is mounted, and whether the sidecar may write it.
struct Mount {
    name: &'static str,
    path: &'static str,
    writable: bool,
}

const TOKEN: Mount = Mount { name: "isthmus-token", path: "/var/run/secrets/isthmus", writable: false };
const ROOTS: Mount = Mount { name: "isthmus-roots", path: "/var/run/isthmus/roots", writable: false };
const POD: Mount = Mount { name: "isthmus-pod", path: "/var/run/isthmus/pod", writable: false };
const STATE: Mount = Mount { name: "isthmus-state", path: "/var/lib/isthmus", writable: true };

/// Who the pod is, whom it can trust, what it is called, and what its sidecar remembers over a restart.
pub(crate) fn volumes() -> Vec<Value> {
    let token = json!({ "audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token" });
    let field = |path: &str| json!({ "path": path, "fieldRef": { "fieldPath": format!("metadata.{path}") } });
    vec![
        json!({ "name": TOKEN.name, "projected": { "sources": [{ "serviceAccountToken": token }] } }),
        json!({ "name": ROOTS.name, "configMap": { "name": "isthmus-roots" } }),
        json!({ "name": POD.name, "downwardAPI": { "items": [field("labels"), field("annotations")] } }),
        json!({ "name": STATE.name, "emptyDir": { "medium": "Memory" } }),
    ]
}

/// The same as the sidecar sees them.
pub(crate) fn mounts() -> Value {
    let mount = |mount: &Mount| {
        let mut value = json!({ "name": mount.name, "mountPath": mount.path });
        if let Some(fields) = value.as_object_mut().filter(|_| !mount.writable) {
            fields.insert("readOnly".into(), true.into());
        }
        value
    };
    [TOKEN, ROOTS, POD, STATE].iter().map(mount).collect()
}
