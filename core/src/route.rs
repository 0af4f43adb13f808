//! Which route a request takes, and which destination of it: first match wins, as in Istio's VirtualService.

use crate::model::{HttpMatch, HttpRoute, StringMatch, WeightedDestination};

/// What routes look at.
pub struct Asked<'a, H> {
    /// The path without the query.
    pub path: &'a str,
    /// The method.
    pub method: &'a str,
    /// The port the client called.
    pub port: u16,
    /// A header's value by its lower-case name.
    pub header: H,
}

/// The first route that matches; `None`: no route does (of a service without routes: every request goes straight).
pub fn find<'r, 'a, H>(routes: &'r [HttpRoute], asked: &Asked<'a, H>) -> Option<&'r HttpRoute>
where
    H: Fn(&str) -> Option<&'a str>,
{
    routes.iter().find(|route| route.matches.is_empty() || route.matches.iter().any(|rule| matches(rule, asked)))
}

fn matches<'a, H: Fn(&str) -> Option<&'a str>>(rule: &HttpMatch, asked: &Asked<'a, H>) -> bool {
    rule.port.is_none_or(|port| port == asked.port)
        && rule.uri.as_ref().is_none_or(|uri| uri.takes(asked.path))
        && rule.method.as_ref().is_none_or(|method| method.takes(asked.method))
        && rule.headers.iter().all(|(name, value)| (asked.header)(name).is_some_and(|has| value.takes(has)))
}

impl StringMatch {
    /// Whether `text` is what is asked for.
    #[must_use]
    pub fn takes(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}

/// One of a route's destinations by weight. Where all weights are 0 the first is taken.
#[must_use]
pub fn destination(route: &HttpRoute, random: u64) -> Option<&WeightedDestination> {
    if let [only] = route.destinations.as_slice() {
        return Some(only);
    }
    let total: u64 = route.destinations.iter().map(|destination| u64::from(destination.weight)).sum();
    let mut left = ((random >> 32) * total) >> 32;
    for destination in &route.destinations {
        let weight = u64::from(destination.weight);
        if left < weight {
            return Some(destination);
        }
        left -= weight;
    }
    route.destinations.first()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Retries, name::ServiceName};

    fn to(subset: &str, weight: u32) -> WeightedDestination {
        let service = ServiceName::new("bookinfo", "reviews").unwrap();
        WeightedDestination { service, subset: Some(subset.into()), port: None, weight }
    }

    fn route(name: &str, matches: Vec<HttpMatch>, destinations: Vec<WeightedDestination>) -> HttpRoute {
        HttpRoute { name: name.into(), matches, destinations, timeout: None, retries: Retries::default() }
    }

    #[test]
    fn the_first_route_that_matches_wins() {
        let jason = HttpMatch {
            headers: [("end-user".to_owned(), StringMatch::Exact("jason".into()))].into(),
            uri: Some(StringMatch::Prefix("/reviews".into())),
            ..HttpMatch::default()
        };
        let routes = [route("jason", vec![jason], vec![to("v2", 1)]), route("rest", vec![], vec![to("v1", 1)])];
        let found = |path: &str, user: Option<&'static str>| {
            let header = |name: &str| user.filter(|_| name == "end-user");
            find(&routes, &Asked { path, method: "GET", port: 9080, header }).unwrap().name.clone()
        };
        assert_eq!(found("/reviews/0", Some("jason")), "jason");
        assert_eq!(found("/reviews/0", Some("jane")), "rest");
        assert_eq!(found("/other", Some("jason")), "rest");
    }

    #[test]
    fn destinations_get_their_weights() {
        let split = route("split", vec![], vec![to("v1", 90), to("v2", 10), to("v3", 0)]);
        let mut random = fastrand::Rng::with_seed(3);
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..10_000 {
            *counts.entry(destination(&split, random.u64(..)).unwrap().subset.clone().unwrap()).or_default() += 1;
        }
        assert!((850..1150).contains(&counts["v2"]), "{counts:?}");
        assert!(!counts.contains_key("v3"));
    }
}
