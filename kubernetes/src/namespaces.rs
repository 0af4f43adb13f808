//! The labels of namespaces as they are now, for whoever has to answer at once.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use isthmus_runtime::drain::Drain;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use tokio::task::JoinSet;

type Meta = PartialObjectMeta<Namespace>;

/// All namespaces. Cheap to clone.
#[derive(Clone)]
pub struct Namespaces(Store<Meta>);

impl Namespaces {
    /// Follows them until the drain.
    #[must_use]
    pub fn follow(client: &Client, tasks: &mut JoinSet<()>, drain: &Drain) -> Self {
        let (store, writer) = reflector::store();
        let watching = watcher(Api::<Meta>::all(client.clone()), watcher::Config::default());
        let mut events = Box::pin(watching.default_backoff().reflect(writer));
        let drain = drain.clone();
        tasks.spawn(async move { while let Some(Some(_)) = drain.unless(events.next()).await {} });
        Self(store)
    }

    /// The labels of one; `None`: it is not known, or nothing is yet.
    #[must_use]
    pub fn labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let found = self.0.get(&ObjectRef::new(name))?;
        Some(found.metadata.labels.clone().unwrap_or_default())
    }
}
