//! Which endpoint a stream goes to. Chance is an argument.
//!
//! Usable ones that carry the labels and offer the port, and where it is asked for, after them those that are not ready; the one that
//! is named, when one is; those to avoid only when nothing else will do; the same for the same affinity (rendezvous); else the one with the fewest open connections,
//! ties at random.

use std::collections::BTreeMap;

use isthmus_core::{
    model::{Endpoint, EndpointState},
    name::EndpointId,
};

/// What a header asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Port of the service; 0: any.
    pub port: u16,
    /// Labels it must carry.
    pub labels: BTreeMap<String, String>,
    /// This one, whatever its load; empty: any.
    pub endpoint_id: String,
    /// Only when nothing else will do.
    pub avoid: Vec<String>,
    /// Same hash, same endpoint, when not 0.
    pub affinity: u64,
    /// Those that are not ready too, when no other will do.
    pub unready_too: bool,
}

/// The endpoints to try, best first; empty: there is none.
#[must_use]
pub fn order<'a>(
    endpoints: &'a [Endpoint],
    wish: &Wish,
    open: impl Fn(&EndpointId) -> usize,
    mut chance: impl FnMut() -> u32,
) -> Vec<&'a Endpoint> {
    let fits = |endpoint: &&Endpoint| fits(endpoint, wish);
    let mut keyed: Vec<_> = endpoints
        .iter()
        .filter(fits)
        .map(|endpoint| {
            let avoided = wish.avoid.iter().any(|id| id == endpoint.id.as_str());
            let unsure = endpoint.state != EndpointState::Ready;
            let place = match wish.affinity {
                0 => (0, open(&endpoint.id)),
                hash => (u64::MAX - rendezvous(hash, endpoint.id.as_str()), 0),
            };
            ((!endpoint.state.is_usable(), avoided, unsure, place, chance()), endpoint)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, endpoint)| endpoint).collect()
}

fn fits(endpoint: &Endpoint, wish: &Wish) -> bool {
    (endpoint.state.is_usable() || wish.unready_too && endpoint.state == EndpointState::Unready)
        && (wish.endpoint_id.is_empty() || wish.endpoint_id == endpoint.id.as_str())
        && (wish.port == 0 || endpoint.targets.is_empty() || endpoint.targets.contains_key(&wish.port))
        && wish.labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value))
}

/// Highest random weight (Thaler and Ravishankar, 1998): an endpoint that comes or goes moves only its own share.
fn rendezvous(hash: u64, id: &str) -> u64 {
    let seed =
        id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut mixed = seed ^ hash;
    for factor in [0xff51_afd7_ed55_8ccdu64, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(id: &str, state: EndpointState, version: &str) -> Endpoint {
        Endpoint {
            id: id.parse().unwrap(),
            address: "127.0.0.1:15006".parse().unwrap(),
            locality: Default::default(),
            labels: [("version".to_owned(), version.to_owned())].into(),
            identity: "spiffe://west.mesh.test/ns/a/sa/b".parse().unwrap(),
            weight: 1,
            state,
            targets: [(80, 9080)].into(),
        }
    }

    fn all() -> Vec<Endpoint> {
        vec![
            endpoint("a", EndpointState::Ready, "v1"),
            endpoint("b", EndpointState::Ready, "v2"),
            endpoint("c", EndpointState::Unknown, "v1"),
            endpoint("d", EndpointState::Draining, "v1"),
        ]
    }

    fn ids(wish: &Wish, open: impl Fn(&EndpointId) -> usize) -> Vec<String> {
        let endpoints = all();
        order(&endpoints, wish, open, || 0).iter().map(|endpoint| endpoint.id.to_string()).collect()
    }

    #[test]
    fn the_least_loaded_usable_endpoint_is_first_and_avoided_ones_are_last() {
        let load = |id: &EndpointId| if id.as_str() == "a" { 3 } else { 1 };
        assert_eq!(ids(&Wish::default(), load), ["b", "a", "c"]);
        assert_eq!(ids(&Wish { avoid: vec!["b".into()], ..Wish::default() }, load), ["a", "c", "b"]);
        let labels = [("version".to_owned(), "v1".to_owned())].into();
        assert_eq!(ids(&Wish { labels, ..Wish::default() }, load), ["a", "c"]);
        assert_eq!(ids(&Wish { endpoint_id: "a".into(), ..Wish::default() }, load), ["a"]);
        assert!(ids(&Wish { endpoint_id: "d".into(), ..Wish::default() }, load).is_empty());
        assert!(ids(&Wish { port: 81, ..Wish::default() }, load).is_empty());
    }

    #[test]
    fn what_is_not_ready_is_tried_where_that_is_asked_for_and_last() {
        let endpoints: Vec<_> = ["a", "b", "c", "d"]
            .into_iter()
            .zip([EndpointState::Unready, EndpointState::Unknown, EndpointState::Draining, EndpointState::Ready])
            .map(|(id, state)| endpoint(id, state, "v1"))
            .collect();
        let ids = |wish: &Wish| -> Vec<String> {
            order(&endpoints, wish, |_| 0, || 0).iter().map(|endpoint| endpoint.id.to_string()).collect()
        };
        assert_eq!(ids(&Wish::default()), ["d", "b"]);
        let all = Wish { unready_too: true, ..Wish::default() };
        assert_eq!(ids(&all), ["d", "b", "a"], "what leaves on purpose is left alone");
        let avoided = Wish { avoid: vec!["b".into(), "d".into()], ..all };
        assert_eq!(ids(&avoided), ["d", "b", "a"], "a doubt is less than what an endpoint says of itself");
    }

    #[test]
    fn an_affinity_keeps_its_endpoint_whatever_the_load_and_spreads_over_all() {
        let mut first = BTreeMap::<String, u32>::new();
        for affinity in 1..200u64 {
            let wish = Wish { affinity, ..Wish::default() };
            let calm = ids(&wish, |_| 0);
            assert_eq!(calm, ids(&wish, |id| usize::from(id.as_str() == calm[0]) * 9));
            *first.entry(calm[0].clone()).or_default() += 1;
        }
        assert!(first["a"] > 50 && first["b"] > 50, "{first:?}");
    }
}
