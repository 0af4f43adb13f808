//! What the mesh says of an object in its status: whether it is accepted, of which generation, and why not.
//!
//! Written by server-side apply with a field manager of its own, by the leader alone, once a change: what stands there already
//! is not written again, and neither is what somebody else wrote over. So nobody can be drawn into a loop.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_runtime::{backoff::Backoff, drain::Drain};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{arrived::Place, client::causes, kind::Kind, leader::Candidacy};

/// Who owns the conditions that are written here.
pub const MANAGER: &str = "isthmus-status";
/// The condition's type.
pub const ACCEPTED: &str = "Accepted";
/// A sentence is shorter; what quotes long input is cut.
const LONGEST: usize = 1024;
/// An API server that has not answered in so long is asked again later.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// How an object stands in its own words: what the API server says of it that is not its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its kind.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
    /// Of its API, as it was read.
    pub version: String,
    /// Grows with each change of its content.
    pub generation: i64,
    /// What stands in its status.
    pub accepted: Option<Condition>,
}

/// The condition as it stands there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    #[serde(default)]
    pub reason: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
    /// Of which generation.
    #[serde(default)]
    pub observed_generation: i64,
    /// Since when `status` is so.
    #[serde(default)]
    pub last_transition_time: String,
}

/// What shall stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the object is in force as it is now.
    pub accepted: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// An object and what shall be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The object.
    pub of: Standing,
    /// What.
    pub verdict: Verdict,
}

impl Standing {
    /// Of an object, where its kind has a status that is ours to write.
    pub(crate) fn read(kind: Kind, object: &DynamicObject) -> Option<Self> {
        #[derive(Deserialize)]
        struct Typed {
            #[serde(rename = "type")]
            kind: String,
            #[serde(flatten)]
            condition: Condition,
        }
        if !kind.has_status() {
            return None;
        }
        let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let typed = conditions.into_iter().flatten().filter_map(|one| Typed::deserialize(one).ok());
        let version = object.types.as_ref().and_then(|types| types.api_version.split_once('/'));
        Some(Self {
            kind,
            place: Place::of(object),
            version: version.map(|(_, version)| version.to_owned())?,
            generation: object.metadata.generation.unwrap_or(0),
            accepted: typed.filter(|one| one.kind == ACCEPTED).map(|one| one.condition).next(),
        })
    }
}

impl Said {
    fn word(&self) -> &'static str {
        if self.verdict.accepted { "True" } else { "False" }
    }

    fn message(&self) -> String {
        self.verdict.message.chars().take(LONGEST).collect()
    }

    fn stands(&self) -> bool {
        self.of.accepted.as_ref().is_some_and(|there| {
            there.status == self.word()
                && there.reason == self.verdict.reason
                && there.message == self.message()
                && there.observed_generation == self.of.generation
        })
    }

    /// What is applied; since when it is so moves only with the word itself.
    fn applied(&self, now: Timestamp) -> Value {
        let before = self.of.accepted.as_ref().filter(|there| there.status == self.word());
        let since = before.map(|there| there.last_transition_time.clone()).filter(|since| !since.is_empty());
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut metadata = json!({"name": self.of.place.name});
        if let (false, Some(fields)) = (self.of.place.namespace.is_empty(), metadata.as_object_mut()) {
            fields.insert("namespace".into(), self.of.place.namespace.as_str().into());
        }
        json!({
            "apiVersion": self.of.kind.resource(&self.of.version).api_version,
            "kind": self.of.kind.word(),
            "metadata": metadata,
            "status": {"conditions": [{
                "type": ACCEPTED,
                "status": self.word(),
                "reason": self.verdict.reason,
                "message": self.message(),
                "observedGeneration": self.of.generation,
                "lastTransitionTime": since.unwrap_or(now),
            }]},
        })
    }
}

/// What was written last of each object.
#[derive(Debug, Default)]
struct Written(BTreeMap<(Kind, Place), (i64, Verdict)>);

impl Written {
    /// What is still to be written.
    fn due<'a>(&self, all: &'a [Said]) -> Vec<&'a Said> {
        let is_written = |said: &Said| {
            let last = self.0.get(&(said.of.kind, said.of.place.clone()));
            last.is_some_and(|(generation, verdict)| *generation == said.of.generation && *verdict == said.verdict)
        };
        all.iter().filter(|said| !said.stands() && !is_written(said)).collect()
    }

    fn wrote(&mut self, said: &Said) {
        let key = (said.of.kind, said.of.place.clone());
        self.0.insert(key, (said.of.generation, said.verdict.clone()));
    }

    /// Forgets objects that are gone.
    fn keep(&mut self, all: &[Said]) {
        let there: std::collections::BTreeSet<_> =
            all.iter().map(|said| (said.of.kind, said.of.place.clone())).collect();
        self.0.retain(|key, _| there.contains(key));
    }
}

