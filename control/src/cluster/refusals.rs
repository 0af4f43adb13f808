//! Pods that run without the sidecar that was asked for, or with one that is not all of it, as Events of whom a person would
//! describe: who made the pod, else the pod, else its namespace, since a pod that has no name yet cannot be found.

use isthmus_kubernetes::{
    Client,
    events::{self, About, Event},
};
use isthmus_runtime::drain::Drain;
use tokio::{sync::mpsc, task::JoinSet};

use crate::webhook::{Owner, Refused};

/// Begins to write what is told, until the drain. A webhook that tells waits for nothing.
pub(super) fn tell(client: &Client, instance: &str, tasks: &mut JoinSet<()>, drain: &Drain) -> mpsc::Sender<Refused> {
    let (tell, mut refused) = mpsc::channel(events::QUEUE);
    let say = events::start(client, instance, tasks, drain);
    let drain = drain.clone();
    tasks.spawn(async move {
        while let Some(Some(refused)) = drain.unless(refused.recv()).await {
            let _ = say.try_send(event(refused));
        }
    });
    tell
}

/// What it is about tells it from others: pods of one owner that are refused for one reason are one Event.
fn event(refused: Refused) -> Event {
    let Refused { namespace, pod, is_named, owner, is_whole, reason } = refused;
    let about = |api_version: &str, kind: &str, name: &str| About {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: namespace.clone(),
        name: name.into(),
        uid: String::new(),
    };
    let (about, who) = match owner {
        Some(Owner { api_version, kind, name, uid }) => {
            (About { uid, ..about(&api_version, &kind, &name) }, "its pods run".to_owned())
        }
        None if is_named => (about("v1", "Pod", &pod), "it runs".to_owned()),
        None => (about("v1", "Namespace", &namespace), format!("a pod {pod}… runs")),
    };
    let (word, how) = if is_whole {
        ("SidecarNotInjected", "without a sidecar")
    } else {
        ("SidecarWishNotHonoured", "with a sidecar, though not with all that was asked for")
    };
    Event { about, reason: word, action: "Inject", note: format!("{who} {how}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(is_named: bool, owner: Option<Owner>) -> Event {
        told(is_named, owner, true)
    }

    fn told(is_named: bool, owner: Option<Owner>, is_whole: bool) -> Event {
        let (namespace, pod, reason) = ("shop".into(), "cart-7f9".into(), "spec.hostNetwork: no".into());
        event(Refused { namespace, pod, is_named, owner, is_whole, reason })
    }

    #[test]
    fn an_event_is_about_whom_a_person_would_describe() {
        let owner = ["apps/v1", "ReplicaSet", "cart-7f", "5c"].map(str::to_owned);
        let [api_version, kind, name, uid] = owner;
        let owner = Owner { api_version, kind, name, uid };
        let of_owner = refused(false, Some(owner.clone()));
        let About { api_version, kind, namespace, name, uid } = &of_owner.about;
        assert_eq!(
            [api_version, kind, namespace, name, uid].map(String::as_str),
            ["apps/v1", "ReplicaSet", "shop", "cart-7f", "5c"]
        );
        assert_eq!(of_owner.note, "its pods run without a sidecar: spec.hostNetwork: no");
        assert_eq!(of_owner, refused(true, Some(owner.clone())), "whatever the pod's name is");
        let in_part = told(false, Some(owner), false);
        assert_eq!((in_part.about, in_part.reason), (of_owner.about, "SidecarWishNotHonoured"));
        assert!(in_part.note.starts_with("its pods run with a sidecar, though not with all"), "{}", in_part.note);
        let of_pod = refused(true, None);
        assert_eq!((of_pod.about.kind.as_str(), of_pod.about.name.as_str()), ("Pod", "cart-7f9"));
        let of_namespace = refused(false, None);
        assert_eq!((of_namespace.about.kind.as_str(), of_namespace.about.name.as_str()), ("Namespace", "shop"));
        assert!(of_namespace.note.starts_with("a pod cart-7f9… runs without"), "{}", of_namespace.note);
    }
}
