//! Leaves that live for seconds are renewed all over a mesh, and no connection notices: neither short requests nor
//! streams that outlive the leaf they began with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use isthmus_scenarios::plan::bookinfo;
use support::{
    Raised, eventually,
    load::{Load, Target, get},
    url,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Half of it is left for whoever is held up, on a busy machine too.
const LEAF_SECONDS: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(60);
/// Who takes part in a request from us-west to us-east's echo.
const TAKE_PART: [(&str, &str); 4] =
    [("us-west", "curl.sidecar"), ("us-west", "gateway"), ("us-east", "gateway"), ("us-east", "echo-v1-b.sidecar")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_of_seconds_are_renewed_and_no_connection_is_dropped() {
    let mut plan = bookinfo::plan(2, 125).expect("the demo's plan");
    plan.tuning.leaf_ttl_seconds = Some(LEAF_SECONDS);
    plan.tuning.log = "info,isthmus_runtime::enrolment=debug".into();
    let mesh = Raised::up_as(plan).await;
    // us-west has no echo of its own.
    let (proxy, echo) = (mesh.curl("us-west"), url("echo", "/x"));
    eventually("the echo answers in us-west", PATIENCE, || async {
        let got = get(proxy, &echo).await?;
        anyhow::ensure!(got.status == 200, "{got:?}");
        Ok(())
    })
    .await;
    let address = mesh.service_address("us-west", "echo").await;
    let (mut socket, mut stream) = (websocket(address).await, tcp(address).await);
    let load = Load::start(Target { proxy, url: echo.clone(), rate: 50 });
    let before = renewals(&mesh);
    eventually("everyone on the way has renewed twice", PATIENCE, || {
        let now = renewals(&mesh);
        let enough = now.iter().zip(&before).all(|(now, before)| *now >= before + 2);
        std::future::ready(if enough { Ok(()) } else { Err(anyhow::anyhow!("{before:?} → {now:?}")) })
    })
    .await;
    // Two renewals: the leaf that these streams began with is over.
    socket.send(Message::text("still here")).await.expect("the WebSocket is open");
    assert_eq!(socket.next().await.unwrap().expect("it is open"), Message::text("still here"));
    stream.write_all(b"still here").await.expect("the TCP connection is open");
    let mut back = [0; 10];
    stream.read_exact(&mut back).await.expect("it is open");
    assert_eq!(&back, b"still here");
    let samples = load.finish().await;
    let failed: Vec<_> = samples.iter().filter(|sample| sample.failed()).collect();
    println!("{} requests over {:?} renewals", samples.len(), renewals(&mesh));
    assert!(
        samples.len() > 100 && failed.is_empty(),
        "{} of {} failed: {:?}",
        failed.len(),
        samples.len(),
        failed.first()
    );
    assert_eq!(get(proxy, &echo).await.expect("a new connection is taken").status, 200);
    mesh.mesh.supervisor.stop().await;
}

fn renewals(mesh: &Raised) -> Vec<usize> {
    let count = |(cluster, process): &(&str, &str)| {
        let log = mesh.mesh.state.log(&mesh.cluster(cluster).name, process);
        std::fs::read_to_string(log).unwrap_or_default().matches("leaf renewed").count()
    };
    TAKE_PART.iter().map(count).collect()
}

async fn websocket(address: SocketAddr) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("the sidecar listens for the service");
    let (mut socket, _) = client_async(format!("ws://{address}/chat"), stream).await.expect("echo switches");
    socket.next().await.expect("it is open").expect("echo says what it received");
    socket
}

async fn tcp(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect((address.ip(), 9000)).await.expect("the sidecar listens for the service");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.expect("the server speaks first");
    assert!(line.contains("us-east"), "{line}");
    stream
}
