//! A peer that is a gateway of a cluster of the mesh, and lies all the same: about who calls, about where to, in frames
//! that are none. It gets a word of refusal or a reset; the tunnels of others carry on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::SocketAddr;

use bytes::BytesMut;
use isthmus_core::statement::Consumers;
use isthmus_gateway::{framed, refusal::word, tunnel::endpoint::Setup};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Answer, Header, Probe, TunnelHello, TunnelMessage, answer, tunnel_message::Message},
};
use quinn::{Connection, RecvStream, SendStream};
use support::{Cluster, LIMIT, Running, call, echo, header, reviews};
use tokio::time::timeout;

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// East's honest gateway and west's, joined; north is of the mesh too, and its gateway is in the hands of the test.
struct Ground {
    east: Cluster,
    north: Cluster,
    at_east: Running,
    at_west: Running,
    state: tempfile::TempDir,
}

impl Ground {
    async fn new() -> Self {
        let (east, west, north) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("north"));
        let mut at_east = east.gateway("gateway", NOWHERE, &[&west]);
        let at_west = west.gateway("gateway", NOWHERE, &[&east, &north]);
        at_west.learn(reviews(Consumers::All, &[("reviews-1", echo().await)]));
        at_west.learn([east.seen_at(at_east.tunnel), north.seen_at(NOWHERE)]);
        at_east.learn([west.seen_at(at_west.tunnel)]);
        at_east.dialled(2).await;
        Self { east, north, at_east, at_west, state: tempfile::tempdir().unwrap() }
    }

    /// A tunnel from north to west, and its control stream after the hellos.
    async fn tunnel(&self) -> (quinn::Endpoint, Connection, (SendStream, RecvStream)) {
        let identity = self.north.identity("gateway", &[]);
        let mut roots = self.north.ca.trust_roots();
        let west = self.at_west.context.identity.trust();
        let domain = self.at_west.context.identity.spiffe().trust_domain().clone();
        west.roots(&domain).iter().for_each(|root| roots.add(&domain, root.clone()));
        identity.set_trust(roots);
        let setup = Setup::new(identity, true);
        let endpoint = setup.endpoint("127.0.0.1:0".parse().unwrap(), self.state.path()).unwrap();
        let config = setup.client(self.at_west.context.identity.spiffe()).unwrap();
        let connecting = endpoint.connect_with(config, self.at_west.tunnel, "gateway.isthmus.internal").unwrap();
        let connection = timeout(LIMIT, connecting).await.unwrap().unwrap();
        let mut control = connection.open_bi().await.unwrap();
        let hello = TunnelHello { wire_min: 1, wire_max: 1, cluster: "north".into(), ..TunnelHello::default() };
        say(&mut control.0, Kind::Control, &TunnelMessage { message: Some(Message::Hello(hello)) }).await;
        timeout(LIMIT, framed::next(&mut control.1, &mut BytesMut::new())).await.unwrap().expect("west says hello too");
        (endpoint, connection, control)
    }

    /// East's calls to west are answered as ever.
    async fn carries_on(&self) {
        let call = call(&self.east, self.at_east.local, &header("west"), b"still here").await;
        assert_eq!(call.refused(), "accepted");
        assert_eq!(call.finish().await, b"still here");
    }
}

async fn say(to: &mut SendStream, kind: Kind, message: &impl prost::Message) {
    to.write_all(&frame::encode(kind, message).unwrap()).await.unwrap();
}

/// The answer's word to a header; `reset`: there is none.
async fn answered(connection: &Connection, bytes: &[u8]) -> String {
    let (mut to, mut from) = connection.open_bi().await.unwrap();
    to.write_all(bytes).await.unwrap();
    let answer = timeout(LIMIT, framed::next(&mut from, &mut BytesMut::new())).await.expect("an answer or a reset");
    let Ok(frame) = answer else { return "reset".into() };
    match frame::decode::<Answer>(Kind::Answer, frame).unwrap().answer {
        Some(answer::Answer::Refuse(refused)) => format!("{}: {}", word(refused.reason()), refused.detail),
        other => format!("{other:?}"),
    }
}

fn north_header() -> Header {
    Header { source_identity: "spiffe://north.mesh.test/ns/bookinfo/sa/page".into(), ..header("west") }
}

#[tokio::test]
async fn a_gateway_cannot_name_callers_of_another_domain_or_call_for_another_cluster() {
    let ground = Ground::new().await;
    let (_endpoint, connection, _control) = ground.tunnel().await;
    let ask = async |header: Header| answered(&connection, &frame::encode(Kind::Header, &header).unwrap()).await;
    assert!(ask(north_header()).await.contains("reviews-1"), "an honest one is accepted");
    let of_east = Header { source_identity: "spiffe://east.mesh.test/ns/bookinfo/sa/page".into(), ..north_header() };
    let told = ask(of_east).await;
    assert!(told.starts_with("forbidden") && told.contains("is not of north.mesh.test"), "{told}");
    let told = ask(Header { source_identity: "root".into(), ..north_header() }).await;
    assert!(told.starts_with("forbidden"), "{told}");
    let told = ask(Header { cluster: "east".into(), ..north_header() }).await;
    assert!(told.starts_with("forbidden") && told.contains("a gateway of west"), "{told}");
    let told = ask(Header { service: "Not A Name".into(), ..north_header() }).await;
    assert!(told.starts_with("forbidden"), "{told}");
    ground.carries_on().await;
}

#[tokio::test]
async fn oversized_unfinished_and_foreign_frames_end_their_stream_and_no_other() {
    let ground = Ground::new().await;
    let (_endpoint, connection, _control) = ground.tunnel().await;
    let mut held = vec![];
    for _ in 0..500 {
        // Half a header, and nothing more.
        let (mut to, from) = connection.open_bi().await.unwrap();
        to.write_all(&[frame::MAGIC, 1, 0, 200, 1, 2, 3]).await.unwrap();
        held.push((to, from));
    }
    let wrong_kind = frame::encode(Kind::Control, &Probe { sequence: 1 }).unwrap();
    for bytes in [&[frame::MAGIC, 1, 0xff, 0xff][..], b"GET / HTTP/1.1\r\n\r\n", &[frame::MAGIC, 99, 0, 0], &wrong_kind]
    {
        assert_eq!(answered(&connection, bytes).await, "reset", "{bytes:?}");
    }
    let good = frame::encode(Kind::Header, &north_header()).unwrap();
    assert!(answered(&connection, &good).await.contains("reviews-1"), "the tunnel itself is as it was");
    ground.carries_on().await;
}

#[tokio::test]
async fn a_control_stream_of_garbage_ends_its_tunnel_and_no_other() {
    let ground = Ground::new().await;
    for garbage in [&[0xff; 64][..], &[frame::MAGIC, 6, 0xff, 0xff], &[frame::MAGIC, 6, 0, 2, 0xff, 0xff]] {
        let (_endpoint, connection, mut control) = ground.tunnel().await;
        control.0.write_all(garbage).await.unwrap();
        timeout(LIMIT, connection.closed()).await.unwrap_or_else(|_| panic!("{garbage:?} is taken"));
        ground.carries_on().await;
    }
}
