//! HTTP/2 as an attacker speaks it, inside a good handshake: bounded memory, and others are served meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

#[path = "support/frames.rs"]
mod frames;
mod support;

use std::{net::SocketAddr, time::Duration};

use frames::{Attack, PREFACE, attacks};
use isthmus_runtime::{
    drain::Drain,
    grpc,
    identity::Identity,
    tls::{self, Accept, ClientAuth},
};
use isthmus_wire::identity::{
    IssueRequest, IssueResponse,
    certificate_authority_client::CertificateAuthorityClient,
    certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer},
};
use support::{Root, listener, soon};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Request, Response, Status, service::Routes};

const SERVER: &str = "spiffe://east.mesh/ns/isthmus-system/sa/control";
const CLIENT: &str = "spiffe://east.mesh/ns/shop/sa/cart";
/// What an attack may say, bytes.
const SAID: usize = 6 << 20;
/// What it may cost in memory, bytes: both ends of it live in this process.
const COST: usize = 16 << 20;

struct Empty;

#[tonic::async_trait]
impl CertificateAuthority for Empty {
    async fn issue(&self, _: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        Ok(Response::new(IssueResponse::default()))
    }
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Attacks until all is said or the server hangs up; says how much was said.
async fn mount(mut attack: Attack, client: &Identity, address: SocketAddr) -> usize {
    let config = tls::client_config(client, Accept::Any, &[grpc::ALPN]);
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(config).connect("x".try_into().unwrap(), stream).await.unwrap();
    let (mut from, mut to) = tokio::io::split(stream);
    // Answers are read: a server must not be saved by a client that is slow to read.
    let reading = tokio::spawn(async move { while from.read(&mut [0; 65_536]).await.is_ok_and(|read| read > 0) {} });
    let mut said = 0;
    let speaking = async {
        to.write_all(PREFACE).await?;
        to.write_all(&attack.first).await?;
        while said < SAID {
            let bytes = (attack.again)();
            to.write_all(&bytes).await?;
            said += bytes.len();
        }
        std::io::Result::Ok(())
    };
    // Some seconds of it are as good as all of it.
    let _ = tokio::time::timeout(Duration::from_secs(3), speaking).await;
    reading.abort();
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attack_costs_memory_or_anybody_elses_calls() {
    let root = Root::new();
    let (listener, address) = listener();
    let config = tls::server_config(&root.identity(SERVER), Accept::Any, &[grpc::ALPN], ClientAuth::Required);
    let routes = Routes::new(CertificateAuthorityServer::new(Empty));
    tokio::spawn(grpc::serve(listener, config, routes, Drain::new()));
    let client = root.identity(CLIENT);
    let mut honest = CertificateAuthorityClient::new(grpc::channel(&client, address, Accept::Any));
    soon("an answer", honest.issue(IssueRequest::default())).await.unwrap();
    for attack in attacks() {
        let (name, before) = (attack.name, resident());
        let mounting = mount(attack, &client, address);
        tokio::pin!(mounting);
        let (mut calls, mut most) = (0, before);
        let said = loop {
            tokio::select! {
                said = &mut mounting => break said,
                answer = soon("an answer meanwhile", honest.issue(IssueRequest::default())) => {
                    answer.unwrap_or_else(|status| panic!("{name}: {status}"));
                    calls += 1;
                    most = most.max(resident());
                }
            }
        };
        println!(
            "{name}: {said} bytes said, {calls} calls answered meanwhile, {} KiB more in memory",
            (most - before) / 1024
        );
        soon("an answer", honest.issue(IssueRequest::default())).await.unwrap();
        assert!(most.max(resident()) - before < COST, "{name}: {} bytes more after {said}", most - before);
    }
}
