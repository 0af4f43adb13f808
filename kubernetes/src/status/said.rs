//! An object, how it stands in its own words, and what shall stand there: which of it is news, and how it is written.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    arrived::Place,
    events::{About, Event},
    kind::Kind,
};

/// The condition that says whether an object is taken as it is written.
pub const ACCEPTED: &str = "Accepted";
/// Whether all that it names is there (Gateway API).
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// Whether what it says is handed out to proxies (Gateway API).
pub const PROGRAMMED: &str = "Programmed";
/// Whether it exports something that can be exported (MCS).
pub const VALID: &str = "Valid";
/// The conditions that are ours. Others may stand beside them.
const OURS: [&str; 4] = [ACCEPTED, RESOLVED_REFS, PROGRAMMED, VALID];
/// A sentence is shorter; what quotes long input is cut.
const LONGEST: usize = 1024;

/// How an object stands in its own words: what the API server says of it that is not its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its kind.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
    /// Of its API, as it was read.
    pub version: String,
    /// Tells it from others that had its name before.
    pub uid: String,
    /// Grows with each change of its content.
    pub generation: i64,
    /// Our conditions, as they stand in its status.
    pub conditions: BTreeMap<String, Condition>,
    /// What others say beside them.
    pub others: Vec<Value>,
}

/// A condition as it stands there.
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

/// A condition as it shall stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its type.
    pub of: &'static str,
    /// Whether it is so; `None`: nobody can say.
    pub holds: Option<bool>,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }

    fn message(&self) -> String {
        self.message.chars().take(LONGEST).collect()
    }

    fn is_said_by(&self, there: &Condition) -> bool {
        there.status == self.word() && there.reason == self.reason && there.message == self.message()
    }

    /// As it is written; since when it is so moves only with the word itself.
    fn written(&self, of: &Standing, now: &str) -> Value {
        let before = of.conditions.get(self.of).filter(|there| there.status == self.word());
        let since = before.map(|there| there.last_transition_time.as_str()).filter(|since| !since.is_empty());
        json!({
            "type": self.of,
            "status": self.word(),
            "reason": self.reason,
            "message": self.message(),
            "observedGeneration": of.generation,
            "lastTransitionTime": since.unwrap_or(now),
        })
    }
}

/// An object and what shall be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The object.
    pub of: Standing,
    /// What: all of our conditions that it has.
    pub verdicts: Vec<Verdict>,
}

impl Standing {
    /// Of an object of which the mesh says what is wrong with it.
    pub(crate) fn read(kind: Kind, object: &DynamicObject) -> Option<Self> {
        if !kind.is_judged() {
            return None;
        }
        let version = match object.types.as_ref().and_then(|types| types.api_version.split_once('/')) {
            Some((_, version)) => version.to_owned(),
            // Of Kubernetes' own kinds no other is read, and lists leave it out.
            None if kind.definition().is_none() => "v1".to_owned(),
            None => return None,
        };
        let listed = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let kind_of = |one: &Value| one.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (ours, others): (Vec<_>, Vec<_>) =
            listed.into_iter().flatten().cloned().partition(|one| OURS.contains(&kind_of(one).as_str()));
        let read = |one: &Value| Some((kind_of(one), Condition::deserialize(one).ok()?));
        Some(Self {
            kind,
            place: Place::of(object),
            version,
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            conditions: ours.iter().filter_map(read).collect(),
            others,
        })
    }

    /// As an Event is about it. What befell a namespace is looked for in it.
    fn about(&self) -> About {
        let namespace = if self.kind == Kind::Namespace { &self.place.name } else { &self.place.namespace };
        About {
            api_version: self.kind.resource(&self.version).api_version,
            kind: self.kind.word().into(),
            namespace: namespace.clone(),
            name: self.place.name.clone(),
            uid: self.uid.clone(),
        }
    }
}

impl Said {
    /// Whether all of it stands there already.
    pub(crate) fn stands(&self) -> bool {
        self.verdicts.iter().all(|verdict| {
            let there = self.of.conditions.get(verdict.of);
            there.is_some_and(|there| verdict.is_said_by(there) && there.observed_generation == self.of.generation)
        })
    }

    /// What a person should look at: that the object is refused, unless that stands there already; of an object without a
    /// status of ours, that any part of it is.
    pub(crate) fn event(&self) -> Option<Event> {
        let accepted = self.verdicts.iter().find(|verdict| verdict.of == ACCEPTED)?;
        let is_good = accepted.holds == Some(true) && (self.of.kind.has_status() || accepted.reason == ACCEPTED);
        let is_known = self.of.conditions.get(ACCEPTED).is_some_and(|there| accepted.is_said_by(there));
        let (about, note) = (self.of.about(), accepted.message());
        (!is_good && !is_known).then_some(Event { about, reason: accepted.reason, action: "Accept", note })
    }

    /// What is written. Where the list of conditions is not merged by type, what others say in it is written with it.
    pub(crate) fn written(&self, now: Timestamp) -> Value {
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let others = self.of.others.iter().filter(|_| !self.is_merged_by_type()).cloned();
        let conditions: Vec<_> =
            others.chain(self.verdicts.iter().map(|verdict| verdict.written(&self.of, &now))).collect();
        let mut metadata = json!({"name": self.of.place.name});
        if let (false, Some(fields)) = (self.of.place.namespace.is_empty(), metadata.as_object_mut()) {
            fields.insert("namespace".into(), self.of.place.namespace.as_str().into());
        }
        json!({
            "apiVersion": self.of.kind.resource(&self.of.version).api_version,
            "kind": self.of.kind.word(),
            "metadata": metadata,
            "status": {"conditions": conditions},
        })
    }

