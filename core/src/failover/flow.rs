//! What flows where limits hold: an importer's requests go by its parts, and what is beyond the limit of a place goes on
//! to the next one on its ladder, round it once, as sidecars send it ([`crate::ladder::Ladder::fallbacks`]). What finds no
//! place is refused.
//!
//! It is a balance: how a limit is divided among importers ([`cap::divide`]) follows from what comes to the place, and
//! what comes there from how the limits before it are divided. It is found as the mesh finds it, round by round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cap;
use crate::name::ClusterName;

/// Divisions until a balance counts as found; those of a mesh follow each other every few seconds.
const ROUNDS: u32 = 200;

/// A place that an importer's requests may go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// The cluster.
    pub cluster: ClusterName,
    /// The part of all requests that goes there first, 0 to 1.
    pub part: f64,
    /// The most that other clusters together may send there, requests a second.
    pub limit: Option<f64>,
}

/// What one importer sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Requests a second.
    pub rate: f64,
    /// In the order of its ladder.
    pub rungs: Vec<Rung>,
}

/// What becomes of it; requests a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// Served, by cluster.
    pub served: BTreeMap<ClusterName, f64>,
    /// Wanted, by cluster: what comes there, whether it is served there or goes on.
    pub wanted: BTreeMap<ClusterName, f64>,
    /// No place was left for it.
    pub refused: f64,
}

/// What importers want of limited places, a map an importer.
type Wants = Vec<BTreeMap<ClusterName, f64>>;

/// What flows when the limits are divided by what comes. `held`: what importers that are not heard any more wanted last,
/// by place: their parts are kept for them.
#[must_use]
pub fn settle(streams: &[Stream], held: &BTreeMap<ClusterName, Vec<f64>>) -> Vec<Flow> {
    let limits = limits(streams);
    let all = |stream: &Stream| stream.rungs.iter().map(|rung| (rung.cluster.clone(), stream.rate)).collect();
    let mut wants: Wants = streams.iter().map(all).collect();
    let mut flows = vec![];
    for round in 0..ROUNDS {
        let rooms = rooms(streams, &limits, held, &wants);
        flows = streams.iter().zip(&rooms).map(|(stream, room)| flow(stream, room)).collect();
        // Smaller steps with time: importers that give on to each other would swing.
        let step = 1.0 / (1.0 + f64::from(round) / 10.0);
        if !take(&mut wants, &flows, step) {
            break;
        }
    }
    flows
}

/// The limit of each place that has one. Policies of several importers may differ: the least holds for all.
fn limits(streams: &[Stream]) -> BTreeMap<ClusterName, f64> {
    let mut limits = BTreeMap::<ClusterName, f64>::new();
    for rung in streams.iter().flat_map(|stream| &stream.rungs) {
        if let Some(limit) = rung.limit {
            limits.entry(rung.cluster.clone()).and_modify(|least| *least = least.min(limit)).or_insert(limit);
        }
    }
    limits
}

/// Each importer's part of each limit.
fn rooms(
    streams: &[Stream],
    limits: &BTreeMap<ClusterName, f64>,
    held: &BTreeMap<ClusterName, Vec<f64>>,
    wants: &Wants,
) -> Wants {
    let mut rooms = vec![BTreeMap::new(); streams.len()];
    for (cluster, limit) in limits {
        let is_limited = |rung: &Rung| rung.cluster == *cluster && rung.limit.is_some();
        let bound =
            streams.iter().zip(wants).enumerate().filter(|(_, (stream, _))| stream.rungs.iter().any(is_limited));
        let mut demands: BTreeMap<usize, f64> =
            bound.map(|(index, (_, wants))| (index, wants.get(cluster).copied().unwrap_or_default())).collect();
        let absent = held.get(cluster).into_iter().flatten();
        demands.extend((streams.len()..).zip(absent.copied()));
        for (index, part) in cap::divide(*limit, &demands) {
            if let Some(room) = rooms.get_mut(index) {
                room.insert(cluster.clone(), part);
            }
        }
    }
    rooms
}

/// Moves what is wanted towards what came; whether it moved at all.
fn take(wants: &mut Wants, flows: &[Flow], step: f64) -> bool {
    let mut moved = false;
    for (wants, flow) in wants.iter_mut().zip(flows) {
        for (cluster, came) in &flow.wanted {
            let want = wants.entry(cluster.clone()).or_default();
            moved |= (*came - *want).abs() > 1e-9;
            *want += (*came - *want) * step;
        }
    }
    moved
}

