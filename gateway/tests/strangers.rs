//! What is said to the ports by those who do not speak the protocols.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{net::SocketAddr, time::Duration};

use isthmus_core::statement::Consumers;
use isthmus_runtime::{
    tls::{self, Accept},
    trust::TrustRoots,
};
use isthmus_wire::frame::{self, Kind};
use isthmus_wire::tunnel::Probe;
use prost::Message;
use support::{Cluster, LIMIT, call, echo, header, reviews, signed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// Says `bytes` and reads what comes until the other side closes; a reset is an end too.
async fn say(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(to).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut heard = Vec::new();
    let _ = tokio::time::timeout(LIMIT, tcp.read_to_end(&mut heard)).await.expect("the connection is closed");
    heard
}

#[tokio::test]
async fn garbage_on_any_port_is_turned_away_and_the_gateway_serves_on() {
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
    let at_west = west.gateway("gateway", NOWHERE, &[&east]);
    at_west.learn(reviews(Consumers::All, &[("reviews-1", echo().await)]));
    at_west.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([west.seen_at(at_west.tunnel)]);
    at_east.dialled(2).await;

    let wrong_kind = frame::encode(Kind::Control, &Probe { sequence: 1 }).unwrap();
    let forged = {
        let mut bytes = signed(&east, Kind::SignedHeader, header("west").encode_to_vec());
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    };
    let nonsense = signed(&east, Kind::SignedHeader, vec![0xff; 40]);
    let subscribing = signed(&east, Kind::Subscribe, vec![1]);
    let garbage: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xA9, 99, 0, 0],
        &[0xA9, 2, 0xff, 0xff],
        &wrong_kind,
        &forged,
        &nonsense,
        &subscribing,
    ];
    for bytes in garbage {
        for port in [at_east.local, at_east.edge] {
            let heard = say(port, bytes).await;
            assert!(heard.len() < 1_000, "{bytes:?}");
        }
    }
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [0, 1, 20, 60, 1200] {
        let packet: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(length).collect();
        udp.send_to(&packet, at_west.tunnel).await.unwrap();
    }
    let call = call(&east, at_east.local, &header("west"), b"still here").await;
    assert_eq!(call.refused(), "accepted");
    assert_eq!(call.finish().await, b"still here");
    let turned_away = |reason| at_east.context.metrics.turned_away.with_label_values(&[reason]).get();
    assert!(turned_away("no_frame") >= 3 && turned_away("forbidden") >= 2);
}

#[tokio::test]
async fn another_clusters_member_is_passed_to_ours_unread_and_nobody_else_is() {
    let member = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let east = Cluster::new("east");
    let at_east = east.gateway("gateway", member.local_addr().unwrap(), &[]);
    let hello = |alpn: &[&[u8]]| {
        let config = tls::anonymous_client_config(TrustRoots::new(), Accept::Any, alpn);
        let mut client = rustls::ClientConnection::new(config, "member.mesh.internal".try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    };
    assert!(say(at_east.edge, &hello(&[b"h2"])).await.is_empty());
    assert_eq!(at_east.context.metrics.edge.with_label_values(&["unknown_alpn"]).get(), 1);

    let said = hello(&[b"isthmus-member/1"]);
    let mut client = TcpStream::connect(at_east.edge).await.unwrap();
    let (front, behind) = said.split_at(100);
    client.write_all(front).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.write_all(behind).await.unwrap();
    let (mut passed, _) = tokio::time::timeout(LIMIT, member.accept()).await.unwrap().unwrap();
    let mut heard = vec![0; said.len()];
    passed.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, said);
    passed.write_all(b"server hello").await.unwrap();
    drop(passed);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"server hello");
}

/// A ClientHello that offers the members' protocol: all that a stranger has to know to reach the member.
fn member_hello() -> Vec<u8> {
    let config = tls::anonymous_client_config(TrustRoots::new(), Accept::Any, &[b"isthmus-member/1"]);
    let mut client = rustls::ClientConnection::new(config, "member.mesh.internal".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_half_open_connections_than_there_are_places_turn_no_sidecar_and_no_member_away() {
    let member = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (east, west) = (Cluster::new("east"), Cluster::new("west"));
    let mut at_east = east.gateway("gateway", member.local_addr().unwrap(), &[&west]);
    let at_west = west.gateway("gateway", NOWHERE, &[&east]);
    at_west.learn(reviews(Consumers::All, &[("reviews-1", echo().await)]));
    at_west.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([west.seen_at(at_west.tunnel)]);
    at_east.dialled(2).await;
    let mut earlier = support::called_until(&east, at_east.local, &header("west"), "accepted").await;

    let (hello, cut) = (member_hello(), signed(&east, Kind::SignedHeader, header("west").encode_to_vec()));
    let to_local: [&[u8]; 3] = [&[], &cut[..cut.len() / 2], &[0xA9, 2, 0x40, 0]];
    let to_edge: [&[u8]; 2] = [&[], &hello[..hello.len() / 2]];
    let mut flood = vec![];
    let local = to_local.iter().cycle().take(1_200).map(|said| (at_east.local, said));
    let edge = to_edge.iter().cycle().take(600).map(|said| (at_east.edge, said));
    for (port, said) in local.chain(edge) {
        let mut stranger = TcpStream::connect(port).await.unwrap();
        stranger.write_all(said).await.unwrap();
        flood.push(stranger);
    }
    let call = call(&east, at_east.local, &header("west"), b"still here").await;
    assert_eq!(call.refused(), "accepted");
    assert_eq!(call.finish().await, b"still here");
    earlier.tcp.write_all(b"not disturbed").await.unwrap();
    assert_eq!(earlier.finish().await, b"not disturbed", "who is known loses nothing to strangers");
    let mut client = TcpStream::connect(at_east.edge).await.unwrap();
    client.write_all(&hello).await.unwrap();
    let (mut passed, _) = tokio::time::timeout(LIMIT, member.accept()).await.unwrap().unwrap();
    let mut heard = vec![0; hello.len()];
    passed.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, hello);
    let limits = &at_east.context.limits;
    assert!(limits.unproven.taken() <= 1_024 && limits.callers.taken() <= 512);
    assert!(at_east.context.metrics.turned_away.with_label_values(&["displaced"]).get() > 0);
}
