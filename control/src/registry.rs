//! The registration book: an endpoint exists because its sidecar registers it under its identity (DESIGN.md
//! decision 22).
//!
//! What is promised: nobody registers for another namespace or under a name another workload holds; an endpoint
//! whose feed is lost becomes *unknown* after [`LOST_AFTER`] and is used on; a restarting control begins with what it
//! had, so it changes nothing. Time is an argument, milliseconds on any clock that only grows.

pub mod pods;

use std::collections::BTreeMap;

use isthmus_core::{
    model::EndpointState,
    name::{EndpointId, Locality, SpiffeId},
};
use serde::{Deserialize, Serialize};

/// A lost feed makes an endpoint unknown after so long: longer than a control needs to restart, and a proxy to come
/// back to it.
pub const LOST_AFTER: u64 = 10_000;
/// An endpoint nobody has spoken for in so long is forgotten: a host that does not return in a day is gone.
pub const FORGOTTEN_AFTER: u64 = 24 * 3_600_000;

/// Labels of one workload; Kubernetes' own tools grow slow long before.
const MAX_LABELS: usize = 64;
/// Bytes of a label's name and value: 253 + 1 + 63 and 63, as Kubernetes has them.
const MAX_LABEL: usize = 380;

/// What a sidecar says of its workload, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The workload's name, unique in the cluster.
    pub workload: EndpointId,
    /// Who it is; its namespace is the endpoint's.
    pub identity: SpiffeId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where its sidecar takes inner connections.
    pub inbound: std::net::SocketAddr,
    /// Where it is.
    pub locality: Locality,
    /// As its sidecar sees the application.
    pub state: EndpointState,
    /// Relative weight.
    pub weight: u32,
}

/// Why a registration is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// The identity is of another namespace.
    #[error(
        "{identity} registers workload {workload:?} in namespace {namespace:?}, but may speak only for its own \
         namespace {own:?}"
    )]
    Namespace {
        /// The caller.
        identity: SpiffeId,
        /// The workload it names.
        workload: String,
        /// The namespace it claims.
        namespace: String,
        /// The namespace it has.
        own: String,
    },
    /// The name is held by another identity.
    #[error("workload name {workload:?} is held by {holder}; {identity} cannot have it too")]
    Taken {
        /// The name.
        workload: String,
        /// Who holds it.
        holder: SpiffeId,
        /// Who wants it.
        identity: SpiffeId,
    },
    /// A field does not say what it must.
    #[error("registration of workload {workload:?}: {field} {value:?}: {reason}")]
    Field {
        /// The workload.
        workload: String,
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
        /// What is wrong.
        reason: String,
    },
}

/// Checks what came over the wire against who sent it.
///
/// # Errors
/// [`Refused::Namespace`], [`Refused::Field`].
pub fn check(identity: &SpiffeId, said: &isthmus_wire::feed::Registration) -> Result<Registered, Refused> {
    let field = |field, value: &str, reason: String| Refused::Field {
        workload: said.workload.chars().take(300).collect(),
        field,
        value: value.chars().take(300).collect(),
        reason,
    };
    let workload = said.workload.parse().map_err(|error| field("workload", &said.workload, format!("{error}")))?;
    if said.namespace != identity.namespace() {
        return Err(Refused::Namespace {
            identity: identity.clone(),
            workload: said.workload.clone(),
            namespace: said.namespace.chars().take(300).collect(),
            own: identity.namespace().to_owned(),
        });
    }
    if said.labels.len() > MAX_LABELS || said.labels.iter().any(|(key, value)| key.len() + value.len() > MAX_LABEL) {
        let reason = format!("at most {MAX_LABELS} labels of {MAX_LABEL} bytes are taken");
        return Err(field("labels", &said.labels.len().to_string(), reason));
    }
    let inbound = said.inbound.parse().map_err(|error| field("inbound", &said.inbound, format!("{error}")))?;
    let state = match said.state.as_str() {
        "ready" => EndpointState::Ready,
        "draining" => EndpointState::Draining,
        "unready" => EndpointState::Unready,
        other => return Err(field("state", other, "it must be ready, draining or unready".into())),
    };
    Ok(Registered {
        workload,
        identity: identity.clone(),
        labels: said.labels.clone().into_iter().collect(),
        inbound,
        locality: Locality { region: said.region.clone(), zone: said.zone.clone() },
        state,
        weight: said.weight.max(1),
    })
}

