//! A cluster as people see it.

use std::time::Duration;

use isthmus_core::{
    model::{RemoteCluster, Standing},
    name::ClusterName,
    statement::Card,
};
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
        let card = world.and_then(|world| world.contents.get(&cluster.name)?.get("card")?.card());
        ClusterRow {
            name: cluster.name.to_string(),
            own: false,
            region: cluster.region.clone(),
            zones: card.map(|card| card.zones.clone()).unwrap_or_default(),
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
                Some(observed) => observed.explained(observed.judge.decision().why, now),
                None => String::new(),
            },
            since_seconds: observed.map_or(0, |observed| observed.since_seconds(now)),
            gateways: cluster.gateways.rows(),
            trust_domain: cluster.trust_domain.to_string(),
            release: card.and_then(Card::release).unwrap_or_default().to_owned(),
            bound_by: world.map(|world| world.bound_by(&cluster.name)).unwrap_or_default(),
            requests: observed.map(|observed| observed.evidence.clone()).unwrap_or_default(),
        }
    }

    /// Why something is as it is, with the path's trouble beside it where that is how the cluster stands.
    #[must_use]
    pub fn explained(&self, cluster: &ClusterName, why: &str, now: Duration) -> String {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.clusters.get(cluster).map_or_else(|| why.to_owned(), |observed| observed.explained(why, now))
    }
}

impl Observed {
    fn explained(&self, why: &str, now: u64) -> String {
        let decision = self.judge.decision();
        // Of a cluster that is in use the path was up a moment ago, and that is what is said of it.
        let is_away = matches!(decision.standing, Standing::Dead | Standing::CutOff | Standing::Unknown);
        match self.trouble(now).filter(|_| is_away && why.ends_with(decision.why)) {
            Some(trouble) => format!("{why} ({trouble})"),
            None => why.to_owned(),
        }
    }

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
            why: path.why.clone(),
        };
        self.paths.iter().map(row).collect()
    }
}
