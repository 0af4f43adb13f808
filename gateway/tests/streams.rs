//! Streams through two gateways: what is carried, and what is refused with which word.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::SocketAddr;

use isthmus_core::statement::Consumers;
use isthmus_wire::tunnel::{Header, answer};
use support::{Cluster, Running, call, called_until, echo, header, reviews};
use tokio::io::AsyncWriteExt;

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// East and west, joined, with `reviews` in west at `endpoints`.
async fn joined(consumers: Consumers, endpoints: &[(&str, SocketAddr)]) -> (Cluster, Cluster, Running, Running) {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
    let at_west = west.gateway("gateway", NOWHERE, &[&east]);
    at_west.learn(reviews(consumers, endpoints));
    at_west.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([west.seen_at(at_west.tunnel)]);
    at_east.dialled(2).await;
    (east, west, at_east, at_west)
}

#[tokio::test]
async fn a_stream_is_answered_before_its_bytes_and_carried_both_ways_to_each_sides_end() {
    let (east, _west, at_east, at_west) = joined(Consumers::All, &[("reviews-1", echo().await)]).await;
    let mut call = call(&east, at_east.local, &header("west"), b"client hello").await;
    let answer::Answer::Accept(accept) = &call.answer else { panic!("{:?}", call.answer) };
    assert_eq!((accept.endpoint_id.as_str(), accept.gateway.as_str()), ("reviews-1", "gateway-west"));
    assert_eq!(accept.local_gateway, "gateway-east");
    assert!(accept.tunnel.starts_with("west/") && accept.rtt_us > 0, "{accept:?}");
    assert_eq!(at_west.context.open.count(&"reviews-1".parse().unwrap()), 1);
    let big = vec![7; 3_000_000];
    let (mut from, mut to) = call.tcp.split();
    let mut heard = call.buffer.split().to_vec();
    let want = b"client hello".len() + big.len();
    let hear = async {
        let mut rest = vec![0; want - heard.len()];
        tokio::io::AsyncReadExt::read_exact(&mut from, &mut rest).await.unwrap();
        rest
    };
    let (said, rest) = tokio::join!(to.write_all(&big), hear);
    said.unwrap();
    heard.extend(rest);
    assert!(heard.starts_with(b"client hello") && heard.ends_with(&big[..1000]));
    assert!(call.finish().await.is_empty(), "the end of one side is the end of the other here");
}

#[tokio::test]
async fn each_refusal_has_its_word() {
    let only_north = Consumers::Clusters(vec!["north".parse().unwrap()]);
    let (east, west, at_east, at_west) = joined(only_north, &[("dead", NOWHERE)]).await;
    let refused = async |cluster: &Cluster, header: &Header| call(cluster, at_east.local, header, b"x").await.refused();
    assert_eq!(refused(&east, &header("west")).await, "not_exported");
    at_west.learn(reviews(Consumers::All, &[("dead", NOWHERE)]));
    assert_eq!(refused(&east, &header("west")).await, "no_endpoint");
    let alive = echo().await;
    at_west.learn(reviews(Consumers::All, &[("dead", NOWHERE), ("alive", alive)]));
    for _ in 0..8 {
        assert_eq!(refused(&east, &header("west")).await, "accepted", "another endpoint takes it");
    }
    assert_eq!(refused(&east, &Header { endpoint_id: "dead".into(), ..header("west") }).await, "no_endpoint");
    assert_eq!(refused(&east, &Header { port: 99_999, ..header("west") }).await, "forbidden");
    assert_eq!(refused(&east, &header("south")).await, "no_tunnel");
    assert_eq!(refused(&west, &header("west")).await, "forbidden", "a pass of another cluster");
}

#[tokio::test]
async fn a_draining_gateway_says_so_to_sidecars_and_peers_and_lets_open_streams_finish() {
    use isthmus_wire::tunnel::notice::State;
    let (east, _west, mut at_east, at_west) = joined(Consumers::All, &[("reviews-1", echo().await)]).await;
    let mut notices = support::subscribe(&east, at_east.local).await;
    let open = called_until(&east, at_east.local, &header("west"), "accepted").await;
    at_west.trigger.drain("a test");
    at_east.path("draining", 0).await;
    let heard = tokio::time::timeout(support::LIMIT, async {
        while let Some(notice) = notices.recv().await {
            if notice.cluster == "west" && notice.state() == State::Draining {
                return;
            }
        }
    });
    heard.await.unwrap();
    assert_eq!(call(&east, at_east.local, &header("west"), b"").await.refused(), "no_tunnel");
    let mut open = open;
    open.tcp.write_all(b"last words").await.unwrap();
    assert_eq!(open.finish().await, b"last words");
    tokio::time::timeout(support::LIMIT, at_west.task).await.unwrap().unwrap();
}
