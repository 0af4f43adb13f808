//! Random bytes, half-open connections and floods of headers on every port disturb nobody.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{calls_cross_clusters, support::Raised};

pub async fn strangers_disturb_nobody(mesh: &Raised) {
    let cluster = mesh.cluster("us-west");
    let at = cluster.addresses();
    let workload = cluster.address_of(cluster.workload("details").expect("details run in us-west"));
    let ports = [
        (at.control(), vec![15000, 15012, 15020, 15021, 15053]),
        (at.federation(), vec![15000, 15050]),
        (at.gateway(), vec![15000, 15443, 15444]),
        (workload, vec![15000, 15006, 15020, 15053, 15080]),
    ];
    let mut half_open = vec![];
    let flood = format!("GET / HTTP/1.1\r\n{}", "x-flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(4000));
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(4096).collect();
    for (address, ports) in ports {
        for port in ports {
            let connect = || TcpStream::connect((address, port));
            half_open.push(connect().await.unwrap_or_else(|error| panic!("{address}:{port}: {error}")));
            for bytes in [noise.as_slice(), flood.as_bytes(), &[0xA9, 1, 0xff, 0xff], &[0x16, 3, 1, 0xff, 0xff, 1]] {
                let mut stranger = connect().await.unwrap_or_else(|error| panic!("{address}:{port}: {error}"));
                let _ = stranger.write_all(bytes).await;
            }
        }
    }
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for port in [15443, 15053] {
        let _ = udp.send_to(&noise[..1200], (at.gateway(), port));
        let _ = udp.send_to(&noise[..1200], (at.control(), port));
    }
    calls_cross_clusters(mesh).await;
    let restarted: Vec<_> =
        mesh.mesh.supervisor.processes().into_iter().filter(|process| process.restarts > 0).collect();
    assert!(restarted.is_empty(), "{restarted:?}");
}
