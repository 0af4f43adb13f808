//! Namespaces as they are now: their labels, for whoever has to answer at once, and which there are, for whoever writes into each.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use isthmus_runtime::drain::Drain;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use tokio::{sync::watch, task::JoinSet};

use crate::client::WATCH;

type Meta = PartialObjectMeta<Namespace>;

/// All namespaces. Cheap to clone.
#[derive(Clone)]
pub struct Namespaces {
    store: Store<Meta>,
    changed: watch::Receiver<()>,
}

impl Namespaces {
    /// Follows them until the drain.
    #[must_use]
    pub fn follow(client: &Client, tasks: &mut JoinSet<()>, drain: &Drain) -> Self {
        let (store, writer) = reflector::store();
        let (change, changed) = watch::channel(());
        let settings = watcher::Config::default().timeout(u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX));
        let watching = watcher(Api::<Meta>::all(client.clone()), settings);
        let mut events = Box::pin(watching.default_backoff().reflect(writer));
        let drain = drain.clone();
        tasks.spawn(async move {
            while let Some(Some(event)) = drain.unless(events.next()).await {
                if event.is_ok() {
                    change.send_replace(());
                }
            }
        });
        Self { store, changed }
    }

    /// The labels of one; `None`: it is not known, or nothing is yet.
    #[must_use]
    pub fn labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let found = self.store.get(&ObjectRef::new(name))?;
        Some(found.metadata.labels.clone().unwrap_or_default())
    }

    /// Names of those that do not end; none before they were listed.
    #[must_use]
    pub fn live(&self) -> Vec<String> {
        let all = self.store.state();
        all.iter().filter(|one| one.metadata.deletion_timestamp.is_none()).map(|one| one.name_any()).collect()
    }

    /// Wakes whenever something was heard of them; ends with the watch.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.clone()
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn namespace(name: &str, ends: bool) -> Meta {
        let ended = ends.then_some("2026-11-27T10:00:00Z");
        let metadata = json!({ "name": name, "labels": { "of": name }, "deletionTimestamp": ended });
        serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })).unwrap()
    }

    #[test]
    fn those_that_end_are_known_and_are_no_place_to_write_to() {
        let (store, mut writer) = reflector::store();
        let namespaces = Namespaces { store, changed: watch::channel(()).1 };
        assert_eq!((namespaces.live(), namespaces.labels("shop")), (vec![], None));
        for one in [namespace("shop", false), namespace("old", true)] {
            writer.apply_watcher_event(&Event::Apply(one));
        }
        assert_eq!(namespaces.live(), ["shop"]);
        assert_eq!(namespaces.labels("old").unwrap()["of"], "old");
        writer.apply_watcher_event(&Event::Delete(namespace("shop", false)));
        assert_eq!(namespaces.live(), Vec::<String>::new());
    }
}
