//! Events: what befell an object, where `kubectl describe` and `kubectl get events` show it (`events.k8s.io/v1`).
//!
//! Nobody waits for one: who tells puts it into a channel, and what does not fit is lost, as is what an API server that is
//! away does not take. What befalls one object again is counted, and its Event's count written now and then ([`tally`]).

pub mod tally;

use std::time::Duration;

use isthmus_runtime::drain::Drain;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod},
        events::v1::{Event as Written, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::client::causes;
use tally::{Due, Tally};

/// Who tells, in every Event of the mesh.
const CONTROLLER: &str = "isthmus.dev/control";
/// Events that were told and not taken yet.
pub const QUEUE: usize = 256;
/// The API's bounds: of a note and of a name, bytes; of the instance, characters.
const NOTE: usize = 1024;
const NAME: usize = 253;
const INSTANCE: usize = 128;
/// An API server that has not answered in so long does not get the Event.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The object that something befell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// Its group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, or for the namespace itself its name; empty: it is the cluster's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty: not known. `kubectl describe` shows only Events that have it.
    pub uid: String,
}

/// Something that befell an object, and that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// The object.
    pub about: About,
    /// One word.
    pub reason: &'static str,
    /// What was being done, in one word.
    pub action: &'static str,
    /// A sentence.
    pub note: String,
}

/// Begins to write what is told, as [`run`] does.
#[must_use]
pub fn start(client: &Client, instance: &str, tasks: &mut JoinSet<()>, drain: &Drain) -> mpsc::Sender<Event> {
    let (tell, told) = mpsc::channel(QUEUE);
    tasks.spawn(run(client.clone(), instance.to_owned(), told, drain.clone()));
    tell
}

/// Writes what is told, until the drain; `instance` is this process among its like.
pub async fn run(client: Client, instance: String, mut told: mpsc::Receiver<Event>, drain: Drain) {
    let (began, mut tally, mut said) = (Instant::now(), Tally::default(), String::new());
    let instance: String = instance.chars().take(INSTANCE).collect();
    loop {
        let next = tally.next();
        tokio::select! {
            () = drain.draining() => return,
            event = told.recv() => match event {
                Some(event) => tally.take(event, began.elapsed(), Timestamp::now()),
                None => return,
            },
            () = async { match next { Some(at) => tokio::time::sleep_until(began + at).await, None => std::future::pending().await } } => {
                for due in tally.due(began.elapsed()) {
                    match write(&client, &instance, &due).await {
                        Ok(()) => said.clear(),
                        Err(error) => {
                            tally.lost(&due.event);
                            if error != said {
                                tracing::warn!(error, object = due.event.about.name, "an Event is not written; it is lost");
                                said = error;
                            }
                        }
                    }
                }
            }
        }
    }
}

async fn write(client: &Client, instance: &str, due: &Due) -> Result<(), String> {
    let written = async {
        let place = if due.event.about.namespace.is_empty() { "default" } else { &due.event.about.namespace };
        let api = Api::<Written>::namespaced(client.clone(), place);
        if !due.is_new {
            let series = json!({ "series": series(due) });
            let patched = api.patch(&name(due), &PatchParams::default(), &Patch::Merge(series)).await;
            // The API server keeps Events for an hour; what goes on for longer begins another one.
            if !matches!(&patched, Err(kube::Error::Api(status)) if status.code == 404) {
                return patched.map(drop);
            }
        }
        let event = event(due, instance, place, uid(client, &due.event.about).await);
        api.create(&PostParams::default(), &event).await.map(drop)
    };
    match tokio::time::timeout(ANSWERS_WITHIN, written).await {
        Ok(Ok(())) => Ok(()),
        // Its namespace went meanwhile, and nobody looks there any more.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Err(format!("{}; the role needs `create` and `patch` of events", status.message))
        }
        Ok(Err(error)) => Err(causes(&error)),
        Err(_) => Err("the API server does not answer".into()),
    }
}

/// A pod is told of before the API server has made it: its UID is found only afterwards.
async fn uid(client: &Client, about: &About) -> Option<String> {
    if about.kind != "Pod" || !about.uid.is_empty() {
        return Some(about.uid.clone()).filter(|uid| !uid.is_empty());
    }
    let pods = Api::<Pod>::namespaced(client.clone(), &about.namespace);
    pods.get_metadata_opt(&about.name).await.ok().flatten().and_then(|pod| pod.metadata.uid)
}

fn event(due: &Due, instance: &str, place: &str, uid: Option<String>) -> Written {
    let Event { about, reason, action, note } = &due.event;
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Written {
        metadata: ObjectMeta { name: Some(name(due)), namespace: Some(place.to_owned()), ..ObjectMeta::default() },
        event_time: Some(MicroTime(due.first)),
        type_: Some("Warning".into()),
        reason: text(reason),
        action: text(action),
        note: Some(cut(note, NOTE).to_owned()),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(instance.to_owned()),
        regarding: Some(ObjectReference {
            api_version: text(&about.api_version),
            kind: text(&about.kind),
            namespace: text(&about.namespace),
            name: text(&about.name),
            uid,
            ..ObjectReference::default()
        }),
        series: (due.count > 1).then(|| series(due)),
        ..Written::default()
    }
}

fn series(due: &Due) -> EventSeries {
    let count = i32::try_from(due.count).unwrap_or(i32::MAX);
    EventSeries { count, last_observed_time: MicroTime(due.last) }
}

/// As Kubernetes' own components name theirs: the object, and when it was.
fn name(due: &Due) -> String {
    let at = format!(".{:x}", due.first.as_nanosecond());
    format!("{}{at}", cut(&due.event.about.name, NAME - at.len()).trim_end_matches(['.', '-']))
}

/// At most so many bytes, of whole characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(name: &str, count: u32) -> Due {
        let about = About {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            namespace: "shop".into(),
            name: name.into(),
            uid: "5c".into(),
        };
        let event = Event { about, reason: "SidecarNotInjected", action: "Inject", note: "ü".repeat(600) };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (first, last) = (at("2026-11-27T10:00:00Z"), at("2026-11-27T10:00:07Z"));
        Due { event, count, first, last, is_new: true }
    }

    #[test]
    fn it_is_written_within_the_bounds_of_the_api() {
        let due = due(&"r".repeat(253), 100);
        let written = serde_json::to_value(event(&due, "control-1", "shop", Some("5c".into()))).unwrap();
        assert_eq!(written["metadata"]["name"].as_str().unwrap().len(), NAME);
        assert_eq!(written["note"].as_str().unwrap().len(), NOTE);
        assert_eq!(written["eventTime"], "2026-11-27T10:00:00.000000Z");
        assert_eq!(written["series"], json!({"count": 100, "lastObservedTime": "2026-11-27T10:00:07.000000Z"}));
        assert_eq!((&written["regarding"]["kind"], &written["regarding"]["uid"]), (&json!("ReplicaSet"), &json!("5c")));
    }

    #[test]
    fn what_befell_once_is_no_series() {
        let written = serde_json::to_value(event(&due("cart", 1), "control-1", "shop", None)).unwrap();
        assert_eq!((written.get("series"), written["regarding"].get("uid")), (None, None));
        assert!(written["metadata"]["name"].as_str().unwrap().starts_with("cart."), "{written}");
    }
}
