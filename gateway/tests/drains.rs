//! One of two gateways of another cluster goes: it says so first, or it falls silent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::SocketAddr,
    time::Duration,
};

use isthmus_core::statement::Consumers;
use isthmus_gateway::door::SAID_FIRST;
use isthmus_wire::tunnel::{Notice, notice::State};
use support::{
    Cable, Call, Cluster, LIMIT, Running, call, call_once, called_until, echo, header, hears, over, reviews, subscribe,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::Instant,
};

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// There are 250 ms to answer, of which the third tunnel that is tried has a quarter. Who is this late takes half of that.
const LATE: Duration = Duration::from_millis(30);

/// What is done, and how late this runtime came at worst to a timer meanwhile.
async fn watched<T>(doing: impl Future<Output = T>) -> (T, Duration) {
    const TICK: Duration = Duration::from_millis(5);
    let (due, worst) = (Cell::new(Instant::now() + TICK), Cell::new(Duration::ZERO));
    let watch = async {
        loop {
            tokio::time::sleep_until(due.get()).await;
            worst.set(worst.get().max(due.get().elapsed()));
            due.set(Instant::now() + TICK);
        }
    };
    tokio::select! {
        done = doing => (done, worst.get().max(Instant::now().saturating_duration_since(due.get()))),
        () = watch => unreachable!("it watches for ever"),
    }
}

/// East with one gateway, west with two; the first of them behind a cable.
struct Joined {
    east: Cluster,
    west: Cluster,
    at_east: Running,
    first: Running,
    second: Running,
    cable: Cable,
    notices: mpsc::UnboundedReceiver<Notice>,
}

async fn joined() -> Joined {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
    let (first, second) = (west.gateway("gateway", NOWHERE, &[&east]), west.second_gateway(NOWHERE, &[&east]));
    let (cable, echo) = (Cable::new(first.tunnel).await, echo().await);
    for gateway in [&first, &second] {
        gateway.learn(reviews(Consumers::All, &[("reviews-1", echo)]));
        gateway.learn([east.seen_at(at_east.tunnel)]);
    }
    at_east.learn([west.seen_at_all(&[cable.address, second.tunnel])]);
    at_east.dialled(4).await;
    support::whole(&first).await;
    let notices = subscribe(&east, at_east.local).await;
    Joined { east, west, at_east, first, second, cable, notices }
}

impl Joined {
    /// Streams until one leads over the first gateway of west.
    async fn over_the_first(&self) -> Call {
        let mut held = Vec::new();
        loop {
            let call = call(&self.east, self.at_east.local, &header("west"), b"").await;
            if over(&call).0 == "gateway-west" {
                return call;
            }
            held.push(call);
            assert!(held.len() < 16, "streams go to the tunnel with the fewest");
        }
    }

    /// The next streams all lead over the second gateway, at the first try.
    async fn all_go_elsewhere(&self) {
        let mut gone = 0;
        while gone < 8 {
            let header = header("west");
            let (call, late) = watched(call_once(&self.east, self.at_east.local, &header, b"")).await;
            // A machine that stalled meanwhile says nothing of gateways.
            if call.refused() == "timeout" && late > LATE {
                continue;
            }
            assert_eq!(over(&call).0, "gateway-2-west");
            gone += 1;
        }
    }
}

#[tokio::test]
async fn one_that_drains_is_told_by_its_tunnels_and_takes_what_is_under_way_before_it_shuts_its_door() {
    let mut joined = joined().await;
    let open = joined.over_the_first().await;
    let (_, tunnel) = over(&open);
    joined.first.trigger.drain("a test");
    assert!(!joined.first.context.is_shut(), "it says so first");
    let is = |notice: &Notice| notice.tunnel == tunnel && notice.state() == State::Draining;
    hears(&mut joined.notices, "that the tunnel drains", is).await;
    joined.all_go_elsewhere().await;
    let view = joined.at_east.context.links.views().borrow().values().next().unwrap().view;
    assert_eq!(view.state.word(), "up", "the cluster itself is there");
    let mut open = open;
    open.tcp.write_all(b"last words").await.unwrap();
    assert_eq!(open.finish().await, b"last words");
    tokio::time::timeout(LIMIT, joined.first.task).await.expect("it ends when nothing is open").unwrap();
    assert_eq!(joined.at_east.closed_at_drain("out", "west"), 0);
}

