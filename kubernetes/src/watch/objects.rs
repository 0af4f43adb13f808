//! The objects of one kind: a list in pages, then what changes, for ever.

use futures_util::StreamExt;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::sync::mpsc;

use super::{health::Health, patience::Patience};
use crate::{
    Kind,
    arrived::{Arrived, Place},
    client::WATCH,
    seen::Told,
};

/// How kinds are watched; pages and bookmarks are kube's defaults.
pub(super) fn settings() -> watcher::Config {
    watcher::Config::default().timeout(u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX))
}

/// Tells until nobody listens.
pub(super) async fn watch(client: Client, kind: Kind, version: &str, tell: &mpsc::Sender<Told>, health: &Health) {
    let api = Api::<DynamicObject>::all_with(client, &kind.resource(version));
    let asked = kind.selector().iter().fold(settings(), |settings, labels| settings.labels(labels));
    let mut events = watcher::watcher(api, asked).backoff(Patience::default()).boxed();
    let mut listing = Listing::new(kind);
    while let Some(event) = events.next().await {
        match event {
            Err(error) => health.failed(kind.plural(), &error),
            Ok(event) => {
                health.heard(kind.plural(), &event);
                let Some(told) = listing.take(event) else { continue };
                if tell.send(told).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Gathers a list until it is whole.
struct Listing {
    kind: Kind,
    gathered: Vec<Arrived>,
}

impl Listing {
    fn new(kind: Kind) -> Self {
        Self { kind, gathered: vec![] }
    }

    fn take(&mut self, event: Event<DynamicObject>) -> Option<Told> {
        match event {
            Event::Init => {
                self.gathered.clear();
                None
            }
            Event::InitApply(object) => {
                self.gathered.extend(self.read(object));
                None
            }
            Event::InitDone => Some(Told::All(self.kind, std::mem::take(&mut self.gathered))),
            Event::Apply(object) => self.read(object).map(|object| Told::One(self.kind, Box::new(object))),
            Event::Delete(object) => Some(Told::Gone(self.kind, Place::of(&object))),
        }
    }

    /// An object that is not as its API has it is left out: it says nothing that could be used.
    fn read(&self, object: DynamicObject) -> Option<Arrived> {
        let place = Place::of(&object);
        let read = Arrived::of(self.kind, object);
        read.inspect_err(|error| {
            tracing::error!(object = place.file(self.kind), %error, "an object of the API server cannot be read; it is left out");
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": {}})).unwrap()
    }

    #[test]
    fn a_list_is_told_whole_and_one_that_broke_off_not_at_all() {
        let mut listing = Listing::new(Kind::Service);
        for event in [Event::Init, Event::InitApply(service("a")), Event::Init, Event::InitApply(service("b"))] {
            assert!(listing.take(event).is_none());
        }
        let Some(Told::All(Kind::Service, all)) = listing.take(Event::InitDone) else { panic!() };
        assert_eq!(all.iter().map(|one| one.place.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert!(matches!(listing.take(Event::Apply(service("c"))), Some(Told::One(..))));
        assert!(matches!(listing.take(Event::Delete(service("c"))), Some(Told::Gone(..))));
    }

    #[test]
    fn what_is_no_pod_is_left_out_and_the_list_goes_on() {
        let mut listing = Listing::new(Kind::Pod);
        let broken = json!({"metadata": {"name": "x", "namespace": "n"}, "spec": {"containers": "none"}});
        listing.take(Event::InitApply(serde_json::from_value(broken).unwrap()));
        let good = json!({"metadata": {"name": "y", "namespace": "n"}, "spec": {"containers": []}});
        listing.take(Event::InitApply(serde_json::from_value(good).unwrap()));
        let Some(Told::All(_, all)) = listing.take(Event::InitDone) else { panic!() };
        assert_eq!(all.len(), 1);
    }
}
