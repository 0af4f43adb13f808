//! Drills stop by themselves: each cluster gives one up for itself when more requests to some service fail than before, or a
//! service has nowhere to go. Nobody else has to watch.

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{
    failover::{
        drill::{self, Shown},
        verb::Deed,
    },
    name::{ClusterName, ServiceName},
};
use serde::{Deserialize, Serialize};

use super::{Counted, Seen, Verbs, tell, telling::Tale};
use crate::failover::history::History;

/// How it was with a service before a drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Baseline {
    /// What its requests showed.
    pub shown: Shown,
    /// Whether they had somewhere to go.
    pub placed: bool,
}

/// By service.
pub type Baselines = BTreeMap<ServiceName, Baseline>;

/// How requests go.
pub trait Traffic {
    /// As it is now, for drills that begin.
    fn before(&self) -> Baselines;

    /// Services that were decided.
    fn services(&self) -> Vec<ServiceName>;

    /// What requests to a service showed, so far back as each of [`drill::WINDOWS`], and of nothing before this moment.
    fn shown(&self, service: &ServiceName, since: Duration) -> Vec<Shown>;

    /// Whether a service has somewhere to go.
    fn is_placed(&self, service: &ServiceName) -> bool;

    /// Whether a service that has somewhere to go would have nowhere without a cluster.
    fn needs(&self, service: &ServiceName, cluster: &ClusterName) -> bool;
}

impl Verbs {
    /// Gives up the drills that must stop; whether there were any.
    pub(super) fn judge_drills(&mut self, seen: &Seen<'_>, history: &mut History) -> bool {
        let mut stopped = vec![];
        for (key, one) in &self.counted {
            let Deed::Drill { cluster } = &one.verb.deed else { continue };
            let runs = one.binds
                && !self.kept.given_up.contains_key(key)
                && !self.kept.over.contains(key)
                && one.elapsed(seen.at.now) < one.verb.lasts;
            let none = Baselines::new();
            let before = self.kept.before.get(key).unwrap_or(&none);
            if let Some(why) = runs.then(|| why(seen.traffic, cluster, one, before)).flatten() {
                history.add(tell(one, &Tale::GivenUp(&why), seen.at.unix_ms));
                stopped.push((key.clone(), why));
            }
        }
        let any = !stopped.is_empty();
        self.kept.given_up.extend(stopped);
        any
    }
}

/// Why a drill must stop, by the first service that says so.
fn why(traffic: &dyn Traffic, cluster: &ClusterName, drill: &Counted, before: &Baselines) -> Option<String> {
    // What failed in the second in which it began may have failed before.
    let since = drill.since + Duration::from_secs(1);
    traffic.services().into_iter().find_map(|service| {
        let was = before.get(&service).copied().unwrap_or_default();
        if traffic.needs(&service, cluster) {
            return Some(format!("{service} would have nowhere to go, because nothing but {cluster} can serve it"));
        }
        if was.placed && !traffic.is_placed(&service) {
            return Some(format!("{service} has nowhere to go"));
        }
        let stops = drill::stops(&was.shown, traffic.shown(&service, since))?;
        Some(format!("{service}: {stops}"))
    })
}
