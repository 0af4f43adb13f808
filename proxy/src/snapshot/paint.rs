//! From resources to pictures. A decision that moves twice a second along a ramp costs the services that it is about, and
//! no other: their views stay as they are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, atomic::AtomicU64},
};

use isthmus_core::{
    ladder::{Inputs, Ladder, Place},
    model::{Endpoint, Endpoints, Failover, RemoteCluster, Resource, Service},
    name::{ClusterName, EndpointId, HostScope, Locality, ServiceName},
    retry::Budget,
};
use isthmus_runtime::config::Common;
use parking_lot::Mutex;

use super::{Addresses, Decided, Ladders, Remotes, Rungs, Snapshot, View, Vital, now};
use crate::{
    passage::{Passage, Passages},
    telemetry::Called,
};

/// Resources by key.
pub(crate) type Resources = BTreeMap<Arc<str>, Arc<Resource>>;

/// Makes pictures from resources; keeps what outlives them.
pub(crate) struct Painter {
    common: Common,
    /// Where the sidecar is: as control says of its node, else as its configuration has it.
    place: Locality,
    workers: usize,
    resources: Resources,
    kept: HashMap<ServiceName, Kept>,
    picture: Snapshot,
}

/// What of a service outlives its views.
struct Kept {
    vitals: HashMap<EndpointId, Arc<Vital>>,
    remotes: Arc<Remotes>,
    budget: Arc<Mutex<Budget>>,
    called: Arc<Called>,
    passages: Passages,
    refused: Arc<AtomicU64>,
}

impl Kept {
    fn of(service: &ServiceName) -> Self {
        let (vitals, remotes, passages, refused) = Default::default();
        let budget = Arc::new(Mutex::new(Budget::new(now())));
        Self { vitals, remotes, budget, called: Arc::new(Called::service(service)), passages, refused }
    }

    /// What is known of an endpoint; one that has moved is another one.
    fn vital(&mut self, endpoint: &Endpoint) -> Arc<Vital> {
        let upstream = endpoint.address.to_string();
        let vital = self.vitals.entry(endpoint.id.clone()).or_default();
        if *vital.upstream != *upstream {
            *vital = Arc::new(Vital::new(&upstream));
        }
        Arc::clone(vital)
    }
}

/// What an update touches.
#[derive(Default)]
struct Touched {
    services: BTreeSet<ServiceName>,
    /// Those that stand otherwise, or elsewhere, than before.
    clusters: BTreeSet<ClusterName>,
    /// Something else than where requests go.
    edition: bool,
    /// Where the sidecar is itself, and so every ladder.
    place: bool,
}

impl Touched {
    fn note(&mut self, was: Option<&Resource>, is: Option<&Resource>) {
        if was == is {
            return;
        }
        let Some(one) = is.or(was) else { return };
        match one {
            Resource::Cluster(cluster) => {
                if rung(was) != rung(is) {
                    self.clusters.insert(cluster.name.clone());
                }
            }
            Resource::Node(_) => self.place = true,
            Resource::Failover(failover) => {
                self.services.insert(failover.service.clone());
            }
            Resource::Endpoints(endpoints) => {
                self.services.insert(endpoints.service.clone());
                self.edition = true;
            }
            Resource::Service(service) => {
                self.services.insert(service.name.clone());
                self.edition = true;
            }
            _ => self.edition = true,
        }
    }
}

/// What of a cluster a rung tells.
fn rung(resource: Option<&Resource>) -> Option<(isthmus_core::model::Standing, u64)> {
    match resource {
        Some(Resource::Cluster(cluster)) => Some((cluster.standing, cluster.rtt_us)),
        _ => None,
    }
}

impl Painter {
    /// Of the sidecar with this name and place.
    pub(crate) fn new(common: Common, workers: usize) -> Self {
        let (resources, kept) = Default::default();
        let place = common.locality.clone();
        Self { common, place, workers, resources, kept, picture: Snapshot::empty() }
    }

