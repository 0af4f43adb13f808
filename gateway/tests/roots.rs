//! A cluster with a wrong root: its gateway is refused, and the log says why in words a person can act on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{Cluster, LIMIT, call, header};
use tracing_subscriber::fmt::MakeWriter;

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// Log lines of this test's thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn of_warnings(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        text.lines().filter(|line| line.contains("WARN")).map(ToOwned::to_owned).collect()
    }
}

#[tokio::test]
async fn the_gateway_of_a_cluster_with_a_wrong_root_is_refused_with_the_reason_said_once() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // East knows one west; what stands at its address is another: reinstalled without a join, or a thief's.
    let (east, known, other) = (Cluster::new("east"), Cluster::new("west"), Cluster::new("west"));
    let at_east = east.gateway("gateway", NOWHERE, &[&known]);
    let at_other = other.gateway("gateway", NOWHERE, &[&east]);
    at_other.learn([east.seen_at(at_east.tunnel)]);
    at_east.learn([known.seen_at(at_other.tunnel)]);
    let failed = at_east.context.metrics.dials.with_label_values(&["west", "failed"]);
    let refused_often = async {
        while failed.get() < 6 || lines.of_warnings().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, refused_often).await.expect("six dials fail");
    assert_eq!(call(&east, at_east.local, &header("west"), b"").await.refused(), "no_tunnel");
    assert!(at_east.context.links.tunnels().is_empty(), "it gets no tunnel in either direction");
    let said = lines.of_warnings();
    let of_east: Vec<_> = said.iter().filter(|line| line.contains("cluster=west")).collect();
    assert!(
        of_east.iter().any(|line| {
            line.contains("signed by no root of its own trust domain west.mesh.test")
                && line.contains("spiffe://west.mesh.test/ns/isthmus-system/sa/gateway")
        }),
        "{said:?}"
    );
    // One line a tunnel that is dialled, not one a dial.
    assert!(of_east.len() <= 2, "{of_east:?}");
}