/// One importer's requests, where it has so much room at limited places.
#[must_use]
pub fn flow(stream: &Stream, room: &BTreeMap<ClusterName, f64>) -> Flow {
    let mut flow = Flow { refused: stream.rate, ..Flow::default() };
    if !stream.rungs.iter().any(|rung| rung.part > 0.0) {
        return flow;
    }
    let mut on = 0.0;
    // What comes round a second time was kept back by all places before.
    for (index, rung) in stream.rungs.iter().chain(&stream.rungs).enumerate() {
        let first = if index < stream.rungs.len() { stream.rate * rung.part } else { 0.0 };
        let came = on + first;
        let served = flow.served.entry(rung.cluster.clone()).or_default();
        let fits = room.get(&rung.cluster).map_or(came, |room| came.min((room - *served).max(0.0)));
        *served += fits;
        let wanted = flow.wanted.entry(rung.cluster.clone()).or_default();
        *wanted = (*wanted + came).min(stream.rate);
        on = came - fits;
    }
    flow.refused = on;
    flow
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    fn rung(cluster: &str, part: f64, limit: Option<f64>) -> Rung {
        Rung { cluster: name(cluster), part, limit }
    }

    fn served(flow: &Flow) -> Vec<(&str, f64)> {
        flow.served.iter().map(|(cluster, rate)| (cluster.as_str(), (rate * 1e3).round() / 1e3)).collect()
    }

    #[test]
    fn what_is_beyond_a_limit_goes_on_tier_by_tier_and_only_the_rest_is_refused() {
        let rungs = vec![rung("b", 1.0, Some(1.0)), rung("c", 0.0, Some(4.0)), rung("d", 0.0, None)];
        let flows = settle(&[Stream { rate: 7.0, rungs: rungs.clone() }], &BTreeMap::new());
        assert_eq!((served(&flows[0]), flows[0].refused), (vec![("b", 1.0), ("c", 4.0), ("d", 2.0)], 0.0));
        let flows = settle(&[Stream { rate: 7.0, rungs: rungs[..2].to_vec() }], &BTreeMap::new());
        assert_eq!((served(&flows[0]), flows[0].refused), (vec![("b", 1.0), ("c", 4.0)], 2.0));
        let none = flow(&Stream { rate: 7.0, rungs: vec![] }, &BTreeMap::new());
        assert_eq!((none.served.len(), none.refused), (0, 7.0));
    }

    #[test]
    fn what_the_last_place_keeps_back_goes_to_those_before_it() {
        let rungs = vec![rung("a", 0.5, Some(9.0)), rung("b", 0.5, Some(2.0))];
        let flows = settle(&[Stream { rate: 10.0, rungs }], &BTreeMap::new());
        assert_eq!((served(&flows[0]), flows[0].refused), (vec![("a", 8.0), ("b", 2.0)], 0.0));
    }

    #[test]
    fn importers_share_a_limit_by_what_comes_and_who_is_not_heard_keeps_its_part() {
        let stream = |rate| Stream { rate, rungs: vec![rung("b", 1.0, Some(9.0)), rung("c", 0.0, None)] };
        let streams = [stream(2.0), stream(20.0)];
        let flows = settle(&streams, &BTreeMap::new());
        assert_eq!(
            (served(&flows[0]), served(&flows[1])),
            (vec![("b", 2.0), ("c", 0.0)], vec![("b", 7.0), ("c", 13.0)])
        );
        let flows = settle(&streams, &[(name("b"), vec![3.0])].into());
        assert_eq!(served(&flows[1]), [("b", 4.0), ("c", 16.0)]);
    }

    #[test]
    fn own_clients_are_beyond_no_limit() {
        let own = Stream { rate: 50.0, rungs: vec![rung("b", 1.0, None)] };
        let other = Stream { rate: 5.0, rungs: vec![rung("b", 1.0, Some(1.0))] };
        let flows = settle(&[own, other], &BTreeMap::new());
        assert_eq!(
            (served(&flows[0]), served(&flows[1]), flows[1].refused),
            (vec![("b", 50.0)], vec![("b", 1.0)], 4.0)
        );
    }

    /// Importers whose ladders have the same places in orders of their own, some of them limited.
    fn streams() -> impl Strategy<Value = (Vec<Stream>, Vec<Option<f64>>)> {
        let limits = proptest::collection::vec(proptest::option::of(0.0f64..50.0), 1..5);
        let one = (0.0f64..100.0, any::<u64>(), proptest::collection::vec(0u32..4, 5));
        (limits, proptest::collection::vec(one, 1..4)).prop_map(|(limits, ones)| {
            let stream = |(rate, order, weights): (f64, u64, Vec<u32>)| {
                let mut places: Vec<usize> = (0..limits.len()).collect();
                fastrand::Rng::with_seed(order).shuffle(&mut places);
                let sum: u32 = weights.iter().take(places.len()).sum();
                let part = |nth: usize| {
                    if sum == 0 { f64::from(u8::from(nth == 0)) } else { f64::from(weights[nth]) / f64::from(sum) }
                };
                let rungs =
                    places.iter().enumerate().map(|(nth, place)| rung(&format!("c{place}"), part(nth), limits[*place]));
                Stream { rate, rungs: rungs.collect() }
            };
            (ones.into_iter().map(stream).collect(), limits.clone())
        })
    }

    proptest! {
        #[test]
        fn what_comes_is_served_or_refused_within_every_limit_and_refused_only_when_no_place_is_left(
            (streams, limits) in streams(),
        ) {
            let flows = settle(&streams, &BTreeMap::new());
            for (stream, flow) in streams.iter().zip(&flows) {
                let served: f64 = flow.served.values().sum();
                prop_assert!((served + flow.refused - stream.rate).abs() < 1e-6, "{flow:?} of {stream:?}");
                prop_assert!(flow.refused >= 0.0 && flow.served.values().all(|served| *served >= 0.0));
            }
            for (place, limit) in limits.iter().enumerate() {
                let Some(limit) = limit else { continue };
                let served: f64 = flows.iter().filter_map(|flow| flow.served.get(&name(&format!("c{place}")))).sum();
                prop_assert!(served <= limit + 1e-6, "{served} at c{place}, {flows:?}");
                let refused: f64 = flows.iter().map(|flow| flow.refused).sum();
                prop_assert!(refused < 0.05 || served > limit - 0.05, "{refused} refused, room at c{place}: {flows:?}");
            }
            let refused: f64 = flows.iter().map(|flow| flow.refused).sum();
            prop_assert!(refused < 0.05 || limits.iter().all(Option::is_some), "{flows:?}");
        }
    }
}
