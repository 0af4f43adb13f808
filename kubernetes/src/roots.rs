//! The roots of the cluster's trust domain in every namespace: a pod has to know whom to believe before it can ask for
//! anything. A ConfigMap, because pods cannot mount one of another namespace. It belongs to control's ClusterRole, so that it
//! goes when the mesh is uninstalled.

use std::{collections::BTreeMap, time::Duration};

use isthmus_runtime::{backoff::Backoff, drain::Drain};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use tokio::sync::watch;

use crate::{owner, vault::MANAGER};

/// The ConfigMap.
pub const NAME: &str = "isthmus-roots";
/// Its entry, PEM.
pub const ENTRY: &str = "roots.pem";
/// A namespace that is new has them within so long.
const LOOK: Duration = Duration::from_secs(2);
/// What somebody changed or took away is put right within so many looks.
const EACH: u32 = 30;

/// Keeps the roots, as they are at the time, in all namespaces that do not end, until the drain.
pub async fn keep(client: Client, mut told: watch::Receiver<String>, drain: Drain) {
    let mut written = BTreeMap::<String, u32>::new();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        if told.has_changed().unwrap_or(false) {
            written.clear();
        }
        let roots = told.borrow_and_update().clone();
        let pause = match round(&client, &roots, &mut written).await {
            Ok(()) => {
                backoff.reset();
                LOOK
            }
            Err(error) => {
                tracing::warn!(%error, "the roots are not in every namespace yet; new pods there wait for them");
                backoff.next()
            }
        };
        if drain.unless(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// `written`: looks since the last write, by namespace.
async fn round(client: &Client, roots: &str, written: &mut BTreeMap<String, u32>) -> Result<(), kube::Error> {
    let namespaces = Api::<Namespace>::all(client.clone()).list_metadata(&ListParams::default()).await?;
    let live = namespaces.items.iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
    let names: Vec<String> = live.map(ResourceExt::name_any).collect();
    written.retain(|name, _| names.contains(name));
    written.values_mut().for_each(|looks| *looks += 1);
    let due: Vec<_> = names.into_iter().filter(|name| written.get(name).is_none_or(|looks| *looks > EACH)).collect();
    if due.is_empty() {
        return Ok(());
    }
    let owner = owner::reference(client).await?;
    let mut failed = None;
    for name in due {
        match write(client, &name, roots, owner.as_ref()).await {
            Ok(()) => drop(written.insert(name, 0)),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn write(client: &Client, namespace: &str, roots: &str, owner: Option<&Value>) -> Result<(), kube::Error> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "labels": { "app.kubernetes.io/part-of": "isthmus", "app.kubernetes.io/managed-by": MANAGER },
            "ownerReferences": Vec::from_iter(owner),
        },
        "data": { ENTRY: roots },
    });
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    maps.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(map)).await.map(drop)
}