#[tokio::test]
async fn what_is_still_open_at_the_deadline_is_closed_and_counted_on_both_sides() {
    let joined = joined().await;
    let mut open = joined.over_the_first().await;
    joined.first.trigger.drain("a test");
    open.tcp.write_all(b"x").await.unwrap();
    assert_eq!(open.tcp.read_u8().await.unwrap(), b'x', "it lives while the other side drains");
    joined.first.trigger.close("the deadline");
    let metrics = joined.first.context.metrics.clone();
    tokio::time::timeout(LIMIT, joined.first.task).await.unwrap().unwrap();
    assert_eq!(metrics.closed_at_drain.with_label_values(&["in", "east"]).get(), 1);
    let closed = tokio::time::timeout(LIMIT, open.tcp.read_u8()).await.unwrap();
    assert!(closed.is_err(), "{closed:?}");
    let counted = async {
        while joined.at_east.closed_at_drain("out", "west") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.expect("the peer counts it, where somebody still asks");
    assert_eq!(joined.at_east.closed_at_drain("out", "west"), 1);
}

#[tokio::test]
async fn one_that_falls_silent_costs_no_stream_and_is_suspect_though_the_path_is_up() {
    let mut joined = joined().await;
    let open = joined.over_the_first().await;
    let (_, tunnel) = over(&open);
    joined.cable.pull(true);
    // Before anybody knows: each is answered by the other gateway within its own limit.
    joined.all_go_elsewhere().await;
    let is = |notice: &Notice| notice.tunnel == tunnel && notice.state() == State::Suspect;
    hears(&mut joined.notices, "that the tunnel is suspect", is).await;
    hears(&mut joined.notices, "that it is gone", |notice| notice.tunnel == tunnel && notice.state() == State::Lost)
        .await;
    joined.cable.pull(false);
    hears(&mut joined.notices, "that it is back", |notice| notice.tunnel == tunnel && notice.state() == State::Up)
        .await;
}

#[tokio::test]
async fn a_tunnel_to_an_address_that_is_named_no_more_drains_and_is_dialled_again_once_it_is_named_again() {
    let mut joined = joined().await;
    let mut open = joined.over_the_first().await;
    let (_, tunnel) = over(&open);
    joined.at_east.learn([joined.west.seen_at_all(&[joined.second.tunnel])]);
    let told = RefCell::new(BTreeSet::new());
    let are = |notice: &Notice| {
        let is_first = notice.tunnel.contains(&joined.cable.address.to_string());
        // Who looks late sees the idle one only when it is gone.
        if is_first && matches!(notice.state(), State::Draining | State::Lost) {
            told.borrow_mut().insert(notice.tunnel.clone());
        }
        told.borrow().len() == 2
    };
    hears(&mut joined.notices, "that both tunnels there drain", are).await;
    joined.all_go_elsewhere().await;
    open.tcp.write_all(b"last words").await.unwrap();
    assert_eq!(open.finish().await, b"last words");
    let is_gone = |notice: &Notice| notice.tunnel == tunnel && notice.state() == State::Lost;
    hears(&mut joined.notices, "that it is gone, with nothing open", is_gone).await;
    joined.at_east.learn([joined.west.seen_at_all(&[joined.cable.address, joined.second.tunnel])]);
    let is_back = |notice: &Notice| notice.tunnel == tunnel && notice.state() == State::Up;
    hears(&mut joined.notices, "that it is back", is_back).await;
}

#[tokio::test]
async fn one_that_drains_alone_refuses_new_streams_only_after_it_said_so() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
    let at_west = west.gateway("gateway", NOWHERE, &[&east]);
    at_west.learn(reviews(Consumers::All, &[("reviews-1", echo().await)]));
    at_west.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([west.seen_at(at_west.tunnel)]);
    at_east.dialled(2).await;
    let mut notices = subscribe(&east, at_east.local).await;
    let held = called_until(&east, at_east.local, &header("west"), "accepted").await;
    let drained = Instant::now();
    at_east.trigger.drain("a test");
    let is = |notice: &Notice| notice.cluster.is_empty() && notice.state() == State::Draining;
    hears(&mut notices, "that the gateway itself drains", is).await;
    // Who has not heard it yet is served, for as long as that takes; who comes later reads why not, and goes elsewhere.
    let word = call(&east, at_east.local, &header("west"), b"").await.refused();
    assert!(word == "accepted" || drained.elapsed() > SAID_FIRST, "{word} after {:?}", drained.elapsed());
    called_until(&east, at_east.local, &header("west"), "draining").await;
    drop(held);
    tokio::time::timeout(LIMIT, at_east.task).await.expect("it ends when nothing is open").unwrap();
}
