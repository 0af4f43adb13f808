//! A cluster whose gateways nobody can dial: it dials the others, and is reached by the tunnels that it dialled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{cell::Cell, net::SocketAddr};

use isthmus_core::statement::Consumers;
use isthmus_gateway::tunnel::endpoint::IDLE;
use isthmus_wire::tunnel::{Notice, notice::State};
use support::{
    Cable, Cluster, LIMIT, Running, call, called_until, echo, header, hears, over, reviews, subscribe, whole,
};
use tokio::{io::AsyncWriteExt, sync::mpsc, time::Instant};

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// West dials east over a cable, and names no gateway.
struct Joined {
    east: Cluster,
    west: Cluster,
    at_east: Running,
    at_west: Running,
    cable: Cable,
    notices: mpsc::UnboundedReceiver<Notice>,
}

impl Joined {
    async fn new() -> Self {
        let (east, west) = (Cluster::new("east"), Cluster::new("west"));
        let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
        let at_west = west.gateway("gateway", NOWHERE, &[&east]);
        let cable = Cable::new(at_east.tunnel).await;
        for (gateway, name) in [(&at_west, "reviews-west"), (&at_east, "reviews-east")] {
            gateway.learn(reviews(Consumers::All, &[(name, echo().await)]));
        }
        at_east.learn([west.seen_at_all(&[])]);
        at_west.learn([east.seen_at(cable.address)]);
        at_east.path("up", 2).await;
        whole(&at_east).await;
        let notices = subscribe(&east, at_east.local).await;
        Self { east, west, at_east, at_west, cable, notices }
    }

    /// The tunnel that a new stream from east to west goes by.
    async fn way(&self) -> String {
        over(&called_until(&self.east, self.at_east.local, &header("west"), "accepted").await).1
    }

    /// Waits until the path to west is said to stand so.
    async fn path(&mut self, state: State) {
        self.path_is_one_of(&[state]).await;
    }

    /// Waits until the path to west is said to stand in one of these ways; in which.
    async fn path_is_one_of(&mut self, states: &[State]) -> State {
        let found = Cell::new(State::Unspecified);
        let is = |notice: &Notice| {
            found.set(notice.state());
            notice.cluster == "west" && notice.tunnel.is_empty() && states.contains(&notice.state())
        };
        hears(&mut self.notices, &format!("any of {states:?}"), is).await;
        found.get()
    }
}

#[tokio::test]
async fn streams_go_both_ways_by_the_tunnels_it_dialled() {
    let joined = Joined::new().await;
    let to_west = call(&joined.east, joined.at_east.local, &header("west"), b"to west").await;
    assert!(over(&to_west).1.ends_with("/in"), "{:?}", to_west.answer);
    assert_eq!(to_west.finish().await, b"to west");
    let to_east = call(&joined.west, joined.at_west.local, &header("east"), b"to east").await;
    assert!(!over(&to_east).1.ends_with("/in"), "{:?}", to_east.answer);
    assert_eq!(to_east.finish().await, b"to east");
    let forged = call(&joined.west, joined.at_west.local, &header("west"), b"").await;
    assert_eq!(forged.refused(), "no_tunnel", "a cluster is no other cluster of itself");
}

#[tokio::test]
async fn what_is_not_exported_for_it_is_refused_on_the_tunnels_that_this_side_dialled_too() {
    let joined = Joined::new().await;
    joined.at_west.learn(reviews(Consumers::Clusters(vec!["north".parse().unwrap()]), &[("reviews-1", echo().await)]));
    called_until(&joined.east, joined.at_east.local, &header("west"), "not_exported").await;
}

#[tokio::test]
async fn a_pulled_cable_is_suspect_long_before_its_idle_timeout_then_lost_and_back() {
    let mut joined = Joined::new().await;
    joined.path(State::Up).await;
    // On a machine that stalls for as long a tunnel idles out without being suspect: then it is pulled again.
    for pulls in 1.. {
        let pulled = Instant::now();
        joined.cable.pull(true);
        let state = joined.path_is_one_of(&[State::Suspect, State::Lost]).await;
        let took = pulled.elapsed();
        if state == State::Suspect {
            joined.path(State::Lost).await;
            if took < IDLE {
                break;
            }
        }
        assert!(pulls < 5, "{state:?} after {took:?}");
        joined.cable.pull(false);
        joined.path(State::Up).await;
    }
    assert_eq!(call(&joined.east, joined.at_east.local, &header("west"), b"").await.refused(), "no_tunnel");
    joined.cable.pull(false);
    joined.path(State::Up).await;
    assert!(joined.way().await.ends_with("/in"));
}

