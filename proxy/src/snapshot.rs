//! What requests are decided on: one immutable picture of the model, swapped whole when the feed changes it.
//!
//! What must outlive a picture, such as an endpoint's open requests and its failures, hangs on it by name and is handed
//! from one picture to the next.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_core::{
    ladder::{Inputs, Ladder},
    model::{Endpoint, Endpoints, Mesh, RemoteCluster, Resource, Service},
    name::{ClusterName, EndpointId, HostScope, Locality, ServiceName},
    retry::Budget,
};
use parking_lot::Mutex;

use crate::telemetry::Called;
pub(crate) use crate::vital::{Remotes, Vital};

/// Monotonic time of this process, for decisions that take time as an argument.
pub(crate) fn now() -> Duration {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGAN.elapsed()
}

/// The ladders of a service or of a subset of it, by the name it is called by.
pub(crate) struct Ladders {
    set: Ladder,
    own: Ladder,
}

impl Ladders {
    pub(crate) fn of(&self, scope: HostScope) -> &Ladder {
        match scope {
            HostScope::ClusterSet => &self.set,
            HostScope::Cluster => &self.own,
        }
    }
}

/// A service as requests see it.
pub(crate) struct View {
    pub(crate) service: Service,
    pub(crate) endpoints: Endpoints,
    /// As [`Endpoints::local`].
    pub(crate) vitals: Vec<Arc<Vital>>,
    /// Of other clusters' endpoints.
    pub(crate) remotes: Arc<Remotes>,
    pub(crate) budget: Arc<Mutex<Budget>>,
    /// As labels have it.
    pub(crate) called: Arc<Called>,
    whole: Ladders,
    subsets: BTreeMap<String, Ladders>,
}

impl View {
    /// The ladders of a subset; `None`: there is no such subset.
    pub(crate) fn ladders(&self, subset: Option<&str>) -> Option<&Ladders> {
        match subset {
            None => Some(&self.whole),
            Some(subset) => self.subsets.get(subset),
        }
    }

    /// The scope a call by this name has in effect.
    pub(crate) fn scope(&self, called: HostScope) -> HostScope {
        if self.service.global { HostScope::ClusterSet } else { called }
    }
}

/// The picture.
pub(crate) struct Snapshot {
    pub(crate) mesh: Option<Mesh>,
    pub(crate) clusters: BTreeMap<ClusterName, RemoteCluster>,
    pub(crate) views: BTreeMap<ServiceName, Arc<View>>,
    hosts: HashMap<String, (Arc<View>, HostScope)>,
    pub(crate) synced: bool,
}

impl Snapshot {
    pub(crate) fn empty() -> Self {
        Self { mesh: None, clusters: BTreeMap::new(), views: BTreeMap::new(), hosts: HashMap::new(), synced: false }
    }

    /// The service that a host name means.
    pub(crate) fn host(&self, host: &str) -> Option<(Arc<View>, HostScope)> {
        let found = self.hosts.get(host).or_else(|| self.hosts.get(&host.trim_end_matches('.').to_ascii_lowercase()));
        found.map(|(view, scope)| (Arc::clone(view), *scope))
    }
}

/// Makes pictures from resources; keeps what outlives them.
pub(crate) struct Painter {
    own: Locality,
    resources: BTreeMap<String, Resource>,
    vitals: HashMap<(ServiceName, EndpointId), Arc<Vital>>,
    remotes: HashMap<ServiceName, Arc<Remotes>>,
    budgets: HashMap<ServiceName, Arc<Mutex<Budget>>>,
    synced: bool,
}

impl Painter {
    pub(crate) fn new(own: Locality) -> Self {
        let (resources, vitals, remotes, budgets) = Default::default();
        Self { own, resources, vitals, remotes, budgets, synced: false }
    }

    pub(crate) fn apply(
        &mut self,
        upserts: Vec<(String, u64, Resource)>,
        removals: &[String],
        synced: bool,
    ) -> Snapshot {
        for (key, _, resource) in upserts {
            self.resources.insert(key, resource);
        }
        for key in removals {
            self.resources.remove(key);
        }
        self.synced |= synced;
        self.paint()
    }

    pub(crate) fn resources(&self) -> &BTreeMap<String, Resource> {
        &self.resources
    }

    fn paint(&mut self) -> Snapshot {
        let mut snapshot = Snapshot { synced: self.synced, ..Snapshot::empty() };
        let mut services = vec![];
        for resource in self.resources.values() {
            match resource {
                Resource::Mesh(mesh) => snapshot.mesh = Some(mesh.clone()),
                Resource::Cluster(cluster) => {
                    snapshot.clusters.insert(cluster.name.clone(), cluster.clone());
                }
                Resource::Service(service) => services.push(service.clone()),
                _ => {}
            }
        }
        for service in services {
            let view = Arc::new(self.view(service, &snapshot.clusters));
            let name = view.service.name.clone();
            snapshot.hosts.insert(name.cluster_host(), (Arc::clone(&view), HostScope::Cluster));
            if view.service.clusterset {
                snapshot.hosts.insert(name.clusterset_host(), (Arc::clone(&view), HostScope::ClusterSet));
            }
            snapshot.views.insert(name, view);
        }
        let known = |(service, id): &(ServiceName, EndpointId)| {
            snapshot.views.get(service).is_some_and(|view| view.endpoints.local.iter().any(|one| one.id == *id))
        };
        self.vitals.retain(|key, _| known(key));
        self.remotes.retain(|service, _| snapshot.views.contains_key(service));
        self.budgets.retain(|service, _| snapshot.views.contains_key(service));
        snapshot
    }

    fn view(&mut self, service: Service, clusters: &BTreeMap<ClusterName, RemoteCluster>) -> View {
        let name = service.name.clone();
        let endpoints = match self.resources.get(&format!("endpoints/{name}")) {
            Some(Resource::Endpoints(endpoints)) => endpoints.clone(),
            _ => Endpoints { service: name.clone(), local: vec![], remote: BTreeMap::new() },
        };
        let vitals = endpoints.local.iter().map(|one| self.vital(&name, one)).collect();
        let remotes = Arc::clone(self.remotes.entry(name.clone()).or_default());
        let budget = self.budgets.entry(name.clone()).or_insert_with(|| Arc::new(Mutex::new(Budget::new(now()))));
        let budget = Arc::clone(budget);
        let ladders = |labels: &BTreeMap<String, String>| {
            let ladder =
                |remote| Ladder::new(&Inputs { own: &self.own, endpoints: &endpoints, clusters, labels, remote });
            Ladders { set: ladder(true), own: ladder(false) }
        };
        let whole = ladders(&BTreeMap::new());
        let subsets = service.subsets.iter().map(|(name, subset)| (name.clone(), ladders(&subset.labels))).collect();
        let called = Arc::new(Called::service(&name));
        View { service, endpoints, vitals, remotes, budget, called, whole, subsets }
    }

    /// What is known of an endpoint; one that has moved is another one.
    fn vital(&mut self, service: &ServiceName, endpoint: &Endpoint) -> Arc<Vital> {
        let upstream = endpoint.address.to_string();
        let vital = self.vitals.entry((service.clone(), endpoint.id.clone())).or_default();
        if *vital.upstream != *upstream {
            *vital = Arc::new(Vital::new(&upstream));
        }
        Arc::clone(vital)
    }
}
