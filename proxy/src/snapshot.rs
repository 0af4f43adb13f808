//! What requests are decided on: one immutable picture of the model, swapped whole when the feed changes it.
//!
//! What must outlive a picture, such as an endpoint's open requests and its failures, hangs on it by name and is handed
//! from one picture to the next. [`Painter`] makes them, and paints anew only what changed.

mod addresses;
mod paint;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_core::{
    failover::policy::WhenNothingHealthy,
    ladder::{Ladder, Tier},
    model::{Endpoints, Mesh, RemoteCluster, Service},
    name::{ClusterName, HostScope, ServiceName},
    retry::Budget,
};
use parking_lot::Mutex;

pub(crate) use self::{
    addresses::{Addresses, Meant},
    paint::{Painter, Resources},
};
pub(crate) use crate::vital::{Remotes, Vital};
use crate::{passage::Passage, telemetry::Called};

/// Monotonic time of this process, for decisions that take time as an argument.
pub(crate) fn now() -> Duration {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGAN.elapsed()
}

/// A ladder, and by which passage each rung is reached: rungs of one cluster share it.
pub(crate) struct Rungs {
    pub(crate) ladder: Ladder,
    passages: Vec<Arc<Passage>>,
}

impl Rungs {
    pub(crate) fn at(&self, index: usize) -> Option<(&Tier, &Arc<Passage>)> {
        Some((self.ladder.tiers().get(index)?, self.passages.get(index)?))
    }
}

/// The ladders of a service or of a subset of it, by the name it is called by.
pub(crate) struct Ladders {
    set: Rungs,
    own: Rungs,
}

impl Ladders {
    pub(crate) fn of(&self, scope: HostScope) -> &Rungs {
        match scope {
            HostScope::ClusterSet => &self.set,
            HostScope::Cluster => &self.own,
        }
    }
}

/// What control decided of a service, beyond its ladders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) when_nothing_healthy: Option<WhenNothingHealthy>,
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
    /// To every cluster that is on one of its ladders.
    pub(crate) passages: Vec<Arc<Passage>>,
    /// `None`: nothing yet.
    pub(crate) decided: Option<Decided>,
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
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) mesh: Option<Mesh>,
    pub(crate) clusters: BTreeMap<ClusterName, RemoteCluster>,
    pub(crate) views: BTreeMap<ServiceName, Arc<View>>,
    hosts: HashMap<Arc<str>, (Arc<View>, HostScope)>,
    addresses: Arc<Addresses>,
    pub(crate) synced: bool,
    /// Counts what more changed than where requests go: services, endpoints, settings.
    pub(crate) edition: u64,
}

impl Snapshot {
    pub(crate) fn empty() -> Self {
        let (mesh, clusters, views, hosts, addresses) = Default::default();
        Self { mesh, clusters, views, hosts, addresses, synced: false, edition: 0 }
    }

    /// The service that a host name means.
    pub(crate) fn host(&self, host: &str) -> Option<(Arc<View>, HostScope)> {
        let found = self.hosts.get(host).or_else(|| self.hosts.get(&*host.trim_end_matches('.').to_ascii_lowercase()));
        found.map(|(view, scope)| (Arc::clone(view), *scope))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use isthmus_core::name::Locality;
    use isthmus_runtime::config::Common;

    /// Of a sidecar in cluster `own`.
    pub(crate) fn common() -> Common {
        Common {
            mesh: "mesh.test".parse().unwrap(),
            cluster: "own".parse().unwrap(),
            locality: Locality::default(),
            name: "curl".into(),
            address: [127, 0, 0, 1].into(),
            state_dir: "unused".into(),
            enrolment: None,
            admin: None,
            log: None,
        }
    }
}
