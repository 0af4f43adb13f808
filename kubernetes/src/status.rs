//! What the mesh says of an object in its status: whether it is accepted, of which generation, whether all that it names is
//! there and whether proxies have it, and why not. That one becomes refused is an Event as well; an object without a status
//! of ours is told of by Events alone.
//!
//! Written with a field manager of its own, by the leader alone, once a change: what stands there already is not written again,
//! and neither is what somebody else wrote over. So nobody can be drawn into a loop.

pub mod said;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use isthmus_runtime::{backoff::Backoff, drain::Drain};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use tokio::sync::{mpsc, watch};

pub use self::said::{ACCEPTED, Condition, PROGRAMMED, RESOLVED_REFS, Said, Standing, VALID, Verdict};
use crate::{arrived::Place, client::causes, events::Event, kind::Kind, leader::Candidacy};

/// Who owns the conditions that are written here.
pub const MANAGER: &str = "isthmus-status";
/// An API server that has not answered in so long is asked again later.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What was written last of each object.
#[derive(Debug, Default)]
struct Written(BTreeMap<(Kind, Place), (i64, Vec<Verdict>)>);

impl Written {
    /// What is still to be written.
    fn due<'a>(&self, all: &'a [Said]) -> Vec<&'a Said> {
        let is_written = |said: &Said| {
            let last = self.0.get(&key(said));
            last.is_some_and(|(generation, verdicts)| *generation == said.of.generation && *verdicts == said.verdicts)
        };
        all.iter().filter(|said| !said.stands() && !is_written(said)).collect()
    }

    fn wrote(&mut self, said: &Said) {
        self.0.insert(key(said), (said.of.generation, said.verdicts.clone()));
    }

    /// Forgets objects that are gone.
    fn keep(&mut self, all: &[Said]) {
        let there: BTreeSet<_> = all.iter().map(key).collect();
        self.0.retain(|key, _| there.contains(key));
    }
}

fn key(said: &Said) -> (Kind, Place) {
    (said.of.kind, said.of.place.clone())
}

/// Writes what is to be said, as long as `writes` holds, until the drain; what a person should look at goes to `events` too.
pub async fn run(
    client: Client,
    mut all: watch::Receiver<Arc<Vec<Said>>>,
    mut writes: watch::Receiver<Candidacy>,
    events: mpsc::Sender<Event>,
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
                    Ok(()) => {
                        said.event().into_iter().for_each(|event| drop(events.try_send(event)));
                        written.wrote(&said);
                    }
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
    if !said.of.kind.has_status() {
        return Ok(());
    }
    let (resource, place) = (said.of.kind.resource(&said.of.version), &said.of.place);
    let api: Api<DynamicObject> = match place.namespace.as_str() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let what = said.written(Timestamp::now());
    // Applied, a list that is not merged by type would be taken from whoever else writes it.
    let (how, what) = if said.is_merged_by_type() {
        (PatchParams::apply(MANAGER).force(), Patch::Apply(what))
    } else {
        (PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }, Patch::Merge(what))
    };
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
    use serde_json::json;

    use super::{
        said::tests::{said, standing, there},
        *,
    };

    const POLICY: Kind = Kind::FailoverPolicy;

    #[test]
    fn what_stands_there_is_not_written_again_and_a_new_generation_is() {
        let written = Written::default();
        let first = said(standing(POLICY, 1, &[]), true);
        assert_eq!(written.due(std::slice::from_ref(&first)).len(), 1);
        let again = said(standing(POLICY, 1, &there(&first)), true);
        assert!(written.due(std::slice::from_ref(&again)).is_empty(), "a new leader finds it");
        assert_eq!(written.due(&[said(standing(POLICY, 2, &there(&first)), true)]).len(), 1);
    }

    #[test]
    fn what_somebody_else_wrote_over_is_written_once_and_not_fought_for() {
        let mut written = Written::default();
        let mut foreign = there(&said(standing(POLICY, 1, &[]), true));
        foreign[0]["status"] = json!("Unknown");
        let ours = said(standing(POLICY, 1, &foreign), true);
        assert_eq!(written.due(std::slice::from_ref(&ours)).len(), 1);
        written.wrote(&ours);
        assert!(written.due(std::slice::from_ref(&ours)).is_empty());
        assert_eq!(written.due(&[said(standing(POLICY, 1, &foreign), false)]).len(), 1, "another verdict is news");
        written.keep(&[]);
        assert_eq!(written.due(&[ours]).len(), 1, "an object that was made anew");
    }

    #[test]
    fn of_an_object_without_a_status_of_ours_each_verdict_is_looked_at_once() {
        let mut written = Written::default();
        let service = |accepted| said(standing(Kind::Service, 0, &[]), accepted);
        for accepted in [true, false, true, false] {
            let all = [service(accepted)];
            assert_eq!(written.due(&all).len(), 1);
            written.wrote(&all[0]);
            assert!(written.due(&all).is_empty());
        }
    }
}