    pub(crate) fn apply(
        &mut self,
        upserts: Vec<(String, u64, Resource)>,
        removals: &[String],
        synced: bool,
    ) -> Snapshot {
        let mut touched = Touched::default();
        for (key, _, resource) in upserts {
            let resource = Arc::new(resource);
            let was = self.resources.insert(key.into(), Arc::clone(&resource));
            touched.note(was.as_deref(), Some(&resource));
            self.settle(&resource);
        }
        for key in removals {
            let was = self.resources.remove(key.as_str());
            touched.note(was.as_deref(), None);
            self.unsettle(was.as_deref());
        }
        touched.edition |= synced && !self.picture.synced;
        self.picture.synced |= synced;
        self.picture.edition += u64::from(touched.edition);
        let edition = touched.edition;
        self.paint(touched);
        if edition {
            self.picture.addresses = Arc::new(Addresses::of(&self.picture.views));
        }
        self.picture.clone()
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Takes over what is no service's.
    fn settle(&mut self, resource: &Resource) {
        match resource {
            Resource::Mesh(mesh) => self.picture.mesh = Some(mesh.clone()),
            Resource::Cluster(cluster) => {
                self.picture.clusters.insert(cluster.name.clone(), cluster.clone());
            }
            Resource::Node(node) => self.place = node.locality.clone(),
            _ => {}
        }
    }

    fn unsettle(&mut self, resource: Option<&Resource>) {
        match resource {
            Some(Resource::Mesh(_)) => self.picture.mesh = None,
            Some(Resource::Cluster(cluster)) => drop(self.picture.clusters.remove(&cluster.name)),
            Some(Resource::Node(_)) => self.place = self.common.locality.clone(),
            _ => {}
        }
    }

    fn paint(&mut self, touched: Touched) {
        let Touched { mut services, clusters, place, .. } = touched;
        if place {
            services.extend(self.picture.views.keys().cloned());
        }
        let reaches = |view: &View| view.endpoints.remote.keys().any(|cluster| clusters.contains(cluster));
        if !clusters.is_empty() {
            let reaching = self.picture.views.iter().filter(|(_, view)| reaches(view));
            services.extend(reaching.map(|(name, _)| name.clone()));
        }
        for name in services {
            self.repaint(&name);
        }
    }

    fn repaint(&mut self, name: &ServiceName) {
        self.picture.hosts.remove(&*name.cluster_host());
        self.picture.hosts.remove(&*name.clusterset_host());
        let Some(service) = self.service(name) else {
            self.picture.views.remove(name);
            self.kept.remove(name);
            return;
        };
        let mut kept = self.kept.remove(name).unwrap_or_else(|| Kept::of(name));
        let view = Arc::new(self.view(service, &mut kept));
        self.kept.insert(name.clone(), kept);
        let hosts = &mut self.picture.hosts;
        hosts.insert(name.cluster_host().into(), (Arc::clone(&view), HostScope::Cluster));
        if view.service.clusterset {
            hosts.insert(name.clusterset_host().into(), (Arc::clone(&view), HostScope::ClusterSet));
        }
        self.picture.views.insert(name.clone(), view);
    }

    fn service(&self, name: &ServiceName) -> Option<Service> {
        match self.resources.get(&*format!("service/{name}")).map(Arc::as_ref) {
            Some(Resource::Service(service)) => Some(service.clone()),
            _ => None,
        }
    }

    fn endpoints(&self, name: &ServiceName) -> Endpoints {
        match self.resources.get(&*format!("endpoints/{name}")).map(Arc::as_ref) {
            Some(Resource::Endpoints(endpoints)) => endpoints.clone(),
            _ => Endpoints { service: name.clone(), local: vec![], remote: BTreeMap::new() },
        }
    }

    fn failover(&self, name: &ServiceName) -> Option<&Failover> {
        match self.resources.get(&*format!("failover/{name}")).map(Arc::as_ref) {
            Some(Resource::Failover(failover)) => Some(failover),
            _ => None,
        }
    }

    fn view(&self, service: Service, kept: &mut Kept) -> View {
        let name = &service.name;
        let (endpoints, failover) = (self.endpoints(name), self.failover(name));
        kept.vitals.retain(|id, _| endpoints.local.iter().any(|one| one.id == *id));
        let vitals = endpoints.local.iter().map(|one| kept.vital(one)).collect();
        let clusters = &self.picture.clusters;
        let mut ladders = |labels: &BTreeMap<String, String>| {
            let mut rungs = |remote| {
                let of = Sources { endpoints: &endpoints, failover, clusters, labels, remote };
                self.rungs(&of, &mut kept.passages)
            };
            Ladders { set: rungs(true), own: rungs(false) }
        };
        let whole = ladders(&BTreeMap::new());
        let subsets = service.subsets.iter().map(|(name, subset)| (name.clone(), ladders(&subset.labels))).collect();
        kept.passages.retain(|cluster| whole.set.passages.iter().any(|passage| passage.cluster == *cluster));
        View {
            vitals,
            remotes: Arc::clone(&kept.remotes),
            budget: Arc::clone(&kept.budget),
            called: Arc::clone(&kept.called),
            passages: kept.passages.all(),
            refused: Arc::clone(&kept.refused),
            decided: failover.map(|failover| Decided { when_nothing_healthy: failover.when_nothing_healthy }),
            service,
            endpoints,
            whole,
            subsets,
        }
    }

    fn rungs(&self, of: &Sources<'_>, passages: &mut Passages) -> Rungs {
        let Common { cluster: own, name: client, .. } = &self.common;
        let Sources { endpoints, failover, clusters, labels, remote } = *of;
        let inputs = Inputs { client, cluster: own, own: &self.place, endpoints, failover, clusters, labels, remote };
        let ladder = Ladder::new(&inputs);
        let mut passage = |place: &Place| -> Arc<Passage> {
            match place {
                Place::Remote(cluster) => passages.to(cluster, self.workers),
                _ => passages.to(own, self.workers),
            }
        };
        let passages: Vec<_> = ladder.tiers().iter().map(|tier| passage(&tier.place)).collect();
        for (tier, passage) in ladder.tiers().iter().zip(&passages) {
            passage.limit(now(), tier.limit);
        }
        Rungs { ladder, passages }
    }
}

/// What a ladder of a service is built from.
#[derive(Clone, Copy)]
struct Sources<'a> {
    endpoints: &'a Endpoints,
    failover: Option<&'a Failover>,
    clusters: &'a BTreeMap<ClusterName, RemoteCluster>,
    labels: &'a BTreeMap<String, String>,
    remote: bool,
}

#[cfg(test)]
mod tests;
