//! What is known of other clusters, while control itself does not know them yet: a control that begins with nothing and finds no
//! member speaks for its own cluster alone, and what others said before stays as it was.

use super::{Endpoints, Failover, Resource, Service, Trust};
use crate::name::ServiceName;

/// A delta of a control that knows its own cluster only, put in terms of what a receiver has: nothing of it takes away, or decides
/// anew, what `before` has of other clusters.
pub fn keep<'a>(
    before: impl Fn(&str) -> Option<&'a Resource>,
    upserts: Vec<Resource>,
    removals: Vec<String>,
) -> (Vec<Resource>, Vec<String>) {
    let imported = |service: &ServiceName| match before(&format!("endpoints/{service}")) {
        Some(Resource::Endpoints(endpoints)) => !endpoints.remote.is_empty(),
        _ => false,
    };
    let beside = |new: Resource| match before(&new.key()) {
        Some(old) => beside(new, old),
        None => new,
    };
    let mut upserts: Vec<_> = upserts.into_iter().map(beside).collect();
    let mut gone = vec![];
    for key in removals {
        match before(&key) {
            Some(Resource::Trust(_) | Resource::Cluster(_)) => {}
            Some(Resource::Service(Service { name: of, .. }) | Resource::Failover(Failover { service: of, .. }))
                if imported(of) => {}
            Some(Resource::Endpoints(Endpoints { service, remote, .. })) if !remote.is_empty() => {
                let (service, remote) = (service.clone(), remote.clone());
                upserts.push(Resource::Endpoints(Endpoints { service, local: vec![], remote }));
            }
            _ => gone.push(key),
        }
    }
    (upserts, gone)
}

/// What is new of the own cluster, with what was there of the others.
fn beside(new: Resource, old: &Resource) -> Resource {
    match (new, old) {
        (Resource::Trust(new), Resource::Trust(old)) => {
            let mut roots = old.roots.clone();
            roots.extend(new.roots);
            Resource::Trust(Trust { roots })
        }
        (Resource::Endpoints(new), Resource::Endpoints(old)) => {
            Resource::Endpoints(Endpoints { remote: old.remote.clone(), ..new })
        }
        (Resource::Service(mut new), Resource::Service(old)) if old.clusterset => {
            new.clusterset = true;
            new.set_address = new.set_address.or(old.set_address);
            let lacks = |port: u16| new.ports.iter().all(|own| own.port != port);
            let ports: Vec<_> = old.ports.iter().filter(|port| lacks(port.port)).cloned().collect();
            new.ports.extend(ports);
            Resource::Service(new)
        }
        (Resource::Failover(new), Resource::Failover(old)) => {
            let members = |of: &Failover| of.tiers.iter().map(|tier| tier.members.len()).sum::<usize>();
            Resource::Failover(if members(old) > members(&new) { old.clone() } else { new })
        }
        (new, _) => new,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Endpoint, EndpointState, FailoverMember, FailoverTier, Group, RemoteCluster, Standing};

    fn service() -> ServiceName {
        ServiceName::new("shop", "cart").unwrap()
    }

    fn endpoints(local: &[&str], remote: &[&str]) -> Resource {
        let endpoint = |id: &&str| Endpoint {
            id: id.parse().unwrap(),
            address: "10.1.0.1:15006".parse().unwrap(),
            locality: crate::name::Locality::default(),
            labels: BTreeMap::new(),
            identity: "spiffe://east.mesh.test/ns/shop/sa/cart".parse().unwrap(),
            weight: 1,
            state: EndpointState::Ready,
            targets: BTreeMap::new(),
        };
        let group = Group {
            zone: "a".into(),
            labels: BTreeMap::new(),
            identities: ["spiffe://west.mesh.test/ns/shop/sa/cart".parse().unwrap()].into(),
            usable: 2,
            total: 2,
            weight: 2,
        };
        Resource::Endpoints(Endpoints {
            service: service(),
            local: local.iter().map(endpoint).collect(),
            remote: remote.iter().map(|name| (name.parse().unwrap(), vec![group.clone()])).collect(),
        })
    }

    fn failover(clusters: &[&str]) -> Resource {
        let member = |name: &&str| FailoverMember { cluster: name.parse().unwrap(), weight: 1.0, cap: None };
        let members = clusters.iter().map(member).collect();
        let tiers = vec![FailoverTier { name: "first".into(), share: 1.0, members }];
        Resource::Failover(Failover { service: service(), tiers, when_nothing_healthy: None })
    }

    fn cluster() -> Resource {
        let name: crate::name::ClusterName = "west".parse().unwrap();
        Resource::Cluster(RemoteCluster {
            trust_domain: name.trust_domain(&"mesh.test".parse().unwrap()),
            name,
            region: "r".into(),
            gateways: crate::statement::Gateways::default(),
            share: 1.0,
            standing: Standing::Alive,
            rtt_us: 1,
        })
    }

    fn trust(domains: &[(&str, &str)]) -> Resource {
        let roots = domains.iter().map(|(domain, root)| (domain.parse().unwrap(), vec![(*root).to_owned()]));
        Resource::Trust(Trust { roots: roots.collect() })
    }

    fn told(had: &[Resource], upserts: Vec<Resource>, removals: &[&str]) -> (Vec<Resource>, Vec<String>) {
        let had: BTreeMap<_, _> = had.iter().map(|resource| (resource.key(), resource)).collect();
        keep(|key| had.get(key).copied(), upserts, removals.iter().map(|key| (*key).to_owned()).collect())
    }

    #[test]
    fn what_others_have_stays_and_what_is_own_is_new() {
        let had =
            [endpoints(&["a"], &["west"]), failover(&["east", "west"]), trust(&[("east.t", "1"), ("west.t", "2")])];
        let (upserts, removals) =
            told(&had, vec![endpoints(&["b"], &[]), failover(&["east"]), trust(&[("east.t", "3")])], &[]);
        let wanted =
            [endpoints(&["b"], &["west"]), failover(&["east", "west"]), trust(&[("east.t", "3"), ("west.t", "2")])];
        assert_eq!((upserts, removals), (wanted.into(), vec![]));
    }

    #[test]
    fn what_only_others_have_is_not_taken_away() {
        let had = [cluster(), endpoints(&[], &["west"]), failover(&["west"])];
        let (upserts, removals) =
            told(&had, vec![], &["cluster/west", "endpoints/shop/cart", "failover/shop/cart", "node/n1"]);
        assert_eq!((upserts, removals), (vec![endpoints(&[], &["west"])], vec!["node/n1".to_owned()]));
    }

    #[test]
    fn what_was_only_own_goes_when_it_is_gone() {
        let keys = ["endpoints/shop/cart", "failover/shop/cart"];
        let (upserts, removals) = told(&[endpoints(&["a"], &[]), failover(&["east"])], vec![], &keys);
        assert_eq!((upserts, removals), (vec![], keys.map(str::to_owned).into()));
    }

    #[test]
    fn who_has_nothing_takes_what_there_is() {
        let all = vec![endpoints(&["a"], &[]), failover(&["east"]), trust(&[("east.t", "1")])];
        assert_eq!(told(&[], all.clone(), &[]), (all, vec![]));
    }
}
