//! What of a compilation other clusters, and this one, offer to this one: what ServiceImports say.

use std::{collections::BTreeMap, sync::Arc};

use isthmus_core::{
    model::{Endpoints, Resource, Service},
    name::{ClusterName, ServiceName},
    statement::Protocol,
};
use isthmus_kubernetes::imports::Import;
use tokio::sync::watch;

use crate::compiler::Compiled;

/// Follows compilations of all that there is; before the first of them nothing is known of imports.
pub(super) async fn follow(
    own: ClusterName,
    mut compiled: watch::Receiver<Option<Arc<Compiled>>>,
    say: watch::Sender<Option<Arc<Vec<Import>>>>,
) {
    while compiled.changed().await.is_ok() {
        let now = compiled.borrow_and_update().clone();
        let Some(now) = now.filter(|now| !now.partial) else { continue };
        let imports = of(&now, &own);
        say.send_if_modified(|before| {
            let differs = before.as_deref() != Some(&imports);
            if differs {
                *before = Some(Arc::new(imports));
            }
            differs
        });
    }
}

/// In the order of names.
fn of(compiled: &Compiled, own: &ClusterName) -> Vec<Import> {
    let endpoints: BTreeMap<&ServiceName, &Endpoints> = compiled
        .resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::Endpoints(endpoints) => Some((&endpoints.service, endpoints)),
            _ => None,
        })
        .collect();
    let services = compiled.services().filter(|service| service.clusterset);
    services.filter_map(|service| import(service, endpoints.get(&service.name).copied(), own)).collect()
}

fn import(service: &Service, endpoints: Option<&Endpoints>, own: &ClusterName) -> Option<Import> {
    let others = endpoints.into_iter().flat_map(|endpoints| endpoints.remote.keys());
    let here = service.exported.is_some().then_some(own);
    Some(Import {
        namespace: service.name.namespace().to_owned(),
        name: service.name.name().to_owned(),
        ports: service.ports.iter().map(|port| (port.name.clone(), port.port, spoken(port.protocol))).collect(),
        ip: service.set_address?.to_string(),
        clusters: others.chain(here).map(ToString::to_string).collect(),
    })
}

/// As `appProtocol` has it (KEP-3726).
fn spoken(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Http => Some("http"),
        Protocol::Http2 => Some("kubernetes.io/h2c"),
        Protocol::Grpc => Some("grpc"),
        Protocol::Tcp => Some("tcp"),
        Protocol::Tls => Some("tls"),
        Protocol::Detect => None,
    }
}

#[cfg(test)]
mod tests {
    use isthmus_core::statement::{Consumers, Port};

    use super::*;

    fn service(name: &str, clusterset: bool, exported: bool) -> Resource {
        Resource::Service(Service {
            name: ServiceName::new("shop", name).unwrap(),
            global: false,
            clusterset,
            address_index: Some(17),
            set_address: clusterset.then_some([242, 0, 0, 17].into()),
            addresses: vec![],
            ports: vec![Port { name: "grpc".into(), port: 80, protocol: Protocol::Grpc }],
            exported: exported.then_some(Consumers::All),
            routes: vec![],
            subsets: BTreeMap::new(),
            policy: Default::default(),
        })
    }

    #[test]
    fn what_the_set_offers_is_imported_with_who_offers_it() {
        let remote = [("west".parse().unwrap(), vec![])].into();
        let cart = ServiceName::new("shop", "cart").unwrap();
        let endpoints = Resource::Endpoints(Endpoints { service: cart, local: vec![], remote });
        let resources = vec![service("cart", true, true), service("own", false, false), endpoints];
        let imports = of(&Compiled { resources, ..Compiled::default() }, &"east".parse().unwrap());
        let [cart] = imports.as_slice() else { panic!("one is offered: {imports:?}") };
        assert_eq!((cart.name.as_str(), cart.ip.as_str()), ("cart", "242.0.0.17"));
        assert_eq!(cart.clusters, ["east".to_owned(), "west".to_owned()].into());
        assert_eq!(cart.ports, [("grpc".to_owned(), 80, Some("grpc"))]);
    }

    #[tokio::test]
    async fn nothing_is_said_of_imports_before_the_other_clusters_are_known() {
        let ((compile, compiled), (say, mut said)) = (watch::channel(None), watch::channel(None));
        let following = tokio::spawn(follow("east".parse().unwrap(), compiled, say));
        let with = |partial, resources| Some(Arc::new(Compiled { partial, resources, ..Compiled::default() }));
        compile.send_replace(with(true, vec![service("own", true, true)]));
        tokio::task::yield_now().await;
        compile.send_replace(with(false, vec![service("cart", true, true)]));
        let first = said.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!(first.iter().map(|import| import.name.as_str()).collect::<Vec<_>>(), ["cart"]);
        compile.send_replace(with(true, vec![]));
        drop(compile);
        following.await.unwrap();
        assert_eq!(said.borrow().as_ref(), Some(&first), "and what was said stays said");
    }
}
