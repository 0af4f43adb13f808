//! The cluster's DNS on 15053: names of services, at the addresses where one workload's sidecar listens for them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use isthmus_core::model::Service;
use isthmus_runtime::{
    dns::{self, Host, Table, Zone},
    drain::Drain,
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    compiler::{Compiled, Setting},
    error::Error,
};

/// Serves DNS, SERVFAIL until the first compilation.
///
/// # Errors
/// When the port is taken.
pub fn start(
    setting: &Setting,
    address: IpAddr,
    mut compiled: watch::Receiver<Option<Arc<Compiled>>>,
    tasks: &mut JoinSet<()>,
    drain: &Drain,
) -> Result<(), Error> {
    let (zone, address) = (Zone::default(), SocketAddr::new(address, dns::PORT));
    let serving = dns::serve(address, zone.clone(), drain.clone());
    tasks.spawn(serving.map_err(|source| Error::Listen { address, source })?);
    let setting = setting.clone();
    tasks.spawn(async move {
        while compiled.changed().await.is_ok() {
            let now = compiled.borrow_and_update().clone();
            if let Some(compiled) = now {
                zone.set(table(&setting, &compiled));
            }
        }
    });
    Ok(())
}

fn table(setting: &Setting, compiled: &Compiled) -> Table {
    let local = compiled.with_local();
    let mut hosts = vec![];
    for service in compiled.services() {
        let host = Host {
            address: setting.service_address(service),
            ports: service.ports.iter().map(|port| (port.name.clone(), port.port)).collect(),
        };
        if service.clusterset {
            hosts.push((service.name.clusterset_host(), host.clone()));
        }
        if is_of_cluster(service, local.contains(&service.name)) {
            hosts.push((service.name.cluster_host(), host));
        }
    }
    Table::new(hosts)
}

/// Whether the service is the own cluster's too; one that is only imported has no `svc.cluster.local` name.
fn is_of_cluster(service: &Service, has_local: bool) -> bool {
    let only_imported = service.clusterset && service.exported.is_none() && !has_local;
    !only_imported
}
