//! ServiceImports (KEP-1645): what the clusters of the mesh offer, as objects that people and programs look at. Written by the
//! leader alone, in namespaces that there are, once a change; what is offered no more is deleted, and all of them go with the
//! mesh, also where their kind stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use isthmus_runtime::{backoff::Backoff, drain::Drain};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, ListParams, Patch, PatchParams},
    core::{DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{client::causes, leader::Candidacy, owner, vault::MANAGER};

/// Ours carry it.
const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", MANAGER);
/// Namespaces come, and somebody may have deleted what we wrote: it is looked at again.
const LOOK: Duration = Duration::from_secs(30);

/// A service as this cluster imports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name, number and `appProtocol` of its ports.
    pub ports: Vec<(String, u16, Option<&'static str>)>,
    /// Its address in captured pods.
    pub ip: String,
    /// Who offers it.
    pub clusters: BTreeSet<String>,
}

impl Import {
    fn object(&self, body: Value) -> Value {
        let mut object = json!({
            "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceImport",
            "metadata": { "name": self.name, "namespace": self.namespace },
        });
        if let (Some(object), Value::Object(body)) = (object.as_object_mut(), body) {
            object.extend(body);
        }
        object
    }

    fn written(&self, owner: Option<&Value>) -> Value {
        let ports = self.ports.iter().map(|(name, port, protocol)| {
            let mut written = json!({ "port": port, "protocol": "TCP" });
            if let Some(fields) = written.as_object_mut() {
                fields.extend((!name.is_empty()).then(|| ("name".into(), json!(name))));
                fields.extend(protocol.map(|protocol| ("appProtocol".into(), json!(protocol))));
            }
            written
        });
        let (labels, owners) = (json!({ OURS.0: OURS.1 }), Vec::from_iter(owner));
        let metadata =
            json!({ "name": self.name, "namespace": self.namespace, "labels": labels, "ownerReferences": owners });
        let spec = json!({ "type": "ClusterSetIP", "ips": [self.ip], "ports": Vec::from_iter(ports) });
        self.object(json!({ "metadata": metadata, "spec": spec }))
    }

    fn status(&self) -> Value {
        let clusters = self.clusters.iter().map(|cluster| json!({ "cluster": cluster }));
        self.object(json!({ "status": { "clusters": Vec::from_iter(clusters) } }))
    }
}

type Key = (String, String);

/// Keeps the ServiceImports as they are said to be, as long as `writes` holds, until the drain. `None`: nothing is known of them yet,
/// and those that are there stay.
pub async fn run(
    client: Client,
    mut all: watch::Receiver<Option<Arc<Vec<Import>>>>,
    mut writes: watch::Receiver<Candidacy>,
    drain: Drain,
) {
    let mut backoff = Backoff::new(Duration::from_secs(1), LOOK);
    let (mut written, mut said) = (BTreeMap::new(), String::new());
    loop {
        let (wanted, writing) = (all.borrow_and_update().clone(), writes.borrow_and_update().leads());
        let outcome = match wanted {
            Some(wanted) if writing => round(&client, &wanted, &mut written).await,
            _ => Ok(()),
        };
        let pause = match outcome {
            Ok(()) => {
                backoff.reset();
                said.clear();
                LOOK
            }
            Err(reason) => {
                if reason != said {
                    tracing::warn!(reason, "ServiceImports are not all written; it is tried again");
                    said = reason;
                }
                backoff.next()
            }
        };
        tokio::select! {
            () = drain.draining() => return,
            changed = all.changed() => if changed.is_err() { return },
            changed = writes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One look at all of them. Where the kind is not installed nobody wants them. What is refused of one, as in a namespace that
/// ends or has a quota, keeps none of the others back.
async fn round(client: &Client, wanted: &[Import], written: &mut BTreeMap<Key, Import>) -> Result<(), String> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("multicluster.x-k8s.io", "v1alpha1", "ServiceImport"));
    let ours = ListParams::default().labels(&format!("{}={}", OURS.0, OURS.1));
    let there = match Api::<DynamicObject>::all_with(client.clone(), &kind).list_metadata(&ours).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        listed => listed.map_err(|error| causes(&error))?.items,
    };
    let there: BTreeSet<Key> = there.iter().map(|one| (one.namespace().unwrap_or_default(), one.name_any())).collect();
    let keys: BTreeSet<Key> = wanted.iter().map(|one| (one.namespace.clone(), one.name.clone())).collect();
    written.retain(|key, _| keys.contains(key) && there.contains(key));
    let of = |namespace: &str| Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind);
    let mut refused = None;
    for key in there.difference(&keys) {
        let deleted = of(&key.0).delete(&key.1, &DeleteParams::default()).await;
        keep_on(deleted.map(drop), key, &mut refused)?;
    }
    let key = |import: &Import| (import.namespace.clone(), import.name.clone());
    let due: Vec<_> = wanted.iter().filter(|import| written.get(&key(import)) != Some(import)).collect();
    let owner = if due.is_empty() { None } else { owner::reference(client).await.map_err(|error| causes(&error))? };
    for import in due {
        let put = put(&of(&import.namespace), import, owner.as_ref()).await;
        if keep_on(put, &key(import), &mut refused)? {
            written.insert(key(import), import.clone());
        }
    }
    refused.map_or(Ok(()), Err)
}