#[derive(Clone, Debug)]
struct Held {
    registered: Registered,
    /// The stream that speaks for it.
    stream: Option<u64>,
    /// When its stream was lost, or this control began without one.
    lost_at: u64,
}

/// All registrations of the cluster.
#[derive(Debug, Default)]
pub struct Registry {
    held: BTreeMap<EndpointId, Held>,
    changed: bool,
}

impl Registry {
    /// With what an earlier run of control had, as if all their feeds were lost `now`.
    #[must_use]
    pub fn restored(last_known: Vec<Registered>, now: u64) -> Self {
        let held = last_known
            .into_iter()
            .map(|registered| (registered.workload.clone(), Held { registered, stream: None, lost_at: now }))
            .collect();
        Self { held, changed: true }
    }

    /// Takes a registration that came on a stream.
    ///
    /// # Errors
    /// [`Refused::Taken`] when a living workload of another identity, or one of another namespace, holds the name.
    pub fn register(&mut self, stream: u64, registered: Registered) -> Result<(), Refused> {
        if let Some(held) = self.held.get(&registered.workload) {
            let same = held.registered.identity == registered.identity;
            let of_namespace = held.registered.identity.namespace() == registered.identity.namespace();
            if !same && (held.stream.is_some() || !of_namespace) {
                return Err(Refused::Taken {
                    workload: registered.workload.to_string(),
                    holder: held.registered.identity.clone(),
                    identity: registered.identity,
                });
            }
            self.changed |= held.registered != registered || held.stream.is_none();
        } else {
            self.changed = true;
        }
        let key = registered.workload.clone();
        self.held.insert(key, Held { registered, stream: Some(stream), lost_at: 0 });
        Ok(())
    }

    /// A stream ended; what it spoke for is lost unless a newer stream speaks for it.
    pub fn lost(&mut self, stream: u64, now: u64) {
        for held in self.held.values_mut().filter(|held| held.stream == Some(stream)) {
            held.stream = None;
            held.lost_at = now;
        }
    }

    /// Lets time pass: forgets who drained and left, and who was not heard of for [`FORGOTTEN_AFTER`].
    pub fn tick(&mut self, now: u64) {
        let before = self.held.len();
        self.held.retain(|_, held| {
            let lost = held.lost_for(now);
            let left = held.registered.state == EndpointState::Draining && lost >= LOST_AFTER;
            !left && lost < FORGOTTEN_AFTER
        });
        self.changed |= before != self.held.len();
    }

    /// Forgets those that nobody speaks for and that `are_there` does not know.
    pub fn forget(&mut self, are_there: impl Fn(&Registered) -> bool) {
        let before = self.held.len();
        self.held.retain(|_, held| held.stream.is_some() || are_there(&held.registered));
        self.changed |= before != self.held.len();
    }

    /// Every endpoint as it stands `now`: ready ones whose feed is lost for [`LOST_AFTER`] are unknown.
    #[must_use]
    pub fn standing(&self, now: u64) -> Vec<Registered> {
        let standing = |held: &Held| {
            let unknown = held.registered.state == EndpointState::Ready && held.lost_for(now) >= LOST_AFTER;
            let state = if unknown { EndpointState::Unknown } else { held.registered.state };
            Registered { state, ..held.registered.clone() }
        };
        self.held.values().map(standing).collect()
    }

    /// What to keep on disk, if it changed since it was asked for last.
    pub fn take_changed(&mut self) -> Option<Vec<Registered>> {
        std::mem::take(&mut self.changed).then(|| self.held.values().map(|held| held.registered.clone()).collect())
    }

    /// What was taken could not be kept: it is to be asked for again.
    pub fn not_kept(&mut self) {
        self.changed = true;
    }

