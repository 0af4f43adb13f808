//! The mesh's DNS as this sidecar answers its application: names of services, at the addresses where it listens for
//! them. SERVFAIL until the picture is whole, so that no resolver remembers an absence that is none.
//!
//! A captured application has a cluster's own DNS: its questions are led here, names of the set are answered with their
//! addresses in the set, and every other question goes on as it is.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use isthmus_core::plan::service_address;
use isthmus_runtime::{
    dns::{self, Host, Table, Upstream, Zone},
    drain::Drain,
};

use crate::{
    snapshot::{Snapshot, View},
    worker::Shared,
};

/// Answers until the drain is over. Without its port the sidecar goes on: applications may use the explicit proxy.
pub(crate) async fn serve(shared: Arc<Shared>, drain: Drain) {
    if shared.config.capture.is_some() {
        return serve_captured(&shared, &drain).await;
    }
    let workload = shared.config.common.address;
    let (zone, address) = (Zone::default(), SocketAddr::new(workload, dns::PORT));
    let serving = match dns::serve(address, zone.clone(), drain.clone()) {
        Ok(serving) => serving,
        Err(error) => {
            tracing::error!(%error, "no DNS for the application");
            return;
        }
    };
    tokio::join!(serving, follow(&shared, Named::OnWorkload(workload), &zone, &drain));
}

/// Where the rules lead the application's questions: on loopback, in either family.
async fn serve_captured(shared: &Shared, drain: &Drain) {
    let upstream = Upstream::read(&shared.config.resolv_conf);
    if let Err(error) = &upstream {
        tracing::error!(%error, "the application gets no answer but for names of the mesh");
    }
    let (zone, upstream) = (Zone::of_set(), upstream.ok());
    let serve = |loopback: IpAddr| {
        dns::serve_before(SocketAddr::new(loopback, dns::PORT), zone.clone(), upstream.clone(), drain.clone())
    };
    let six = async {
        match serve(Ipv6Addr::LOCALHOST.into()) {
            Ok(serving) => serving.await,
            // A pod without IPv6 asks nothing there.
            Err(error) => tracing::debug!(%error, "no DNS for the application in IPv6"),
        }
    };
    match serve(Ipv4Addr::LOCALHOST.into()) {
        Ok(serving) => drop(tokio::join!(serving, six, follow(shared, Named::InSet, &zone, drain))),
        Err(error) => tracing::error!(%error, "no DNS for the application"),
    }
}

/// Which names are answered, and with which addresses.
#[derive(Clone, Copy)]
enum Named {
    /// All of the mesh, where the sidecar of this workload listens for them.
    OnWorkload(IpAddr),
    /// Those of the set, with their addresses there.
    InSet,
}

/// Keeps the zone as the picture in force has it.
async fn follow(shared: &Shared, named: Named, zone: &Zone, drain: &Drain) {
    let mut changes = shared.changes();
    loop {
        changes.mark_unchanged();
        if let Some(table) = table(named, &shared.snapshot.load()) {
            zone.set(table);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = drain.closed() => return,
        }
    }
}

/// What there is to answer; `None`: nobody can know yet.
fn table(named: Named, snapshot: &Snapshot) -> Option<Table> {
    snapshot.synced.then(|| Table::new(snapshot.views.values().flat_map(|view| hosts(named, view))))
}

fn hosts(named: Named, view: &View) -> impl Iterator<Item = (String, Host)> {
    let service = &view.service;
    let host = Host {
        address: match named {
            Named::OnWorkload(workload) => service.address_index.and_then(|index| service_address(workload, index)),
            Named::InSet => service.set_address,
        },
        ports: service.ports.iter().map(|port| (port.name.clone(), port.port)).collect(),
    };
    let in_cluster = matches!(named, Named::OnWorkload(_)) && is_of_cluster(view);
    let of_cluster = in_cluster.then(|| service.name.cluster_host());
    let of_set = service.clusterset.then(|| service.name.clusterset_host());
    [of_cluster, of_set].into_iter().flatten().map(move |name| (name, host.clone()))
}

/// One that is only imported has no `svc.cluster.local` name; the cluster's own DNS says the same.
fn is_of_cluster(view: &View) -> bool {
    !view.service.clusterset || view.service.exported.is_some() || !view.endpoints.local.is_empty()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use isthmus_core::{
        model::{Resource, Service, TrafficPolicy},
        name::ServiceName,
    };

    use super::*;
    use crate::snapshot::Painter;

    fn service(name: &str, clusterset: bool, index: u16) -> (String, u64, Resource) {
        let service = Service {
            name: ServiceName::new("bookinfo", name).unwrap(),
            global: false,
            clusterset,
            address_index: Some(index),
            set_address: clusterset.then(|| [242, 0, 0, 1].into()),
            addresses: vec![],
            ports: vec![],
            exported: None,
            routes: vec![],
            subsets: BTreeMap::new(),
            policy: TrafficPolicy::default(),
        };
        let resource = Resource::Service(service);
        (resource.key(), 1, resource)
    }

    #[test]
    fn names_are_answered_once_the_picture_is_whole_and_imports_only_in_the_set() {
        let workload = Named::OnWorkload("127.2.11.1".parse().unwrap());
        let mut painter = Painter::new(crate::snapshot::tests::common(), 1);
        let first = painter.apply(vec![service("details", true, 16), service("ratings", false, 17)], &[], false);
        assert_eq!(table(workload, &first), None);
        let whole = table(workload, &painter.apply(vec![], &[], true));
        let host = |last| Host { address: Some(Ipv4Addr::new(127, 2, 11, last)), ports: vec![] };
        let expected = [
            ("details.bookinfo.svc.clusterset.local".to_owned(), host(16)),
            ("ratings.bookinfo.svc.cluster.local".to_owned(), host(17)),
        ];
        assert_eq!(whole, Some(Table::new(expected)));
        let captured = table(Named::InSet, &painter.apply(vec![], &[], true));
        let host = Host { address: Some(Ipv4Addr::new(242, 0, 0, 1)), ports: vec![] };
        assert_eq!(captured, Some(Table::new([("details.bookinfo.svc.clusterset.local".to_owned(), host)])));
    }
}
