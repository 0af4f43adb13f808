//! What requests are decided on: one immutable picture of the model, swapped whole when the feed changes it.
//!
//! What must outlive a picture, such as an endpoint's open requests and its failures, hangs on it by name and is handed
//! from one picture to the next.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use isthmus_core::{
    ladder::{Inputs, Ladder},
    model::{Endpoints, Mesh, Outlier, RemoteCluster, Resource, Service},
    name::{ClusterName, EndpointId, HostScope, Locality, ServiceName},
    outlier::{self, Showed},
    retry::Budget,
};
use parking_lot::Mutex;

/// Monotonic time of this process, for decisions that take time as an argument.
pub(crate) fn now() -> Duration {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGAN.elapsed()
}

/// What the whole process knows of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Vital {
    open: AtomicU32,
    record: Mutex<outlier::Record>,
}

/// Counts a request as open until it is dropped.
pub(crate) struct Open(Arc<Vital>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Vital {
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.record.lock().is_ejected(now())
    }

    pub(crate) fn observe(&self, showed: Showed, policy: &Outlier, may_eject: bool) -> bool {
        self.record.lock().observe(showed, now(), policy, may_eject)
    }
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
    pub(crate) budget: Arc<Mutex<Budget>>,
    pub(crate) host: Arc<str>,
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
    budgets: HashMap<ServiceName, Arc<Mutex<Budget>>>,
    synced: bool,
}

impl Painter {
    pub(crate) fn new(own: Locality) -> Self {
        let (resources, vitals, budgets) = Default::default();
        Self { own, resources, vitals, budgets, synced: false }
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
        snapshot
    }

    fn view(&mut self, service: Service, clusters: &BTreeMap<ClusterName, RemoteCluster>) -> View {
        let name = service.name.clone();
        let endpoints = match self.resources.get(&format!("endpoints/{name}")) {
            Some(Resource::Endpoints(endpoints)) => endpoints.clone(),
            _ => Endpoints { service: name.clone(), local: vec![], remote: BTreeMap::new() },
        };
        let vitals = endpoints
            .local
            .iter()
            .map(|one| Arc::clone(self.vitals.entry((name.clone(), one.id.clone())).or_default()));
        let vitals = vitals.collect();
        let budget = self.budgets.entry(name.clone()).or_insert_with(|| Arc::new(Mutex::new(Budget::new(now()))));
        let budget = Arc::clone(budget);
        let ladders = |labels: &BTreeMap<String, String>| {
            let ladder =
                |remote| Ladder::new(&Inputs { own: &self.own, endpoints: &endpoints, clusters, labels, remote });
            Ladders { set: ladder(true), own: ladder(false) }
        };
        let whole = ladders(&BTreeMap::new());
        let subsets = service.subsets.iter().map(|(name, subset)| (name.clone(), ladders(&subset.labels))).collect();
        let host = name.clusterset_host().into();
        View { service, endpoints, vitals, budget, host, whole, subsets }
    }
}
