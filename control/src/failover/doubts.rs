//! What a verb will not do, though it is no nonsense: told to who does it, so that nobody waits for it.

use std::collections::BTreeMap;

use isthmus_core::{
    compile::Ordered,
    failover::{order::Member, verb::Deed},
    name::{ClusterName, ServiceName},
};

use super::{
    steersman::Steersman,
    traffic::{Now, Stranded},
};
use crate::decider::Decider;

/// Services that are named.
const NAMED: usize = 3;

/// All of it, a sentence each.
#[must_use]
pub fn of(
    deed: &Deed,
    steersman: &Steersman,
    orders: &BTreeMap<ServiceName, Ordered>,
    decider: &Decider,
) -> Vec<String> {
    let cluster = deed.cluster();
    let mut doubts = vec![];
    doubts.extend(left(deed, decider));
    doubts.extend(deed.service().and_then(|service| offers(deed, service, orders.get(service)?)));
    if doubts.is_empty() && !matches!(deed, Deed::Pin { .. }) {
        let traffic = Now { steersman, orders, now: std::time::Duration::ZERO };
        doubts.extend(stranded(deed, cluster, &traffic));
    }
    doubts
}

/// The cluster takes nothing already.
fn left(deed: &Deed, decider: &Decider) -> Option<String> {
    let cluster = deed.cluster();
    let (.., why) = decider.sight(cluster).filter(|(left, ..)| *left)?;
    let then = match deed {
        Deed::Drill { .. } => "this drill shows nothing",
        Deed::Pin { .. } => "the pin moves nothing until it is back",
        Deed::Drain { .. } | Deed::Evacuate { .. } => "nothing moves now, and nothing goes there when it is back",
    };
    Some(format!("{cluster} is left already ({why}): {then}"))
}

/// The cluster has nothing of the service.
fn offers(deed: &Deed, service: &ServiceName, ordered: &Ordered) -> Option<String> {
    let cluster = deed.cluster();
    let is_of = |one: &&Member| one.cluster == *cluster;
    let offer = ordered.order.tiers.iter().flat_map(|tier| &tier.members).find(is_of);
    let is_pin = matches!(deed, Deed::Pin { .. });
    let why = match (offer, ordered.order.excluded.get(cluster)) {
        (Some(member), _) if member.healthy > 0 || !is_pin => return None,
        (Some(_), _) => format!("none of its endpoints in {cluster} is healthy"),
        (None, Some(why)) => format!("{cluster} is not used for it ({why})"),
        (None, None) => format!("{cluster} does not offer it"),
    };
    let then = if is_pin {
        "its requests go where they go without the pin, until that is otherwise"
    } else {
        "nothing of it goes there"
    };
    Some(format!("{service}: {why}: {then}"))
}

/// Nothing else can serve what the cluster serves.
fn stranded(deed: &Deed, cluster: &ClusterName, traffic: &Now<'_>) -> Vec<String> {
    let uses = |service: &&ServiceName| {
        let place =
            |one: &isthmus_core::failover::steering::Steered| one.member.cluster == *cluster && one.member.healthy > 0;
        deed.is_about(service) && traffic.steersman.tiers(service).iter().flat_map(|tier| &tier.members).any(place)
    };
    let (mut stay, mut refused) = (vec![], vec![]);
    for service in traffic.orders.keys().filter(uses) {
        match traffic.strands(service, &[cluster.clone()].into()) {
            Some(Stranded::Stays) => stay.push(service.to_string()),
            Some(Stranded::Refused) => refused.push(service.to_string()),
            None => {}
        }
    }
    let then = match deed {
        Deed::Drill { .. } => "the drill is given up because of that (whenNothingHealthy: Fail)",
        _ => "its requests are refused then (whenNothingHealthy: Fail)",
    };
    let told = |of: Vec<String>, then: &str| {
        (!of.is_empty()).then(|| format!("nothing but {cluster} can serve {}: {then}", named(&of)))
    };
    told(stay, "its requests stay there").into_iter().chain(told(refused, then)).collect()
}

fn named(services: &[String]) -> String {
    let first = services.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match services.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isthmus_core::failover::policy::WhenNothingHealthy;

    use super::*;
    use crate::failover::traffic::tests::{cart, decider, name, orders, steered};

    #[test]
    fn what_a_verb_will_not_do_is_told_with_why() {
        let over = Duration::ZERO;
        let drain = |cluster| Deed::Drain { cluster: name(cluster), over };
        let evacuate = |cluster| Deed::Evacuate { service: cart(), cluster: name(cluster), over };
        let pin = |cluster| Deed::Pin { service: cart(), cluster: name(cluster) };
        let drill = |cluster| Deed::Drill { cluster: name(cluster) };
        let fail = Some(WhenNothingHealthy::Fail);
        for (deed, orders, told) in [
            (drain("eu"), orders(2, 2, fail), ""),
            (pin("us"), orders(2, 2, fail), ""),
            (drain("eu"), orders(2, 0, None), "nothing but eu can serve shop/cart: its requests stay there"),
            (evacuate("eu"), orders(2, 0, fail), "nothing but eu can serve shop/cart: its requests are refused then"),
            (drill("eu"), orders(2, 0, fail), "nothing but eu can serve shop/cart: the drill is given up"),
            (evacuate("ap"), orders(2, 2, fail), "shop/cart: ap does not offer it: nothing of it goes there"),
            (pin("ap"), orders(2, 2, fail), "shop/cart: ap does not offer it: its requests go where they go"),
            (pin("us"), orders(2, 0, fail), "shop/cart: none of its endpoints in us is healthy: its requests go"),
        ] {
            let doubts = of(&deed, &steered(&orders), &orders, &decider()).join("; ");
            assert!(doubts.starts_with(told) && doubts.is_empty() == told.is_empty(), "{deed}: {doubts}");
        }
    }
}