    /// Whether a stream speaks for the workload now.
    #[must_use]
    pub fn is_live(&self, workload: &EndpointId) -> bool {
        self.held.get(workload).is_some_and(|held| held.stream.is_some())
    }
}

impl Held {
    fn lost_for(&self, now: u64) -> u64 {
        if self.stream.is_some() { 0 } else { now.saturating_sub(self.lost_at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(workload: &str, namespace: &str) -> isthmus_wire::feed::Registration {
        isthmus_wire::feed::Registration {
            workload: workload.into(),
            namespace: namespace.into(),
            labels: [("app".to_owned(), "a".to_owned())].into(),
            inbound: "127.1.11.1:15006".into(),
            region: "r".into(),
            zone: "z".into(),
            state: "ready".into(),
            weight: 1,
        }
    }

    fn id(namespace: &str, account: &str) -> SpiffeId {
        format!("spiffe://east.mesh.test/ns/{namespace}/sa/{account}").parse().unwrap()
    }

    fn states(registry: &Registry, now: u64) -> Vec<EndpointState> {
        registry.standing(now).into_iter().map(|registered| registered.state).collect()
    }

    #[test]
    fn a_workload_cannot_speak_for_another_namespace_nor_say_nonsense() {
        assert!(check(&id("shop", "a"), &said("a-1", "shop")).is_ok());
        let refused = check(&id("shop", "a"), &said("a-1", "bank")).unwrap_err();
        assert!(refused.to_string().contains("only for its own namespace \"shop\""), "{refused}");
        for bad in [
            isthmus_wire::feed::Registration { state: "fine".into(), ..said("a-1", "shop") },
            isthmus_wire::feed::Registration { inbound: "here".into(), ..said("a-1", "shop") },
            said("A_1", "shop"),
        ] {
            assert!(matches!(check(&id("shop", "a"), &bad), Err(Refused::Field { .. })));
        }
    }

    #[test]
    fn a_held_name_is_not_given_to_another() {
        let mut registry = Registry::default();
        registry.register(1, check(&id("shop", "a"), &said("a-1", "shop")).unwrap()).unwrap();
        let other = check(&id("shop", "b"), &said("a-1", "shop")).unwrap();
        let foreign = check(&id("bank", "a"), &said("a-1", "bank")).unwrap();
        assert!(registry.register(2, other.clone()).is_err());
        registry.lost(1, 0);
        assert!(registry.register(3, foreign).is_err(), "even while it is away");
        assert!(registry.register(2, other).is_ok(), "a new service account after a restart");
    }

    #[test]
    fn a_lost_feed_makes_unknown_after_ten_seconds_and_a_new_stream_makes_ready() {
        let mut registry = Registry::default();
        let a = check(&id("shop", "a"), &said("a-1", "shop")).unwrap();
        registry.register(1, a.clone()).unwrap();
        registry.register(2, a.clone()).unwrap();
        registry.lost(1, 1000);
        assert_eq!(states(&registry, 99_000), [EndpointState::Ready], "the newer stream speaks");
        registry.lost(2, 1000);
        assert_eq!(states(&registry, 10_999), [EndpointState::Ready]);
        assert_eq!(states(&registry, 11_000), [EndpointState::Unknown]);
        registry.tick(3_600_000);
        registry.register(3, a).unwrap();
        assert_eq!(states(&registry, 3_600_000), [EndpointState::Ready]);
    }

    #[test]
    fn a_restart_changes_nothing_and_who_drained_and_left_is_gone() {
        let mut registry = Registry::default();
        registry.register(1, check(&id("shop", "a"), &said("a-1", "shop")).unwrap()).unwrap();
        let kept = registry.take_changed().unwrap();
        assert!(registry.take_changed().is_none());
        let mut again = Registry::restored(kept, 0);
        assert_eq!(again.standing(0), registry.standing(0));
        let draining = isthmus_wire::feed::Registration { state: "draining".into(), ..said("a-1", "shop") };
        again.register(2, check(&id("shop", "a"), &draining).unwrap()).unwrap();
        again.lost(2, 5);
        again.tick(5 + LOST_AFTER);
        assert!(again.standing(5 + LOST_AFTER).is_empty());
    }
}