/// Writes what is to be said, as long as `writes` holds, until the drain.
pub async fn run(
    client: Client,
    mut all: watch::Receiver<Arc<Vec<Said>>>,
    mut writes: watch::Receiver<Candidacy>,
    drain: Drain,
) {
    let (mut written, mut backoff) =
        (Written::default(), Backoff::new(Duration::from_millis(500), Duration::from_secs(30)));
    let mut failing = false;
    loop {
        let now = all.borrow_and_update().clone();
        written.keep(&now);
        let mut failed = None;
        if writes.borrow_and_update().leads() {
            for said in written.due(&now).into_iter().cloned().collect::<Vec<_>>() {
                match write(&client, &said).await {
                    Ok(()) => written.wrote(&said),
                    Err(error) => failed = Some((said.of.place.file(said.of.kind), error)),
                }
            }
        }
        if let Some((object, error)) = failed.as_ref().filter(|_| !failing) {
            tracing::warn!(object, error = error.as_str(), "a status cannot be written now; it is tried again");
        }
        failing = failed.is_some();
        let again = if failing { backoff.next() } else { Duration::MAX };
        if !failing {
            backoff.reset();
        }
        tokio::select! {
            () = drain.draining() => return,
            changed = all.changed() => if changed.is_err() { return },
            changed = writes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(again) => {}
        }
    }
}

async fn write(client: &Client, said: &Said) -> Result<(), String> {
    let (resource, place) = (said.of.kind.resource(&said.of.version), &said.of.place);
    let api: Api<DynamicObject> = match place.namespace.as_str() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let (how, what) = (PatchParams::apply(MANAGER).force(), Patch::Apply(said.applied(Timestamp::now())));
    let answer = tokio::time::timeout(ANSWERS_WITHIN, api.patch_status(&place.name, &how, &what)).await;
    match answer {
        Ok(Ok(_)) => Ok(()),
        // It was deleted meanwhile, and nothing is left to say.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Err(format!("{}; the role needs `patch` of {}/status", status.message, said.of.kind.plural()))
        }
        Ok(Err(error)) => Err(causes(&error)),
        Err(_) => Err("the API server does not answer".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(generation: i64, accepted: Option<Condition>) -> Standing {
        let mut object = json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "FailoverPolicy",
            "metadata": {"name": "near", "namespace": "shop", "generation": generation},
        });
        if let Some(there) = accepted {
            object["status"] = json!({"conditions": [
                {"type": "Other", "status": "Unknown"},
                {"type": ACCEPTED, "status": there.status, "reason": there.reason, "message": there.message,
                 "observedGeneration": there.observed_generation, "lastTransitionTime": there.last_transition_time},
            ]});
        }
        Standing::read(Kind::FailoverPolicy, &serde_json::from_value(object).unwrap()).unwrap()
    }

    fn said(of: Standing, accepted: bool) -> Said {
        let (reason, message) = if accepted { ("Accepted", "it is in force") } else { ("Invalid", "spec: wrong") };
        Said { of, verdict: Verdict { accepted, reason, message: message.into() } }
    }

    /// As the watch brings it back.
    fn there(said: &Said) -> Condition {
        let applied = said.applied("2026-11-27T10:00:00Z".parse().unwrap());
        serde_json::from_value(applied["status"]["conditions"][0].clone()).unwrap()
    }

    #[test]
    fn what_stands_there_is_not_written_again_and_a_new_generation_is() {
        let written = Written::default();
        let first = said(standing(1, None), true);
        assert_eq!(written.due(std::slice::from_ref(&first)).len(), 1);
        let again = said(standing(1, Some(there(&first))), true);
        assert!(written.due(std::slice::from_ref(&again)).is_empty(), "a new leader finds it");
        assert_eq!(written.due(&[said(standing(2, Some(there(&first))), true)]).len(), 1);
    }

    #[test]
    fn what_somebody_else_wrote_over_is_written_once_and_not_fought_for() {
        let mut written = Written::default();
        let foreign = Condition { status: "Unknown".into(), ..there(&said(standing(1, None), true)) };
        let ours = said(standing(1, Some(foreign.clone())), true);
        assert_eq!(written.due(std::slice::from_ref(&ours)).len(), 1);
        written.wrote(&ours);
        assert!(written.due(std::slice::from_ref(&ours)).is_empty());
        assert_eq!(written.due(&[said(standing(1, Some(foreign)), false)]).len(), 1, "another verdict is news");
        written.keep(&[]);
        assert_eq!(written.due(&[ours]).len(), 1, "an object that was made anew");
    }

    #[test]
    fn since_when_it_is_so_moves_only_with_the_word() {
        let first = there(&said(standing(1, None), true));
        let since = |said: &Said| {
            let applied = said.applied("2026-11-27T11:11:11Z".parse().unwrap());
            applied["status"]["conditions"][0]["lastTransitionTime"].as_str().unwrap().to_owned()
        };
        assert_eq!(since(&said(standing(2, Some(first.clone())), true)), "2026-11-27T10:00:00Z");
        assert_eq!(since(&said(standing(2, Some(first)), false)), "2026-11-27T11:11:11Z");
    }
}
