//! The roots of the cluster's trust domain in every namespace: a pod has to know whom to believe before it can ask for
//! anything. A ConfigMap, because pods cannot mount one of another namespace. It belongs to control's ClusterRole, so that it
//! goes when the mesh is uninstalled.

use std::{collections::BTreeMap, time::Duration};

use isthmus_runtime::{backoff::Backoff, drain::Drain};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{client::causes, namespaces::Namespaces, owner, vault::MANAGER};

/// The ConfigMap.
pub const NAME: &str = "isthmus-roots";
/// Its entry, PEM.
pub const ENTRY: &str = "roots.pem";
/// What somebody changed or took away is put right within so long.
const LOOK: Duration = Duration::from_secs(60);

/// When they were written, by namespace.
type Written = BTreeMap<String, Instant>;

/// Keeps the roots, as they are at the time, in all namespaces that do not end, until the drain.
pub async fn keep(client: Client, namespaces: Namespaces, mut told: watch::Receiver<String>, drain: Drain) {
    let (mut written, mut changed) = (Written::new(), namespaces.changed());
    let (mut backoff, mut said) = (Backoff::new(Duration::from_millis(500), Duration::from_secs(30)), String::new());
    loop {
        if told.has_changed().unwrap_or(false) {
            written.clear();
        }
        let roots = told.borrow_and_update().clone();
        changed.mark_unchanged();
        let pause = match round(&client, &roots, namespaces.live(), &mut written).await {
            Ok(()) => {
                backoff.reset();
                said.clear();
                LOOK
            }
            Err(reason) => {
                // A namespace may refuse them for as long as it likes.
                if reason != said {
                    tracing::warn!(reason, "the roots are not in every namespace yet; new pods there wait for them");
                    said = reason;
                }
                backoff.next()
            }
        };
        tokio::select! {
            () = drain.draining() => return,
            changed = changed.changed() => if changed.is_err() { return },
            told = told.changed() => if told.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn round(client: &Client, roots: &str, live: Vec<String>, written: &mut Written) -> Result<(), String> {
    let due = due(live, written, Instant::now());
    if due.is_empty() {
        return Ok(());
    }
    let owner = owner::reference(client).await.map_err(|error| causes(&error))?;
    let mut failed = None;
    for name in due {
        match write(client, &name, roots, owner.as_ref()).await {
            Ok(()) => drop(written.insert(name, Instant::now())),
            Err(error) => drop(failed.get_or_insert_with(|| format!("namespace {name}: {}", causes(&error)))),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Where they are to be written now; namespaces that are gone are forgotten, since one of the same name has nothing of theirs.
fn due(live: Vec<String>, written: &mut Written, now: Instant) -> Vec<String> {
    written.retain(|name, _| live.contains(name));
    let is_due = |name: &String| written.get(name).is_none_or(|at| now.duration_since(*at) >= LOOK);
    live.into_iter().filter(is_due).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_them_at_once_again_when_it_came_anew_and_now_and_then() {
        let (now, mut written) = (Instant::now(), Written::new());
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(due(names(&["a", "b"]), &mut written, now), ["a", "b"]);
        written.extend(names(&["a", "b"]).into_iter().map(|name| (name, now)));
        assert_eq!(due(names(&["a", "b", "c"]), &mut written, now), ["c"]);
        assert_eq!(due(names(&["a"]), &mut written, now), Vec::<String>::new());
        assert_eq!(due(names(&["a", "b"]), &mut written, now), ["b"], "it was gone in between");
        assert_eq!(due(names(&["a"]), &mut written, now + LOOK), ["a"]);
    }
}
