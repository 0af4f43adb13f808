//! How fast a broken path is known, and who may be at the other end of a tunnel at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_core::{model::Resource, statement::Consumers};
use isthmus_gateway::{service::Ports, tunnel::endpoint::IDLE};
use isthmus_wire::tunnel::{Notice, notice::State};
use support::{Cable, Cluster, LIMIT, call, call_once, called_until, echo, header, reviews, subscribe};
use tempfile::TempDir;
use tokio::sync::mpsc;

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

async fn until(notices: &mut mpsc::UnboundedReceiver<Notice>, state: State) {
    first_of(notices, &[state]).await;
}

/// The first of these states that a notice says, and when.
async fn first_of(notices: &mut mpsc::UnboundedReceiver<Notice>, states: &[State]) -> (State, Instant) {
    let heard = async {
        while let Some(notice) = notices.recv().await {
            if notice.cluster == "west" && notice.tunnel.is_empty() && states.contains(&notice.state()) {
                return (notice.state(), Instant::now());
            }
        }
        panic!("the gateway closed");
    };
    tokio::time::timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("no notice says any of {states:?}"))
}

#[tokio::test]
async fn a_pulled_cable_is_suspect_long_before_its_idle_timeout_then_lost_and_back_when_it_is_mended() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
    let at_west = west.gateway("gateway", NOWHERE, &[&east]);
    let cable = Cable::new(at_west.tunnel).await;
    at_west.learn(reviews(Consumers::All, &[("reviews-1", echo().await)]));
    at_west.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([west.seen_at(cable.address)]);
    at_east.dialled(2).await;
    let mut notices = subscribe(&east, at_east.local).await;
    until(&mut notices, State::Up).await;

    // Some 0.6 s; a loaded machine has longer round trips. A tunnel that idles out is lost without being suspect, and so is
    // one on a machine that stalls for as long: then it is pulled again.
    for pulls in 1.. {
        let pulled = Instant::now();
        cable.pull(true);
        let (state, at) = first_of(&mut notices, &[State::Suspect, State::Lost]).await;
        if state == State::Suspect && at - pulled < IDLE {
            break;
        }
        assert!(pulls < 5, "{state:?} after {:?}", at - pulled);
        cable.pull(false);
        until(&mut notices, State::Up).await;
    }
    assert_eq!(call(&east, at_east.local, &header("west"), b"").await.refused(), "no_tunnel");
    at_east.path("suspect", 0).await;
    until(&mut notices, State::Lost).await;
    let lost = at_east.path("lost", 0).await;
    assert!(lost.silent_ms >= 3_000, "it was doubted for so long: {lost:?}");

    at_east.lost_because("does not answer").await;

    cable.pull(false);
    until(&mut notices, State::Up).await;
    assert_eq!(at_east.path("up", 1).await.why, "", "it is no trouble any more");
    called_until(&east, at_east.local, &header("west"), "accepted").await;
}

#[tokio::test]
async fn a_stream_that_nobody_answers_is_given_up_with_its_own_word() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
    let at_west = west.gateway("gateway", NOWHERE, &[&east]);
    let cable = Cable::new(at_west.tunnel).await;
    at_west.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([west.seen_at(cable.address)]);
    at_east.dialled(2).await;
    cable.pull(true);
    assert_eq!(call_once(&east, at_east.local, &header("west"), b"").await.refused(), "timeout");
}

#[tokio::test]
async fn only_the_gateway_of_exactly_that_cluster_is_a_peer() {
    let (east, west, north) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("north"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west, &north]);
    // What is at west's address is north's gateway; and one of west that is no gateway. Both sides are told why it is not taken.
    for (cluster, account, told, its) in [
        (
            &north,
            "gateway",
            "north.mesh.test/ns/isthmus-system/sa/gateway; expected",
            "ended the tunnel: no cluster of the",
        ),
        (
            &west,
            "control",
            "west.mesh.test/ns/isthmus-system/sa/control; expected",
            "does not take this cluster's gateway",
        ),
    ] {
        let mut imposter = cluster.gateway(account, NOWHERE, &[&east]);
        imposter.learn([east.seen_at(at_east.tunnel)]);
        at_east.learn([west.seen_at(imposter.tunnel)]);
        let failed = at_east.context.metrics.dials.with_label_values(&["west", "failed"]);
        let before = failed.get();
        let refused = async {
            while failed.get() < before + 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, refused).await.unwrap();
        at_east.lost_because(told).await;
        imposter.lost_because(its).await;
        assert!(at_east.context.links.tunnels().iter().all(|tunnel| !tunnel.label.dialled));
        assert_eq!(call(&east, at_east.local, &header("west"), b"").await.refused(), "no_tunnel");
    }
    // Neither did the one whose cluster is not in east's table get a tunnel in.
    assert!(at_east.context.links.tunnels().is_empty());
}

#[tokio::test]
async fn an_ejected_cluster_loses_its_tunnels_and_a_lease_crosses_to_control() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
    let mut at_west = west.gateway("gateway", NOWHERE, &[&east]);
    at_west.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([west.seen_at(at_west.tunnel)]);
    at_east.dialled(2).await;
    at_east.learn([Resource::Lease { statement: "bGVhc2U=".into() }]);
    let heard = async {
        while let Some(report) = at_west.reports.recv().await {
            if report.leases.iter().any(|lease| lease == b"lease") {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, heard).await.unwrap();
    at_east.context.table.apply([], &["cluster/west".into()]);
    let closed = async {
        while !at_east.context.links.tunnels().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, closed).await.unwrap();
    at_west.path("lost", 0).await;
}

/// A gateway on a runtime of its own, that can be killed: its peers hear nothing of it.
struct Mortal {
    runtime: tokio::runtime::Runtime,
    running: support::Running,
}

impl Mortal {
    async fn born(cluster: &Cluster, dir: &Arc<TempDir>, tunnel: u16, others: &[&Cluster]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let ports = Ports { tunnel, edge: 0, local: 0 };
        let until = Instant::now() + LIMIT;
        loop {
            let guard = runtime.enter();
            let born = cluster.gateway_at(ports, dir.clone(), "gateway", NOWHERE, others);
            drop(guard);
            match born {
                Ok(running) => return Self { runtime, running },
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn kill(self) {
        drop(self.running);
        self.runtime.shutdown_background();
    }
}

#[tokio::test]
async fn a_gateway_that_was_killed_and_is_back_is_known_at_once_by_its_resets() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let first = Mortal::born(&west, &dir, 0, &[&east]).await;
    let port = first.running.tunnel.port();
    first.running.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([west.seen_at(first.running.tunnel)]);
    at_east.dialled(2).await;
    let old: Vec<_> = at_east.context.links.tunnels().iter().map(|tunnel| tunnel.connection.clone()).collect();
    first.kill();
    let second = Mortal::born(&west, &dir, port, &[&east]).await;
    second.running.learn([east.seen_at(at_east.tunnel)]);
    let back = Instant::now();
    for connection in old.iter().take(2) {
        let why = tokio::time::timeout(LIMIT, connection.closed()).await.unwrap();
        assert!(matches!(why, quinn::ConnectionError::Reset), "{why} after {:?}", back.elapsed());
    }
    at_east.dialled(2).await;
    second.kill();
}
