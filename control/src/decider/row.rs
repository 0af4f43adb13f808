//! A cluster as people see it.

use isthmus_core::{model::RemoteCluster, statement::Content};
use isthmus_wire::feed::PathReport;

use super::{Decider, Observed};
use crate::{
    heard::World,
    view::{ClusterRow, PathRow},
};

/// Why nothing of a cluster can be reached that others cannot dial.
const NO_WAY: &str = "it names no gateway and has dialled none of ours: nothing there can be reached";

impl Decider {
    /// A cluster as people see it.
    #[must_use]
    pub fn row(&self, cluster: &RemoteCluster, world: Option<&World>, now: u64) -> ClusterRow {
        let observed = self.clusters.get(&cluster.name);
        let paths: Vec<_> = observed.map(|observed| observed.path_rows(now)).unwrap_or_default();
        let lease = observed.map(|observed| &observed.lease).filter(|lease| lease.way.is_some());
        let card = world.and_then(|world| world.contents.get(&cluster.name)?.get("card"));
        let zones = match card.map(AsRef::as_ref) {
            Some(Content::Card(card)) => card.zones.clone(),
            _ => vec![],
        };
        ClusterRow {
            name: cluster.name.to_string(),
            own: false,
            region: cluster.region.clone(),
            zones,
            standing: cluster.standing,
            share: cluster.share,
            rtt_us: cluster.rtt_us,
            loss_ppm: paths.iter().map(|path| path.loss_ppm).max().unwrap_or(0),
            transport: paths.first().map(|path| path.transport.clone()).unwrap_or_default(),
            tunnels: paths.iter().map(|path| path.tunnels).sum(),
            lease_age_ms: lease.map(|lease| now.saturating_sub(lease.heard_at)),
            lease_by: lease.and_then(|lease| lease.way).map(|way| way.word().to_owned()).unwrap_or_default(),
            paths,
            why: match observed {
                _ if cluster.gateways.is_empty() && !observed.is_some_and(Observed::has_tunnel) => NO_WAY.into(),
                Some(observed) => observed.judge.decision().why.to_owned(),
                None => String::new(),
            },
            since_seconds: observed.map_or(0, |observed| observed.since_seconds(now)),
            gateways: cluster.gateways.rows(),
            trust_domain: cluster.trust_domain.to_string(),
            bound_by: world.map(|world| world.bound_by(&cluster.name)).unwrap_or_default(),
            requests: observed.map(|observed| observed.evidence.clone()).unwrap_or_default(),
        }
    }
}

impl Observed {
    fn has_tunnel(&self) -> bool {
        self.paths.values().any(|(_, path)| path.tunnels > 0)
    }

    fn path_rows(&self, now: u64) -> Vec<PathRow> {
        let row = |(gateway, (at, path)): (&String, &(u64, PathReport))| PathRow {
            gateway: gateway.clone(),
            state: path.state.clone(),
            rtt_us: path.rtt_us,
            loss_ppm: path.loss_ppm,
            silent_ms: path.silent_ms.saturating_add(now.saturating_sub(*at)),
            tunnels: path.tunnels,
            transport: path.transport.clone(),
        };
        self.paths.iter().map(row).collect()
    }
}