async fn put(api: &Api<DynamicObject>, import: &Import, owner: Option<&Value>) -> Result<(), kube::Error> {
    let apply = PatchParams::apply(MANAGER).force();
    api.patch(&import.name, &apply, &Patch::Apply(import.written(owner))).await?;
    api.patch_status(&import.name, &apply, &Patch::Apply(import.status())).await.map(drop)
}

/// Whether it was done. Where its namespace or itself is not there, nobody here could use it; what is refused is remembered,
/// the first of it, and the next one may go well; who cannot be asked is not asked again.
fn keep_on(done: Result<(), kube::Error>, key: &Key, refused: &mut Option<String>) -> Result<bool, String> {
    match done {
        Ok(()) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error @ kube::Error::Api(_)) => {
            refused.get_or_insert_with(|| format!("ServiceImport {}/{}: {}", key.0, key.1, causes(&error)));
            Ok(false)
        }
        Err(error) => Err(causes(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;

    use super::*;

    fn offered(namespace: &str) -> Import {
        let (ports, clusters) = (vec![(String::new(), 80, None)], ["west".to_owned()].into());
        Import { namespace: namespace.into(), name: "cart".into(), ports, ip: "242.7.0.16".into(), clusters }
    }

    /// An API server that refuses what is asked of one namespace, and the writes that it was asked for.
    fn refusing(namespace: &'static str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        let answer = move |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            let is_refused = path.contains(&format!("/namespaces/{namespace}/"));
            let body = match *request.method() {
                Method::GET if path.ends_with("/serviceimports") => json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
                    "items": [{ "metadata": { "name": "gone", "namespace": namespace } }, { "metadata": { "name": "gone", "namespace": "z" } }],
                }),
                Method::GET => json!({ "metadata": { "name": "isthmus-control", "uid": "5c" } }),
                _ => {
                    seen.lock().unwrap().push(format!("{} {path}", request.method()));
                    let code = if is_refused { 403 } else { 200 };
                    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": "Forbidden",
                        "message": "exceeded quota" })
                }
            };
            let status = if is_refused { StatusCode::FORBIDDEN } else { StatusCode::OK };
            let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
            std::future::ready(response)
        };
        (Client::new(tower::service_fn(answer), "default"), asked)
    }

    #[tokio::test]
    async fn a_namespace_that_takes_none_keeps_none_from_the_others_and_is_named() {
        let (client, asked) = refusing("full");
        let (wanted, mut written) = (["a", "full", "shop"].map(offered), BTreeMap::new());
        let reason = round(&client, &wanted, &mut written).await.unwrap_err();
        assert!(reason.starts_with("ServiceImport full/gone: ") && reason.contains("exceeded quota"), "{reason}");
        let keys: Vec<_> = written.keys().map(|(namespace, _)| namespace.as_str()).collect();
        assert_eq!(keys, ["a", "shop"]);
        let asked = asked.lock().unwrap();
        let path =
            |namespace: &str| format!("/apis/multicluster.x-k8s.io/v1alpha1/namespaces/{namespace}/serviceimports");
        assert!(asked.contains(&format!("DELETE {}/gone", path("z"))), "{asked:?}");
        assert!(asked.contains(&format!("PATCH {}/cart/status", path("shop"))), "{asked:?}");
        assert!(!asked.contains(&format!("PATCH {}/cart/status", path("full"))), "{asked:?}");
    }

    #[test]
    fn an_import_is_written_as_mcs_has_it() {
        let import = Import {
            namespace: "shop".into(),
            name: "cart".into(),
            ports: vec![("http".into(), 80, Some("http")), (String::new(), 81, None)],
            ip: "242.7.0.16".into(),
            clusters: ["east".to_owned(), "west".to_owned()].into(),
        };
        let owner = json!({ "kind": "ClusterRole", "name": "isthmus-control", "uid": "5c" });
        let written = import.written(Some(&owner));
        assert_eq!(
            written["spec"]["ports"][0],
            json!({ "name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http" })
        );
        assert_eq!(written["spec"]["ports"][1], json!({ "port": 81, "protocol": "TCP" }));
        assert_eq!(
            (&written["spec"]["type"], &written["spec"]["ips"]),
            (&json!("ClusterSetIP"), &json!(["242.7.0.16"]))
        );
        assert_eq!(written["metadata"]["labels"][OURS.0], OURS.1);
        assert_eq!(written["metadata"]["ownerReferences"], json!([owner]), "it goes with the mesh");
        assert_eq!(import.written(None)["metadata"]["ownerReferences"], json!([]));
        assert_eq!(import.status()["status"]["clusters"], json!([{ "cluster": "east" }, { "cluster": "west" }]));
        assert!(import.status().get("spec").is_none(), "each of two writes owns its part");
    }
}
