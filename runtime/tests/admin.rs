//! What an operator and a scraper find on the three ports.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod support;

use std::net::SocketAddr;

use axum::{Router, routing::get};
use isthmus_runtime::{
    admin::{Admin, PORTS, Ports},
    drain::Drain,
    metrics,
    readiness::Readiness,
};
use support::soon;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const ANY: Ports = Ports { admin: 0, metrics: 0, health: 0 };

async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_second_process_on_the_address_learns_that_another_holds_it() {
    let address = "127.91.4.1".parse().unwrap();
    let _first = Admin::bind_at(address, PORTS, "gateway", "gw").unwrap();
    let error = Admin::bind_at(address, PORTS, "gateway", "gw").err().unwrap().to_string();
    for part in ["gateway gw", "127.91.4.1:15000", "another process holds it", "running already"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[tokio::test]
async fn health_metrics_dump_and_drain_are_where_they_should_be() {
    let (readiness, drain) = (Readiness::new(), Drain::new());
    let feed = readiness.needs("feed");
    let admin = Admin::bind_at("127.0.0.1".parse().unwrap(), ANY, "proxy", "cart")
        .unwrap()
        .router(Router::new().route("/tunnels", get(|| async { "none\n" })))
        .config_dump(|| serde_json::json!({ "services": 3 }));
    let [on_admin, on_metrics, on_health] = admin.addresses()[..] else { panic!("three ports") };
    tokio::spawn(admin.serve(metrics::registry("proxy").unwrap(), readiness.clone(), drain.clone()));

    let answer = ask(on_health, "GET", "/healthz/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"feed\""), "{answer}");
    feed.ready();
    assert!(ask(on_health, "GET", "/healthz/ready").await.starts_with("HTTP/1.1 200"));
    assert!(ask(on_metrics, "GET", "/stats/prometheus").await.contains("isthmus_build_info{role=\"proxy\""));
    assert!(ask(on_admin, "GET", "/config_dump").await.contains("{\"services\":3}"));
    assert!(ask(on_admin, "GET", "/tunnels").await.ends_with("none\n"));
    assert!(ask(on_admin, "GET", "/version").await.contains("\"name\":\"cart\""));
    assert!(ask(on_metrics, "POST", "/drain").await.starts_with("HTTP/1.1 404"), "verbs are on the admin port only");
    assert!(ask(on_admin, "POST", "/drain").await.ends_with("draining\n"));
    assert!(drain.is_draining());
    assert!(ask(on_admin, "GET", "/healthz").await.ends_with("ok\n"), "it answers during the drain");
}

#[tokio::test]
async fn floods_and_half_open_connections_are_cut_and_disturb_nobody() {
    let drain = Drain::new();
    let admin = Admin::bind_at("127.0.0.1".parse().unwrap(), ANY, "proxy", "cart").unwrap();
    let address = admin.addresses()[0];
    tokio::spawn(admin.serve(metrics::registry("proxy").unwrap(), Readiness::new(), drain));
    let _half_open = TcpStream::connect(address).await.unwrap();
    let mut flood = TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    let _ = flood.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = soon("the cut", flood.read_to_end(&mut answer)).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage.write_all(&[0xA9; 1000]).await.unwrap();
    let _ = soon("the cut", garbage.read_to_end(&mut Vec::new())).await;
    assert!(ask(address, "GET", "/healthz").await.ends_with("ok\n"));
}