    /// Whether who applies some conditions leaves the others alone. In Istio's definitions the list is one value.
    pub(crate) fn is_merged_by_type(&self) -> bool {
        !matches!(self.of.kind, Kind::VirtualService | Kind::DestinationRule)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::status) fn standing(kind: Kind, generation: i64, conditions: &[Value]) -> Standing {
        let version = if kind.group().is_empty() { "v1".to_owned() } else { format!("{}/v1alpha1", kind.group()) };
        let metadata = json!({"name": "near", "namespace": "shop", "generation": generation, "uid": "5c"});
        let object = json!({
            "apiVersion": version, "kind": kind.word(), "metadata": metadata, "status": {"conditions": conditions},
        });
        Standing::read(kind, &serde_json::from_value(object).unwrap()).unwrap()
    }

    pub(in crate::status) fn said(of: Standing, accepted: bool) -> Said {
        let (reason, message) = if accepted { (ACCEPTED, "it is in force") } else { ("Invalid", "spec: wrong") };
        let verdict = |of, holds, reason| Verdict { of, holds, reason, message: message.into() };
        let programmed = verdict(PROGRAMMED, Some(accepted), if accepted { PROGRAMMED } else { "Invalid" });
        let resolved = verdict(RESOLVED_REFS, accepted.then_some(true), reason);
        Said { of, verdicts: vec![verdict(ACCEPTED, Some(accepted), reason), resolved, programmed] }
    }

    /// As the watch brings it back.
    pub(in crate::status) fn there(said: &Said) -> Vec<Value> {
        let written = said.written("2026-11-27T10:00:00Z".parse().unwrap());
        written["status"]["conditions"].as_array().unwrap().clone()
    }

    const POLICY: Kind = Kind::FailoverPolicy;

    #[test]
    fn it_stands_when_each_condition_does_for_this_generation() {
        let first = said(standing(POLICY, 1, &[]), true);
        assert!(!first.stands());
        assert!(said(standing(POLICY, 1, &there(&first)), true).stands());
        assert!(!said(standing(POLICY, 2, &there(&first)), true).stands(), "another generation");
        assert!(!said(standing(POLICY, 1, &there(&first)[..2]), true).stands(), "one is missing");
        assert!(!said(standing(POLICY, 1, &there(&first)), false).stands());
    }

    #[test]
    fn since_when_it_is_so_moves_only_with_the_word() {
        let first = there(&said(standing(POLICY, 1, &[]), true));
        let since = |said: &Said| {
            let written = said.written("2026-11-27T11:11:11Z".parse().unwrap());
            written["status"]["conditions"][0]["lastTransitionTime"].as_str().unwrap().to_owned()
        };
        assert_eq!(since(&said(standing(POLICY, 2, &first), true)), "2026-11-27T10:00:00Z");
        assert_eq!(since(&said(standing(POLICY, 2, &first), false)), "2026-11-27T11:11:11Z");
    }

    #[test]
    fn what_others_say_is_written_only_where_it_would_be_lost() {
        let foreign = json!({"type": "Reconciled", "status": "True", "x": 1});
        for (kind, count) in [(POLICY, 3), (Kind::VirtualService, 4)] {
            let written = there(&said(standing(kind, 1, std::slice::from_ref(&foreign)), true));
            assert_eq!(written.len(), count, "{kind}");
            assert_eq!(written.contains(&foreign), count == 4);
        }
    }

    #[test]
    fn an_event_is_told_of_what_becomes_refused_and_not_of_what_is_known_to_be() {
        let event = said(standing(POLICY, 1, &[]), false).event().unwrap();
        assert_eq!((event.reason, event.note.as_str(), event.about.uid.as_str()), ("Invalid", "spec: wrong", "5c"));
        assert_eq!(event.about.api_version, "isthmus.dev/v1alpha1");
        assert_eq!(said(standing(POLICY, 1, &[]), true).event(), None);
        let refused = there(&said(standing(POLICY, 1, &[]), false));
        assert_eq!(
            said(standing(POLICY, 2, &refused), false).event(),
            None,
            "a new generation is as wrong as the last"
        );
        let good = there(&said(standing(POLICY, 1, &[]), true));
        assert!(said(standing(POLICY, 2, &good), false).event().is_some());
    }

    #[test]
    fn of_a_service_events_alone_say_that_a_part_is_not_honoured() {
        let partly = |kind| {
            let verdict = Verdict { of: ACCEPTED, holds: Some(true), reason: "PartlyInvalid", message: "no".into() };
            Said { of: standing(kind, 1, &[]), verdicts: vec![verdict] }
        };
        assert_eq!(partly(POLICY).event(), None, "its status says so");
        let event = partly(Kind::Service).event().unwrap();
        assert_eq!((event.about.api_version.as_str(), event.reason), ("v1", "PartlyInvalid"));
        assert_eq!(said(standing(Kind::Service, 1, &[]), true).event(), None);
    }

    #[test]
    fn what_is_wrong_with_a_namespace_is_told_in_it() {
        let metadata = json!({"name": "shop", "uid": "5c"});
        let object = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        let of = Standing::read(Kind::Namespace, &object).unwrap();
        let about = said(of, false).event().unwrap().about;
        assert_eq!([about.api_version, about.kind, about.namespace, about.name], ["v1", "Namespace", "shop", "shop"]);
    }
}
