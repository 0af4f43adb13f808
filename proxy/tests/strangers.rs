//! What a sidecar's ports make of those who mean no good: bounded memory, one clear status, and others are served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

#[path = "../../runtime/tests/support/frames.rs"]
mod frames;
mod support;

use std::{net::SocketAddr, time::Duration};

use frames::{Attack, PREFACE, attacks};
use isthmus_core::name::SpiffeId;
use isthmus_runtime::{identity::Identity, tls};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::Metadata,
};
use support::{Cluster, PORT, Sidecar, endpoint, eventually, http, picture};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const URL: &str = "http://details.bookinfo.svc.clusterset.local:9080/x";
/// What an attack may say, bytes: a hundred thousand streams.
const SAID: usize = 3 << 20;
/// What it may cost in memory, bytes: a thousand of them are open at once, each a request under way with some 25 kB on both
/// ends, which live in this process. Without a bound it would be gigabytes.
const COST: usize = 64 << 20;
/// What memory costs is the whole process's: one test at a time has it.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A client and a server of one cluster, each an application's sidecar.
struct Ground {
    east: Cluster,
    client: Sidecar,
    server: Sidecar,
}

impl Ground {
    async fn new(number: u8) -> Self {
        let east = Cluster::new("east", number);
        let known = || picture(&east, &[], vec![endpoint(&east, "details-1", "details", 2)], vec![]);
        let (client, server) =
            (east.sidecar("curl", "curl", 1, known()), east.sidecar("details-1", "details", 2, known()));
        http::application(server.port(PORT), "details-1").await;
        let ground = Self { east, client, server };
        eventually("a first answer", || ground.serves()).await;
        ground
    }

    /// An honest request on a connection of its own, through both sidecars.
    async fn serves(&self) -> Result<(), String> {
        http::ok(self.client.port(15080), URL).await.map(drop)
    }

    /// An inner connection of a workload of the mesh, which then may say what it wants.
    async fn inside(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        let id: SpiffeId = "spiffe://east.mesh.test/ns/bookinfo/sa/thief".parse().unwrap();
        let identity = Identity::new(self.east.ca.issue_local(&id).unwrap(), self.east.ca.trust_roots());
        let config = tls::client_config(&identity, tls::Accept::Any, &[alpn]);
        let name = "9080.details.bookinfo.svc.clusterset.local".try_into().unwrap();
        let tcp = TcpStream::connect(self.server.port(15006)).await.unwrap();
        TlsConnector::from(config).connect(name, tcp).await.unwrap()
    }

