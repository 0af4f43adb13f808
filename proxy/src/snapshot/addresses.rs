//! What an address means to whoever calls it: for connections that were captured, which name no host.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use isthmus_core::{
    model::port_protocol,
    name::{HostScope, ServiceName},
    plan,
};

use super::{Snapshot, View};

/// Addresses of services and of workloads that have a sidecar.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    services: HashMap<IpAddr, (ServiceName, HostScope)>,
    workloads: HashMap<IpAddr, Vec<ServiceName>>,
}

/// What a connection to an address is for.
pub(crate) enum Meant {
    /// A service, by its address in the cluster or in the set.
    Service(Arc<View>, HostScope),
    /// One workload, by its own address: the service that offers the port, the index of the endpoint, the service's port.
    Workload(Arc<View>, usize, u16),
    /// An address of the mesh's own behind which nothing is.
    Nobody,
    /// Nothing that the mesh knows, or can serve.
    Outside,
}

impl Addresses {
    pub(super) fn of(views: &BTreeMap<ServiceName, Arc<View>>) -> Self {
        let mut addresses = Self::default();
        for (name, view) in views {
            let service = &view.service;
            for address in &service.addresses {
                addresses.services.insert(*address, (name.clone(), HostScope::Cluster));
            }
            if let Some(address) = service.set_address {
                addresses.services.insert(address.into(), (name.clone(), HostScope::ClusterSet));
            }
            for endpoint in &view.endpoints.local {
                let offered = addresses.workloads.entry(endpoint.address.ip()).or_default();
                if offered.last() != Some(name) {
                    offered.push(name.clone());
                }
            }
        }
        addresses
    }
}

impl Snapshot {
    /// What a connection to this address is for.
    pub(crate) fn meant(&self, to: SocketAddr) -> Meant {
        if let Some((view, scope)) = self.service_at(to.ip()) {
            return service(view, scope, to.port());
        }
        match self.workload(to) {
            Some((view, index, port)) => Meant::Workload(view, index, port),
            None if is_of_set(to.ip()) => Meant::Nobody,
            None => Meant::Outside,
        }
    }

    fn service_at(&self, address: IpAddr) -> Option<(Arc<View>, HostScope)> {
        let (name, scope) = self.addresses.services.get(&address)?;
        Some((Arc::clone(self.views.get(name)?), *scope))
    }

    /// The service by which a workload at this address offers this port, the first by name.
    pub(crate) fn workload(&self, at: SocketAddr) -> Option<(Arc<View>, usize, u16)> {
        self.addresses.workloads.get(&at.ip())?.iter().find_map(|name| {
            let view = self.views.get(name)?;
            let mut endpoints = view.endpoints.local.iter().enumerate();
            let (index, endpoint) = endpoints.find(|(_, endpoint)| endpoint.address.ip() == at.ip())?;
            let (port, _) = endpoint.targets.iter().find(|(_, target)| **target == at.port())?;
            Some((Arc::clone(view), index, *port))
        })
    }
}

/// A service is the mesh's affair where it has the port, and somebody with a sidecar is there for it. Else its own address
/// leads where it leads without a mesh: to pods that have none.
fn service(view: Arc<View>, scope: HostScope, port: u16) -> Meant {
    let has_port = port_protocol(&view.service, port).is_some();
    match scope {
        HostScope::ClusterSet if has_port => Meant::Service(view, scope),
        HostScope::ClusterSet => Meant::Nobody,
        HostScope::Cluster => {
            let climbs = view.scope(scope) == HostScope::ClusterSet;
            let somebody = !view.endpoints.local.is_empty() || (climbs && !view.endpoints.remote.is_empty());
            if has_port && somebody { Meant::Service(view, scope) } else { Meant::Outside }
        }
    }
}

/// Whether it is one of the addresses that services have in the set.
fn is_of_set(address: IpAddr) -> bool {
    let (network, length) = plan::SET;
    let shift = u32::BITS - u32::from(length);
    matches!(address, IpAddr::V4(address) if address.to_bits() >> shift == network.to_bits() >> shift)
}

#[cfg(test)]
mod tests {
    use isthmus_core::{
        model::{Endpoint, EndpointState, Endpoints, Group, Resource, Service, TrafficPolicy},
        name::Locality,
        statement::{Port, Protocol},
    };

