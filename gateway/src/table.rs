//! What a gateway runs on: the feed's resources that matter to it, as one snapshot that readers never wait for.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use isthmus_core::{
    model::{Endpoints, RemoteCluster, Resource, Service},
    name::{ClusterName, ServiceName, TrustDomain},
};
use isthmus_runtime::feed::Update;
use tokio::sync::watch;

/// All that is in force.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Remote clusters.
    pub clusters: BTreeMap<ClusterName, Arc<RemoteCluster>>,
    /// Services as clients may call them; `exported` says for whom.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// Their endpoints.
    pub endpoints: BTreeMap<ServiceName, Arc<Endpoints>>,
}

impl Snapshot {
    /// The remote cluster of a trust domain.
    #[must_use]
    pub fn cluster_of(&self, domain: &TrustDomain) -> Option<&Arc<RemoteCluster>> {
        self.clusters.values().find(|cluster| cluster.trust_domain == *domain)
    }
}

/// The snapshot, replaceable. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    snapshot: ArcSwap<Snapshot>,
    changes: watch::Sender<u64>,
    lease: watch::Sender<Bytes>,
}

impl Default for Table {
    fn default() -> Self {
        let (snapshot, changes) = (ArcSwap::from_pointee(Snapshot::default()), watch::Sender::new(0));
        Self(Arc::new(Inner { snapshot, changes, lease: watch::Sender::new(Bytes::new()) }))
    }
}

impl Table {
    /// What is in force now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Wakes at each change of the snapshot.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The own cluster's lease as `SignedStatement` bytes; empty: none yet.
    #[must_use]
    pub fn lease(&self) -> watch::Receiver<Bytes> {
        self.0.lease.subscribe()
    }

    /// Answers an update of the feed once it is in force.
    pub fn take(&self, update: Update) {
        let upserts = update.upserts.into_iter().map(|(_, _, resource)| resource);
        update.ack.refuse(self.apply(upserts, &update.removals));
    }

    /// Brings resources into force, and takes others out of it; what was refused, by key and reason. One writer.
    pub fn apply(&self, upserts: impl IntoIterator<Item = Resource>, removals: &[String]) -> Vec<(String, String)> {
        let mut next = Snapshot::clone(&self.snapshot());
        let (mut changed, mut refused) = (false, Vec::new());
        for resource in upserts {
            match resource {
                Resource::Cluster(cluster) => drop(next.clusters.insert(cluster.name.clone(), Arc::new(cluster))),
                Resource::Service(service) => drop(next.services.insert(service.name.clone(), Arc::new(service))),
                Resource::Endpoints(all) => drop(next.endpoints.insert(all.service.clone(), Arc::new(all))),
                Resource::Lease { ref statement } => {
                    match STANDARD.decode(statement) {
                        Ok(bytes) => drop(self.0.lease.send_replace(bytes.into())),
                        Err(error) => refused.push((resource.key(), format!("not base64: {error}"))),
                    }
                    continue;
                }
                Resource::Mesh(_) | Resource::Trust(_) | Resource::Failover(_) | Resource::Node(_) => continue,
            }
            changed = true;
        }
        for key in removals {
            changed |= remove(&mut next, key);
        }
        if changed {
            self.0.snapshot.store(Arc::new(next));
            self.0.changes.send_modify(|count| *count += 1);
        }
        refused
    }
}

fn remove(snapshot: &mut Snapshot, key: &str) -> bool {
    let Some((kind, name)) = key.split_once('/') else { return false };
    match kind {
        "cluster" => name.parse().is_ok_and(|name: ClusterName| snapshot.clusters.remove(&name).is_some()),
        "service" => name.parse().is_ok_and(|name: ServiceName| snapshot.services.remove(&name).is_some()),
        "endpoints" => name.parse().is_ok_and(|name: ServiceName| snapshot.endpoints.remove(&name).is_some()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use isthmus_core::{model::Standing, statement::Gateways};

    use super::*;

    fn west() -> RemoteCluster {
        RemoteCluster {
            name: "west".parse().unwrap(),
            region: "west".into(),
            trust_domain: "west.mesh.test".parse().unwrap(),
            gateways: Gateways::both(vec!["127.2.3.1:15443".into()]),
            share: 1.0,
            standing: Standing::Alive,
            rtt_us: 0,
        }
    }

    #[test]
    fn resources_come_into_force_by_key_and_go_by_key_and_a_lease_changes_no_snapshot() {
        let table = Table::default();
        let mut changes = table.changes();
        assert!(table.apply([Resource::Cluster(west())], &[]).is_empty());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let domain = "west.mesh.test".parse().unwrap();
        assert_eq!(table.snapshot().cluster_of(&domain).unwrap().name.as_str(), "west");
        assert!(table.apply([Resource::Lease { statement: "AQI=".into() }], &[]).is_empty());
        assert_eq!(&table.lease().borrow()[..], [1, 2]);
        assert_eq!(table.apply([Resource::Lease { statement: "?".into() }], &[]).len(), 1);
        assert!(!changes.has_changed().unwrap());
        table.apply([], &["cluster/west".into(), "nonsense".into()]);
        assert!(table.snapshot().clusters.is_empty());
    }
}
