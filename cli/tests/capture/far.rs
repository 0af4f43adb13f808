//! A service that nobody in the own cluster is there for, called by its own name's address: another cluster answers.

#[path = "../../../proxy/tests/support/gateway.rs"]
#[allow(dead_code, reason = "written for the proxy's own tests, which use more of it")]
mod gateway;

use std::{collections::BTreeMap, net::SocketAddr, sync::mpsc};

use isthmus_core::{
    model::{
        Endpoints, Failover, FailoverMember, FailoverTier, Group, Mesh as Own, RemoteCluster, Resource, Standing, Trust,
    },
    name::ServiceName,
    statement::{Gateways, Protocol},
};
use isthmus_scenarios::wan::namespace::inside;
use tokio::sync::oneshot;

use crate::{
    mesh::{Mesh, Offered, Told},
    world::{SIDECAR, World, eventually, is_possible},
};

const GATEWAY: &str = "10.71.0.1:15444";
const FAR: &str = "10.71.0.13";
const PORTS: [Offered; 2] = [("http", 9080, 9080, Protocol::Http), ("tcp", 2525, 2525, Protocol::Tcp)];

/// A gateway on the node that leads to the far pod, until it is dropped.
struct Gateway(Option<oneshot::Sender<()>>, Option<std::thread::JoinHandle<()>>);

impl Gateway {
    fn start(world: &World) -> Self {
        let (node, (end, ended), (begun, begins)) = (world.node.name.clone(), oneshot::channel(), mpsc::channel());
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let to: SocketAddr = SocketAddr::new(FAR.parse().unwrap(), 15006);
                let far = vec![("west", vec![("far-1", to)])];
                let _gateway = gateway::Gateway::start(GATEWAY.parse().unwrap(), far).await;
                begun.send(()).unwrap();
                let _ = ended.await;
            });
        };
        let thread = std::thread::spawn(move || inside(&node, serve).unwrap());
        begins.recv().unwrap();
        Self(Some(end), Some(thread))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.0.take());
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

/// What the east knows: the service is there in the west alone, and `svc.cluster.local` means that too when it is global.
fn seen(east: &Mesh, west: &Mesh, global: bool) -> Told {
    let name = ServiceName::new("bookinfo", "far").unwrap();
    let mut told = east.service("far", 304, &["10.96.0.5", "fd96::5"], &PORTS, &[]);
    if let Some(Resource::Service(service)) = told.first_mut() {
        service.global = global;
    }
    let group = Group {
        zone: "a".into(),
        labels: BTreeMap::new(),
        identities: [west.identity("far")].into(),
        usable: 1,
        total: 1,
        weight: 1,
    };
    let cluster = |name: &str| name.parse().unwrap();
    let tier = |name: &str| FailoverTier {
        name: name.into(),
        share: 1.0,
        members: vec![FailoverMember { cluster: cluster(name), weight: 1.0, cap: None }],
    };
    let remote = BTreeMap::from([(cluster("west"), vec![group])]);
    let tiers = vec![tier("east"), tier("west")];
    let gateways = vec![GATEWAY.parse().unwrap()];
    told.extend([
        Resource::Trust(Trust { roots: [east.roots(), west.roots()].into() }),
        Resource::Mesh(Own { domain: "mesh.test".parse().unwrap(), cluster: cluster("east"), gateways, member: None }),
        Resource::Cluster(RemoteCluster {
            name: cluster("west"),
            region: "west".into(),
            trust_domain: west.roots().0,
            gateways: Gateways::default(),
            share: 1.0,
            standing: Standing::Alive,
            rtt_us: 1000,
        }),
        Resource::Endpoints(Endpoints { service: name.clone(), local: vec![], remote }),
        Resource::Failover(Failover { service: name, tiers, when_nothing_healthy: None }),
    ]);
    told
}

#[test]
fn a_global_service_is_answered_by_another_cluster_and_applications_know_nothing_of_it() {
    if !is_possible() {
        return;
    }
    let mut world = World::new();
    let (curl, local) = (world.pod("curl", "10.71.0.11", "fd71::11"), world.pod("local", "10.71.0.12", "fd71::12"));
    let far = world.pod("far", FAR, "fd71::13");
    world.application(&far, "far", "9080", &["2525"]);
    world.names(&["far.bookinfo.svc.cluster.local=10.96.0.5"]);
    let (east, west) = (Mesh::of(&world, "east", 15012), Mesh::of(&world, "west", 15013));
    let _gateway = Gateway::start(&world);
    let mut own = west.service("far", 304, &[], &PORTS, &[("far", FAR)]);
    own.push(Resource::Trust(Trust { roots: [east.roots(), west.roots()].into() }));
    let mut sidecars = vec![];
    for (mesh, pod, name, address, told) in [
        (&west, &far, "far", FAR, own),
        (&east, &curl, "curl", "10.71.0.11", seen(&east, &west, true)),
        (&east, &local, "local", "10.71.0.12", seen(&east, &west, false)),
    ] {
        pod.capture(&[]);
        sidecars.push(mesh.sidecar_as(SIDECAR, pod, name, address, &[told], &[]));
    }
    let answered = |by: &str, said: Result<String, String>| match said {
        Ok(said) if said.contains(&format!("URI=spiffe://east.mesh.test/ns/bookinfo/sa/{by} at ")) => Ok(()),
        said => Err(format!("{said:?}")),
    };
    let own_name = "http://far.bookinfo.svc.cluster.local:9080/";
    eventually("another cluster answers", || answered("curl", curl.get(own_name)));
    for url in ["http://[fd96::5]:9080/", "http://242.240.1.48:9080/", "http://far.bookinfo.svc.clusterset.local:9080/"]
    {
        answered("curl", curl.get(url)).unwrap();
    }
    // A stream that is not answered at once is not opened again and again, as a request is.
    eventually("another cluster greets", || match curl.greeting("10.96.0.5", 2525) {
        Ok(said) if said == "220 far greets 127.0.0.6 250 ping" => Ok(()),
        said => Err(format!("{said:?}")),
    });
    // One that is not global means the own cluster, where nobody is; the set's name means everybody still.
    eventually("the set's name", || answered("local", local.get("http://far.bookinfo.svc.clusterset.local:9080/")));
    assert!(local.run((0, 0), &["curl", "-s", "--max-time", "2", own_name]).stdout.is_empty());
}
