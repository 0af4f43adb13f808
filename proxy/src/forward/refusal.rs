//! Why a request or a connection goes nowhere, in words.

use isthmus_core::{
    failover::policy::WhenNothingHealthy,
    ladder::{Ladder, Place, Tier},
    name::{ClusterName, HostScope, ServiceName},
};

use super::{Hop, Target};
use crate::snapshot::View;

/// No rung of a ladder has anything to send to.
pub(crate) fn nothing_usable(target: &Target<'_>, ladder: &Ladder) -> String {
    let service = &target.view.service.name;
    if ladder.tiers().is_empty() {
        return nowhere(target.view, target.scope);
    }
    let told = |tier: &Tier| {
        let left = if is_left(tier) { ", left" } else { "" };
        format!("{}: {} of {} endpoints usable{left}", tier.place, tier.usable, tier.total)
    };
    let tiers: Vec<_> = ladder.tiers().iter().map(told).collect();
    let tiers = tiers.join("; ");
    let when = target.view.decided.and_then(|decided| decided.when_nothing_healthy);
    if when == Some(WhenNothingHealthy::Fail) {
        return format!(
            "no endpoint of {service} is healthy ({tiers}), and its failover policy says to fail at once then \
             (whenNothingHealthy: Fail)"
        );
    }
    format!("no endpoint of {service} is usable ({tiers})")
}

/// There are no rungs.
fn nowhere(view: &View, scope: HostScope) -> String {
    let service = &view.service.name;
    let elsewhere: Vec<_> = view.endpoints.remote.keys().map(ClusterName::as_str).collect();
    if elsewhere.is_empty() || scope == HostScope::Cluster {
        return format!("{service} has no endpoints in this cluster or any other that exports it");
    }
    let elsewhere = elsewhere.join(", ");
    match view.decided {
        Some(_) => format!("{service} has endpoints only where its failover policy lets nothing go ({elsewhere})"),
        None => {
            format!("{service} has endpoints only in other clusters ({elsewhere}), and control has not decided on them")
        }
    }
}

/// Limits that kept one request back.
#[derive(Default)]
pub(crate) struct HeldBack(Vec<(ClusterName, f64)>);

impl HeldBack {
    /// The limit of a cluster, requests a second.
    pub(crate) fn by(&mut self, target: &Target<'_>, cluster: &ClusterName, limit: f64) {
        target.steps.add(|| {
            let what = format!("cluster {cluster}");
            Hop::new("limit", what, rate(limit)).failed("it is used up")
        });
        self.0.push((cluster.clone(), limit));
    }

    /// Whether what a limit keeps back must not go to a rung: one that was left, while the first choice was none. It was
    /// left on purpose or does not answer; what is too much elsewhere is refused at once instead.
    pub(crate) fn bars(&self, ladder: &Ladder, chosen: usize, index: usize) -> bool {
        let left = |index: usize| ladder.tiers().get(index).is_some_and(is_left);
        !self.0.is_empty() && left(index) && !left(chosen)
    }

    /// What is said of it when no place is left, with what failed elsewhere; `None`: no limit kept it back.
    pub(crate) fn told(&self, service: &ServiceName, failed: Option<&str>) -> Option<String> {
        let one = |(cluster, limit): &(ClusterName, f64)| format!("the limit of {} to cluster {cluster}", rate(*limit));
        let limits: Vec<_> = self.0.iter().map(one).collect();
        let noun = if limits.len() == 1 { "is" } else { "are" };
        let elsewhere = failed.map_or("no other place may take it".into(), |failed| format!("elsewhere: {failed}"));
        (!limits.is_empty()).then(|| format!("{service}: {} {noun} used up, and {elsewhere}", limits.join(" and ")))
    }
}

/// Whether nothing is to go to a rung though there is somebody: its cluster was left.
pub(crate) fn is_left(tier: &Tier) -> bool {
    tier.share <= 0.0 && (tier.usable > 0 || matches!(tier.place, Place::Remote(_)))
}

/// So many requests a second, as people say it.
pub(crate) fn rate(limit: f64) -> String {
    let scale = if limit < 1.0 { 1000.0 } else { 10.0 };
    let rounded = (limit * scale).round() / scale;
    format!("{rounded} requests a second")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_every_limit_and_what_failed_elsewhere() {
        let service = ServiceName::new("bookinfo", "details").unwrap();
        let mut held_back = HeldBack::default();
        assert_eq!(held_back.told(&service, Some("x")), None);
        held_back.0.push(("west".parse().unwrap(), 50.0));
        assert_eq!(
            held_back.told(&service, None).unwrap(),
            "bookinfo/details: the limit of 50 requests a second to cluster west is used up, and no other place may \
             take it"
        );
        held_back.0.push(("north".parse().unwrap(), 3.25));
        assert_eq!(
            held_back.told(&service, Some("south: no connection")).unwrap(),
            "bookinfo/details: the limit of 50 requests a second to cluster west and the limit of 3.3 requests a second \
             to cluster north are used up, and elsewhere: south: no connection"
        );
    }
}