    fn refused(metrics: &str, reason: &str) -> u64 {
        let line = metrics.lines().find(|line| {
            line.starts_with("isthmus_proxy_refused_total") && line.contains(&format!("reason=\"{reason}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Attacks until all is said, the server hangs up, or it was long enough.
async fn mount(stream: impl AsyncRead + AsyncWrite + Send + 'static, front: Vec<u8>, mut attack: Attack) {
    let (mut from, mut to) = tokio::io::split(stream);
    let reading = tokio::spawn(async move { while from.read(&mut [0; 65_536]).await.is_ok_and(|read| read > 0) {} });
    let speaking = async {
        to.write_all(&front).await?;
        to.write_all(&attack.first).await?;
        let mut said = 0;
        while said < SAID {
            let bytes = (attack.again)();
            to.write_all(&bytes).await?;
            said += bytes.len();
        }
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), speaking).await;
    reading.abort();
}

async fn while_served(ground: &Ground, name: &str, attack: impl Future<Output = ()>) {
    let before = resident();
    tokio::pin!(attack);
    let mut most = before;
    loop {
        tokio::select! {
            () = &mut attack => break,
            served = ground.serves() => {
                served.unwrap_or_else(|reason| panic!("{name}: {reason}"));
                most = most.max(resident());
            }
        }
    }
    ground.serves().await.unwrap_or_else(|reason| panic!("after {name}: {reason}"));
    let most = most.max(resident());
    assert!(most - before < COST, "{name}: {} bytes more", most - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_attacks_on_the_explicit_and_the_inbound_port_cost_neither_memory_nor_anybody_elses_requests() {
    let _alone = ALONE.lock().await;
    let ground = Ground::new(100).await;
    for attack in attacks() {
        let name = format!("{} on 15080", attack.name);
        let tcp = TcpStream::connect(ground.client.port(15080)).await.unwrap();
        while_served(&ground, &name, mount(tcp, PREFACE.to_vec(), attack)).await;
    }
    for attack in attacks() {
        let name = format!("{} on 15006", attack.name);
        let inside = ground.inside(b"isthmus-h2/1").await;
        let mut front = frame::encode(Kind::Metadata, &Metadata::default()).unwrap().to_vec();
        front.extend_from_slice(PREFACE);
        while_served(&ground, &name, mount(inside, front, attack)).await;
    }
}

/// Writes what it can and reads the answer's status line; empty: hung up without one.
async fn status(to: SocketAddr, bytes: &[u8]) -> String {
    let (mut from, mut out) = TcpStream::connect(to).await.unwrap().into_split();
    let bytes = bytes.to_vec();
    // The half to write to stays open until the answer is read: who hangs up gets none.
    let writing = tokio::spawn(async move {
        let _ = out.write_all(&bytes).await;
        out
    });
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(support::LIMIT, from.read(&mut answer)).await.expect("an answer or an end");
    writing.abort();
    let line = String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned();
    line.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_floods_and_oversized_headers_get_431_and_bytes_that_are_no_http_get_400() {
    let _alone = ALONE.lock().await;
    let ground = Ground::new(101).await;
    let head = |headers: &str| format!("GET {URL} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").into_bytes();
    let flood = head(&"x-flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(100_000));
    let many = head(&"a: b\r\n".repeat(1_000));
    let large = head(&format!("x: {}\r\n", "a".repeat(1 << 20)));
    let endless = format!("GET {URL} HTTP/1.1\r\nx: {}", "a".repeat(4 << 20)).into_bytes();
    let long_target = format!("GET http://details.bookinfo/{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).into_bytes();
    let service = SocketAddr::new("127.101.11.16".parse().unwrap(), PORT);
    for to in [ground.client.port(15080), service] {
        for (name, bytes) in [("flood", &flood), ("many", &many), ("large", &large), ("endless", &endless)] {
            let said = status(to, bytes).await;
            assert!(said.is_empty() || said.contains(" 431 "), "{name} on {to}: {said:?}");
        }
        let said = status(to, &long_target).await;
        assert!(said.is_empty() || said.contains(" 414 ") || said.contains(" 431 "), "{to}: {said:?}");
        ground.serves().await.expect("others are served");
    }
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(128..)).take(100_000).collect();
    let said = status(ground.client.port(15080), &noise).await;
    assert!(said.is_empty() || said.contains(" 400 "), "{said:?}");
    let said =
        status(ground.client.port(15080), b"CONNECT details.bookinfo.svc.clusterset.local HTTP/1.1\r\n\r\n").await;
    assert!(said.contains(" 400 "), "{said:?}");
    ground.serves().await.expect("others are served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_by_the_hundred_on_every_port_disturb_nobody() {
    let _alone = ALONE.lock().await;
    let ground = Ground::new(102).await;
    let service = SocketAddr::new("127.102.11.16".parse().unwrap(), PORT);
    let config = tls::anonymous_client_config(ground.east.ca.trust_roots(), tls::Accept::Any, &[b"isthmus-h2/1"]);
    let mut hello = vec![];
    rustls::ClientConnection::new(config, "x".try_into().unwrap()).unwrap().write_tls(&mut hello).unwrap();
    let to_inbound: [&[u8]; 4] = [b"", &hello[..hello.len() / 2], &hello, b"\x16\x03\x01\x40\x00"];
    let to_http: [&[u8]; 4] =
        [b"", b"GE", b"GET http://details.bookinfo.svc.clusterset.local:9080/ HTTP/1.1\r\nhost: x", &PREFACE[..20]];
    let mut held = vec![];
    for turn in 0..700 {
        let said = turn % 4;
        let mut to = vec![(ground.server.port(15006), to_inbound[said])];
        if turn < 200 {
            to.extend([ground.client.port(15080), service].map(|port| (port, to_http[said])));
            to.push((ground.client.port(15053), &[0, 200, 1][..said.min(3)]));
        }
        for (port, bytes) in to {
            let mut stranger = TcpStream::connect(port).await.unwrap();
            stranger.write_all(bytes).await.unwrap();
            held.push(stranger);
        }
    }
    ground.serves().await.expect("others are served");
    assert_eq!(http::ok(service, "/x").await.expect("by the service's address too"), "details-1");
    assert!(Ground::refused(&ground.server.metrics().await, "displaced") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_good_handshake_what_is_no_metadata_record_ends_the_connection() {
    let _alone = ALONE.lock().await;
    let ground = Ground::new(103).await;
    let too_long = [frame::MAGIC, 7, 0xff, 0xff];
    let wrong_kind = frame::encode(Kind::Notice, &Metadata::default()).unwrap();
    let malformed = [frame::MAGIC, 7, 0, 3, 0xff, 0xff, 0xff];
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &too_long, &wrong_kind, &[frame::MAGIC, 99, 0, 0]] {
        let mut inside = ground.inside(b"isthmus-http1/1").await;
        inside.write_all(bytes).await.unwrap();
        let mut heard = vec![];
        let _ = tokio::time::timeout(support::LIMIT, inside.read_to_end(&mut heard)).await.expect("it is ended");
        assert!(!String::from_utf8_lossy(&heard).contains("200 OK"), "{bytes:?}");
    }
    // A record that cannot be read says nothing of its sender, and costs it nothing else: it is for labels only.
    let mut inside = ground.inside(b"isthmus-http1/1").await;
    inside.write_all(&malformed).await.unwrap();
    inside.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut heard = vec![];
    inside.read_to_end(&mut heard).await.unwrap();
    assert!(String::from_utf8_lossy(&heard).contains("200 OK"), "{}", String::from_utf8_lossy(&heard));
    // What is asked for by a name that is none of ours never reaches the application.
    let id: SpiffeId = "spiffe://east.mesh.test/ns/bookinfo/sa/thief".parse().unwrap();
    let identity = Identity::new(ground.east.ca.issue_local(&id).unwrap(), ground.east.ca.trust_roots());
    let config = tls::client_config(&identity, tls::Accept::Any, &[b"isthmus-http1/1"]);
    for name in ["9080.ratings.bookinfo.svc.clusterset.local", "1.details.bookinfo.svc.clusterset.local", "x"] {
        let tcp = TcpStream::connect(ground.server.port(15006)).await.unwrap();
        let mut inside = TlsConnector::from(config.clone()).connect(name.try_into().unwrap(), tcp).await.unwrap();
        let _ = tokio::time::timeout(support::LIMIT, inside.read_to_end(&mut vec![])).await.expect("it is ended");
    }
    ground.serves().await.expect("others are served");
}
