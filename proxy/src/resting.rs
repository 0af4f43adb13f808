//! Whether this workload takes requests, as the mesh sees it. A client of the own cluster chooses among endpoints for each request; one
//! of another cluster holds connections and cannot see to whom they lead. So who stops being ready says so on them.

use std::collections::BTreeMap;

use isthmus_core::{
    model::{Endpoint, Resource},
    name::ServiceName,
};

/// What this workload is as an endpoint of its services.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    usable: BTreeMap<ServiceName, bool>,
}

impl Resting {
    /// Takes what changed; whether no service takes the workload any more that one of them took before.
    pub(crate) fn begins<'a>(
        &mut self,
        changed: impl Iterator<Item = &'a Resource>,
        is_own: impl Fn(&Endpoint) -> bool,
    ) -> bool {
        let was_usable = self.is_usable();
        for resource in changed {
            let Resource::Endpoints(endpoints) = resource else { continue };
            match endpoints.local.iter().find(|endpoint| is_own(endpoint)) {
                Some(own) => drop(self.usable.insert(endpoints.service.clone(), own.state.is_usable())),
                // It is nobody's endpoint: that says nothing of how it is.
                None => drop(self.usable.remove(&endpoints.service)),
            }
        }
        was_usable && !self.usable.is_empty() && !self.is_usable()
    }

    fn is_usable(&self) -> bool {
        self.usable.values().any(|usable| *usable)
    }
}

#[cfg(test)]
mod tests {
    use isthmus_core::model::{EndpointState, Endpoints};

    use super::*;

    fn endpoints(service: &str, states: &[(&str, EndpointState)]) -> Resource {
        let endpoint = |(id, state): &(&str, EndpointState)| Endpoint {
            id: id.parse().unwrap(),
            address: "10.0.0.1:15006".parse().unwrap(),
            locality: Default::default(),
            labels: BTreeMap::new(),
            identity: "spiffe://east.mesh/ns/a/sa/b".parse().unwrap(),
            weight: 1,
            state: *state,
            targets: BTreeMap::new(),
        };
        let local = states.iter().map(endpoint).collect();
        Resource::Endpoints(Endpoints { service: service.parse().unwrap(), local, remote: BTreeMap::new() })
    }

    #[test]
    fn it_begins_when_the_last_service_that_took_it_takes_it_no_more() {
        use EndpointState::{Draining, Ready, Unknown, Unready};
        let mut resting = Resting::default();
        let mut begins = |service, states: &[_]| {
            resting.begins([endpoints(service, states)].iter(), |endpoint| endpoint.id.as_str() == "own")
        };
        assert!(!begins("a/one", &[("own", Unready)]), "it was never ready");
        assert!(!begins("a/one", &[("own", Ready), ("other", Ready)]));
        assert!(!begins("a/one", &[("own", Ready), ("other", Unready)]), "others are others");
        assert!(!begins("a/two", &[("own", Unknown)]));
        assert!(!begins("a/one", &[("own", Unready)]), "another service takes it still");
        assert!(begins("a/two", &[("own", Draining)]));
        assert!(!begins("a/two", &[("own", Unready)]), "it rests already");
        assert!(!begins("a/two", &[("own", Ready)]) && !begins("a/one", &[("own", Ready)]));
        assert!(!begins("a/two", &[]) && !begins("a/one", &[]), "it is no endpoint any more");
    }
}
