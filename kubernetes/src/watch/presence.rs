//! A kind that its CustomResourceDefinition brings: watched while it is installed, gone when it is taken away.
//!
//! Only the one definition is asked for, by its name, so that it is all a role has to be allowed to see.

use futures_util::StreamExt;
use kube::{
    Api, Client,
    core::{DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::{health::Health, objects, patience::Patience};
use crate::{Kind, seen::Told};

/// What is known of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Presence {
    /// Nobody said yet.
    Unknown,
    /// It is not there, or not in force yet.
    Absent,
    /// It is, in this version.
    Served(String),
}

/// Tells of its objects whenever it is there.
pub(super) async fn watch(client: Client, kind: Kind, definition: &str, tell: &mpsc::Sender<Told>, health: &Health) {
    let (told, mut presence) = watch::channel(Presence::Unknown);
    let looking = look(client.clone(), definition, told, health);
    let following = async {
        loop {
            let now = presence.borrow_and_update().clone();
            let objects = async {
                match now {
                    Presence::Unknown => {}
                    Presence::Absent => {
                        let _ = tell.send(Told::All(kind, vec![])).await;
                    }
                    Presence::Served(version) => {
                        return objects::watch(client.clone(), kind, &version, tell, health).await;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                () = objects => return,
                changed = presence.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::join!(looking, following);
}

async fn look(client: Client, definition: &str, tell: watch::Sender<Presence>, health: &Health) {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let resource = kube::api::ApiResource::from_gvk_with_plural(&kind, "customresourcedefinitions");
    let api = Api::<DynamicObject>::all_with(client, &resource);
    let settings = objects::settings().fields(&format!("metadata.name={definition}"));
    let mut events = watcher::watcher(api, settings).backoff(Patience::default()).boxed();
    let what = format!("customresourcedefinitions/{definition}");
    let mut listed = Presence::Absent;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                health.failed(&what, &error);
                continue;
            }
        };
        health.heard(&what, &event);
        let now = match event {
            Event::Init => {
                listed = Presence::Absent;
                continue;
            }
            Event::InitApply(object) => {
                listed = of(&object.data);
                continue;
            }
            Event::InitDone => listed.clone(),
            Event::Apply(object) => of(&object.data),
            Event::Delete(_) => Presence::Absent,
        };
        tell.send_if_modified(|before| before.becomes(now, definition));
    }
}

impl Presence {
    /// Whether it is other than before, which is said.
    fn becomes(&mut self, now: Self, definition: &str) -> bool {
        let differs = *self != now;
        match &now {
            Self::Served(version) if differs => tracing::info!(definition, version, "a kind is installed"),
            Self::Absent if differs => tracing::info!(definition, "a kind is not installed: it has no objects"),
            _ => {}
        }
        *self = now;
        differs
    }
}

#[derive(Deserialize)]
struct Definition {
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Spec {
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// In force once it is established; in the version it is stored in, where that is served, since it needs no conversion.
fn of(data: &Value) -> Presence {
    let Ok(definition) = Definition::deserialize(data) else { return Presence::Absent };
    let established = |one: &Condition| one.kind == "Established" && one.status == "True";
    if !definition.status.conditions.iter().any(established) {
        return Presence::Absent;
    }
    let served = definition.spec.versions.into_iter().filter(|version| version.served);
    served.max_by_key(|version| version.storage).map_or(Presence::Absent, |version| Presence::Served(version.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(established: &str, versions: &[(&str, bool, bool)]) -> Presence {
        let versions: Vec<_> = versions
            .iter()
            .map(|(name, served, storage)| json!({"name": name, "served": served, "storage": storage}))
            .collect();
        let conditions =
            json!([{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": established}]);
        of(&json!({"spec": {"versions": versions}, "status": {"conditions": conditions}}))
    }

    #[test]
    fn a_definition_counts_once_it_is_established_in_a_version_that_is_served() {
        let served = |version: &str| Presence::Served(version.into());
        let three = [("v1", true, false), ("v1beta1", true, true), ("v1alpha3", true, false)];
        assert_eq!(definition("True", &three), served("v1beta1"));
        assert_eq!(definition("False", &three), Presence::Absent);
        assert_eq!(definition("True", &[("v1", true, false), ("v1beta1", false, true)]), served("v1"));
        assert_eq!(definition("True", &[("v1", false, true)]), Presence::Absent);
        assert_eq!(of(&json!({})), Presence::Absent);
    }
}
