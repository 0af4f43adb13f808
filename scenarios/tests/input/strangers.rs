//! Random bytes, half-open connections, cut handshakes, floods of headers and oversized frames on every port of every
//! role; what the roles hold afterwards is bounded, and nobody had to be started again.

use std::net::{IpAddr, SocketAddr};

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::ground::Ground;

/// Connections of each kind on each port.
const HELD: usize = 24;
/// What a role may hold more than before, KiB, once all of that came to it.
const COST_KIB: u64 = 96 * 1024;

/// A port, and whether it is udp too.
fn ports(ground: &Ground) -> Vec<(SocketAddr, bool)> {
    let cluster = ground.raised.cluster("us-west");
    let at = cluster.addresses();
    let workload = |name: &str| cluster.address_of(cluster.workload(name).expect("it is of the plan"));
    let all: [(IpAddr, &[u16]); 5] = [
        (at.control(), &[15000, 15012, 15020, 15021, 15053]),
        (at.federation(), &[15000, 15020, 15021, 15050]),
        (at.gateway(), &[15000, 15020, 15021, 15443, 15444]),
        (workload("details"), &[15000, 15006, 15020, 15021, 15053, 15080]),
        (workload("curl"), &[15000, 15006, 15020, 15021, 15053, 15080]),
    ];
    let mut ports: Vec<_> = all
        .into_iter()
        .flat_map(|(address, ports)| {
            ports.iter().map(move |port| (SocketAddr::new(address, *port), [15053, 15443].contains(port)))
        })
        .collect();
    // Services as the client's own sidecar listens for them.
    if let IpAddr::V4(curl) = workload("curl") {
        let [a, b, c, _] = curl.octets();
        let services: Vec<_> = (16..=40)
            .map(|last| SocketAddr::new(IpAddr::from([a, b, c, last]), 9080))
            .filter(|address| std::net::TcpStream::connect(address).is_ok())
            .collect();
        assert!(services.len() >= 2, "ratings and details are listened for: {services:?}");
        ports.extend(services.into_iter().map(|address| (address, false)));
    }
    ports
}

/// What is said: each either breaks off in the middle, or goes on longer than anybody should listen.
fn said() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(16_384).collect();
    let flood = format!("GET / HTTP/1.1\r\n{}", "x-flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(20_000));
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}", "a".repeat(2 << 20));
    let body = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000000\r\n\r\nno more".to_vec();
    let mut http2 =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\0\0\0\0\x01\x83\x86\x84".to_vec();
    // Continuations without end.
    http2.extend(b"\0\0\x04\x09\0\0\0\0\x01\0\0\0\0".repeat(50_000));
    vec![
        vec![],
        noise,
        flood.into_bytes(),
        large.into_bytes(),
        body,
        http2,
        b"GET / HT".to_vec(),
        vec![0xA9, 2, 0x40, 0, 1],
        vec![0xA9, 1, 0xff, 0xff],
        // A ClientHello that breaks off.
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7],
        vec![0, 200, 1, 2, 3],
    ]
}

/// KiB in memory of each process of us-west.
fn resident(ground: &Ground) -> Vec<(String, u64)> {
    let of = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let own = ground.processes().into_iter().filter(|process| process.cluster.as_str() == "us-west");
    own.filter_map(|process| Some((process.name, of(process.pid?)))).collect()
}

pub async fn on_every_port_of_every_role_disturb_nobody(ground: &Ground) {
    let restarts = || ground.processes().iter().map(|process| process.restarts).sum::<u32>();
    let (before, restarts_before) = (resident(ground), restarts());
    let mut held = vec![];
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for (port, datagrams) in ports(ground) {
        for bytes in said() {
            let once = bytes.len() > 1_000;
            for _ in 0..if once { 1 } else { HELD } {
                let mut stranger = TcpStream::connect(port).await.unwrap_or_else(|error| panic!("{port}: {error}"));
                let writing = stranger.write_all(&bytes);
                // A server that does not read on is not waited for.
                let _ = tokio::time::timeout(std::time::Duration::from_millis(200), writing).await;
                held.push(stranger);
            }
            if datagrams {
                for length in [0, 1, 11, 12, 60, bytes.len().min(1_200)] {
                    let _ = udp.send_to(&bytes[..length.min(bytes.len())], port);
                }
            }
        }
    }
    println!("{} connections of strangers held", held.len());
    for (cluster, service) in [("us-west", "ratings"), ("us-west", "details"), ("eu-west", "details")] {
        ground.answers(cluster, service).await;
    }
    for ((name, was), (_, is)) in before.iter().zip(resident(ground)) {
        assert!(is < was + COST_KIB, "{name} of us-west holds {is} KiB after the strangers, {was} before");
    }
    assert_eq!(restarts(), restarts_before, "nobody had to be started again");
}