#[tokio::test]
async fn once_it_names_gateways_streams_go_by_dialled_tunnels_and_what_is_under_way_ends_where_it_is() {
    let mut joined = Joined::new().await;
    let mut open = call(&joined.east, joined.at_east.local, &header("west"), b"").await;
    let (_, old) = over(&open);
    joined.at_east.learn([joined.west.seen_at(joined.at_west.tunnel)]);
    let drains = |notice: &Notice| notice.tunnel == old && notice.state() == State::Draining;
    hears(&mut joined.notices, "that the old way drains", drains).await;
    let held = call(&joined.east, joined.at_east.local, &header("west"), b"").await;
    assert!(!over(&held).1.ends_with("/in"), "{:?}", held.answer);
    open.tcp.write_all(b"last words").await.unwrap();
    assert_eq!(open.finish().await, b"last words");
    // And back: nobody can dial it any more.
    joined.at_east.learn([joined.west.seen_at_all(&[])]);
    let gone = |notice: &Notice| notice.tunnel == over(&held).1 && notice.state() == State::Draining;
    hears(&mut joined.notices, "that the dialled way drains", gone).await;
    assert!(joined.way().await.ends_with("/in"));
    let mut held = held;
    held.tcp.write_all(b"last words").await.unwrap();
    assert_eq!(held.finish().await, b"last words");
    assert_eq!(joined.at_east.closed_at_drain("out", "west"), 0);
}

#[tokio::test]
async fn one_of_its_gateways_drains_and_the_other_takes_over() {
    let joined = Joined::new().await;
    let second = joined.west.second_gateway(NOWHERE, &[&joined.east]);
    second.learn(reviews(Consumers::All, &[("reviews-west", echo().await)]));
    second.learn([joined.east.seen_at(joined.at_east.tunnel)]);
    let joins = async {
        while joined.at_east.context.links.tunnels().len() < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, joins).await.expect("the second dials too");
    let Joined { east, at_east, at_west, mut notices, .. } = joined;
    let mut held = Vec::new();
    let mut open = loop {
        let call = call(&east, at_east.local, &header("west"), b"").await;
        if over(&call).0 == "gateway-west" {
            break call;
        }
        held.push(call);
        assert!(held.len() < 16, "streams go to the tunnel with the fewest");
    };
    at_west.trigger.drain("a test");
    let (_, tunnel) = over(&open);
    let is = |notice: &Notice| notice.tunnel == tunnel && notice.state() == State::Draining;
    hears(&mut notices, "that the tunnel drains", is).await;
    for _ in 0..8 {
        assert_eq!(over(&call(&east, at_east.local, &header("west"), b"").await).0, "gateway-2-west");
    }
    open.tcp.write_all(b"last words").await.unwrap();
    assert_eq!(open.finish().await, b"last words");
    tokio::time::timeout(LIMIT, at_west.task).await.expect("it ends when nothing is open").unwrap();
}

#[tokio::test]
async fn a_gateway_that_none_of_its_tunnels_leads_to_says_so_and_control_hears_nothing_against_it() {
    let joined = Joined::new().await;
    let other = joined.east.second_gateway(NOWHERE, &[&joined.west]);
    other.learn([joined.west.seen_at_all(&[])]);
    let mut notices = subscribe(&joined.east, other.local).await;
    let is = |notice: &Notice| notice.cluster == "west" && notice.state() == State::Lost;
    hears(&mut notices, "that there is no way by this gateway", is).await;
    assert!(other.context.links.details(std::time::Instant::now()).is_empty());
    assert_eq!(call(&joined.east, other.local, &header("west"), b"").await.refused(), "no_tunnel");
}
