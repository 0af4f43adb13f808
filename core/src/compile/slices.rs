//! Endpoints of a Service without a selector: the addresses that somebody wrote into EndpointSlices.
//!
//! An address that is a workload of the mesh, of the Service's own namespace, is an endpoint; any other is reached as if there
//! were no mesh. Of another namespace none is taken: an export would offer a namespace's workloads in another one's name.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use super::{Inputs, Workload, endpoints::endpoint};
use crate::{
    model::{Endpoint, EndpointState},
    name::ServiceName,
    resource::{
        Body,
        slice::{Conditions, EndpointSlice},
    },
    statement::Port,
};

/// Slices by their service.
pub(super) type Slices<'a> = BTreeMap<ServiceName, Vec<&'a EndpointSlice>>;

pub(super) fn of<'a>(inputs: &'a Inputs<'_>) -> Slices<'a> {
    let mut slices = Slices::new();
    for (_, object) in &inputs.objects {
        let Body::EndpointSlice(slice) = &object.body else { continue };
        if let Some(Ok(name)) = slice.service.as_ref().map(|name| ServiceName::new(&object.metadata.namespace, name)) {
            slices.entry(name).or_default().push(slice);
        }
    }
    slices
}

/// The endpoints that the slices of a service make.
pub(super) fn endpoints(
    inputs: &Inputs<'_>,
    (name, ports): (&ServiceName, &[Port]),
    publishes_not_ready: bool,
    slices: &[&EndpointSlice],
) -> Vec<Endpoint> {
    let of_namespace = inputs.workloads.iter().filter(|one| one.identity.namespace() == name.namespace());
    let workloads: BTreeMap<IpAddr, &Workload> = of_namespace.map(|one| (one.address.ip(), one)).collect();
    let mut found = BTreeMap::<_, Endpoint>::new();
    for slice in slices {
        let targets = targets(slice, ports);
        for written in &slice.endpoints {
            let here = written.addresses.iter().filter_map(|address| workloads.get(&address.parse().ok()?));
            for workload in here {
                let state = state(workload.state, &written.conditions, publishes_not_ready);
                match found.entry(workload.id.clone()) {
                    Entry::Vacant(entry) => drop(entry.insert(endpoint(workload, state, targets.clone()))),
                    // Ports may be parted over slices.
                    Entry::Occupied(mut entry) => entry.get_mut().targets.extend(&targets),
                }
            }
        }
    }
    found.into_values().filter(|endpoint| !endpoint.targets.is_empty()).collect()
}

/// Of each port of the Service the application's: a slice's port is that of the same name.
fn targets(slice: &EndpointSlice, ports: &[Port]) -> BTreeMap<u16, u16> {
    let number = |name: &str| slice.ports.iter().find(|port| port.name == name && port.is_tcp())?.port;
    ports.iter().filter_map(|port| Some((port.port, number(&port.name)?))).collect()
}

/// Whether it is ready is the word of who wrote the slice; but a sidecar knows first that it drains.
fn state(own: EndpointState, written: &Conditions, publishes_not_ready: bool) -> EndpointState {
    match own {
        EndpointState::Draining => EndpointState::Draining,
        _ if written.terminating == Some(true) => EndpointState::Draining,
        _ if written.ready == Some(false) && !publishes_not_ready => EndpointState::Unready,
        EndpointState::Unknown => EndpointState::Unknown,
        EndpointState::Ready | EndpointState::Unready => EndpointState::Ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_says_whether_an_endpoint_is_ready_and_a_sidecar_that_it_drains() {
        use EndpointState::{Draining, Ready, Unknown, Unready};
        let with = |ready, terminating| Conditions { ready, terminating };
        let cases = [
            (Ready, with(None, None), false, Ready),
            (Unready, with(Some(true), None), false, Ready),
            (Ready, with(Some(false), None), false, Unready),
            (Ready, with(Some(false), None), true, Ready),
            (Ready, with(Some(false), Some(true)), true, Draining),
            (Draining, with(Some(true), None), false, Draining),
            (Unknown, with(Some(true), None), false, Unknown),
        ];
        for (own, written, publishes, expected) in cases {
            assert_eq!(state(own, &written, publishes), expected, "{own:?} {written:?} {publishes}");
        }
    }
}