    use super::*;
    use crate::snapshot::Painter;

    const OWN: &str = "10.96.0.7";
    const POD: &str = "10.244.1.9";

    fn picture(global: bool, clusterset: bool, local: bool, remote: bool) -> Snapshot {
        let name = ServiceName::new("bookinfo", "details").unwrap();
        let service = Service {
            name: name.clone(),
            global,
            clusterset,
            address_index: Some(300),
            set_address: clusterset.then_some([242, 240, 1, 44].into()),
            addresses: vec![OWN.parse().unwrap(), "fd96::7".parse().unwrap()],
            ports: vec![Port { name: "http".into(), port: 80, protocol: Protocol::Http }],
            exported: None,
            routes: vec![],
            subsets: BTreeMap::new(),
            policy: TrafficPolicy::default(),
        };
        let endpoint = Endpoint {
            id: "details-1".parse().unwrap(),
            address: format!("{POD}:15006").parse().unwrap(),
            locality: Locality::default(),
            labels: BTreeMap::new(),
            identity: "spiffe://own.mesh.test/ns/bookinfo/sa/details".parse().unwrap(),
            weight: 1,
            state: EndpointState::Ready,
            targets: BTreeMap::from([(80, 8080)]),
        };
        let (labels, identities) = Default::default();
        let group = Group { zone: "a".into(), labels, identities, usable: 1, total: 1, weight: 1 };
        let local = local.then_some(endpoint).into_iter().collect();
        let remote = remote.then(|| ("west".parse().unwrap(), vec![group])).into_iter().collect();
        let resources = [Resource::Service(service), Resource::Endpoints(Endpoints { service: name, local, remote })];
        let upserts = resources.map(|resource| (resource.key(), 1, resource)).to_vec();
        Painter::new(crate::snapshot::tests::common(), 1).apply(upserts, &[], true)
    }

    fn meant(snapshot: &Snapshot, to: &str) -> String {
        match snapshot.meant(to.parse().unwrap()) {
            Meant::Service(view, scope) => format!("{} {scope:?}", view.service.name),
            Meant::Workload(view, index, port) => format!("{} [{index}] {port}", view.service.name),
            Meant::Nobody => "nobody".into(),
            Meant::Outside => "outside".into(),
        }
    }

    #[test]
    fn services_are_known_by_their_addresses_in_the_cluster_and_in_the_set() {
        let snapshot = picture(false, true, true, false);
        assert_eq!(meant(&snapshot, "10.96.0.7:80"), "bookinfo/details Cluster");
        assert_eq!(meant(&snapshot, "[fd96::7]:80"), "bookinfo/details Cluster");
        assert_eq!(meant(&snapshot, "242.240.1.44:80"), "bookinfo/details ClusterSet");
        assert_eq!(meant(&snapshot, "10.96.0.7:81"), "outside");
        assert_eq!(meant(&snapshot, "242.240.1.44:81"), "nobody");
        assert_eq!(meant(&snapshot, "242.240.1.45:80"), "nobody");
        assert_eq!(meant(&snapshot, "10.96.0.8:80"), "outside");
        assert_eq!(meant(&picture(false, false, true, false), "242.240.1.44:80"), "nobody");
    }

    #[test]
    fn a_service_nobody_is_there_for_with_a_sidecar_leads_where_it_leads_without_a_mesh() {
        assert_eq!(meant(&picture(false, true, false, false), "10.96.0.7:80"), "outside");
        assert_eq!(meant(&picture(false, true, false, true), "10.96.0.7:80"), "outside");
        assert_eq!(meant(&picture(true, true, false, true), "10.96.0.7:80"), "bookinfo/details Cluster");
        assert_eq!(meant(&picture(true, true, false, false), "10.96.0.7:80"), "outside");
    }

    #[test]
    fn a_workload_is_known_by_its_own_address_and_the_port_its_application_has() {
        let snapshot = picture(false, true, true, false);
        assert_eq!(meant(&snapshot, "10.244.1.9:8080"), "bookinfo/details [0] 80");
        assert_eq!(meant(&snapshot, "10.244.1.9:80"), "outside");
        assert_eq!(meant(&picture(false, true, false, false), "10.244.1.9:8080"), "outside");
    }
}
