//! Those who hold connections open, by the hundred, half a word said on each: nobody else waits for them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod support;

use std::{net::SocketAddr, sync::Arc};

use isthmus_runtime::{
    admin::{Admin, Ports},
    drain::Drain,
    grpc,
    identity::Identity,
    metrics,
    readiness::Readiness,
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
use tokio_rustls::TlsConnector;
use tonic::{Request, Response, Status, service::Routes};

const SERVER: &str = "spiffe://east.mesh/ns/isthmus-system/sa/control";
const CLIENT: &str = "spiffe://east.mesh/ns/shop/sa/cart";
/// More than any of the servers here has places.
const FLOOD: usize = 600;

struct Silent;

#[tonic::async_trait]
impl CertificateAuthority for Silent {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let length = request.into_inner().csr.len().to_string();
        Ok(Response::new(IssueResponse { chain: vec![length.into_bytes()], ..Default::default() }))
    }
}

fn serve(root: &Root) -> SocketAddr {
    let (listener, address) = listener();
    let config = tls::server_config(&root.identity(SERVER), Accept::Any, &[grpc::ALPN], ClientAuth::Optional);
    let routes = Routes::new(CertificateAuthorityServer::new(Silent));
    tokio::spawn(grpc::serve(listener, config, routes, Drain::new()));
    address
}

async fn call(client: &Identity, address: SocketAddr) {
    let mut client =
        CertificateAuthorityClient::new(grpc::channel(client, address, Accept::one(SERVER.parse().unwrap())));
    soon("an answer", client.issue(IssueRequest::default())).await.unwrap();
}

/// The first bytes of a handshake, as a client with no certificate says them.
fn client_hello(root: &Root) -> Vec<u8> {
    let config = tls::anonymous_client_config(root.trust("east.mesh"), Accept::Any, &[grpc::ALPN]);
    let mut client = rustls::ClientConnection::new(config, "x".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_beyond_all_places_keep_nobody_waiting() {
    let root = Root::new();
    let (address, client, hello) = (serve(&root), root.identity(CLIENT), client_hello(&root));
    let mut flood = vec![];
    for turn in 0..FLOOD {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        // Silent, cut in the middle of the ClientHello, and silent after it, in turn.
        let said = [0, hello.len() / 2, hello.len()][turn % 3];
        stranger.write_all(&hello[..said]).await.unwrap();
        flood.push(stranger);
    }
    let began = std::time::Instant::now();
    call(&client, address).await;
    println!("with {FLOOD} half-open handshakes a call took {:?}", began.elapsed());
    // Those that hold a place longest have to leave at once, not after their five seconds.
    let first = soon("the first of the flood to leave", flood[0].read(&mut [0; 1])).await;
    assert!(matches!(first, Ok(0) | Err(_)), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_without_an_identity_that_stay_for_ever_or_say_too_much_take_nothing_from_others() {
    let root = Root::new();
    let (address, client) = (serve(&root), root.identity(CLIENT));
    let config = tls::anonymous_client_config(root.trust("east.mesh"), Accept::Any, &[grpc::ALPN]);
    let connector = TlsConnector::from(config.clone());
    let mut guests = vec![];
    for _ in 0..300 {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut guest = soon("a handshake", connector.connect("x".try_into().unwrap(), stream)).await.unwrap();
        guest.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        guests.push(guest);
    }
    call(&client, address).await;
    let mut first = guests.remove(0);
    let _ = soon("the first guest to leave", first.read_to_end(&mut vec![])).await;

    let mut greedy = CertificateAuthorityClient::new(grpc::channel_with(config, address));
    let small = greedy.issue(IssueRequest { csr: vec![7; 8_000], ..Default::default() });
    assert_eq!(soon("an answer", small).await.unwrap().into_inner().chain[0], b"8000");
    let large = greedy.issue(IssueRequest { csr: vec![7; 3_000_000], ..Default::default() });
    assert!(soon("the end", large).await.is_err(), "three megabytes of somebody unknown are not kept");
    call(&client, address).await;
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// Half a head; a whole head and a body that never comes; and requests without end whose answers nobody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_bodies_and_readers_on_the_ports_of_operators_keep_nobody_out() {
    let ports = Ports { admin: 0, metrics: 0, health: 0 };
    let admin = Admin::bind_at("127.0.0.1".parse().unwrap(), ports, "proxy", "cart").unwrap();
    let addresses = admin.addresses();
    let routes = axum::Router::new().route("/take", axum::routing::post(async |body: String| body));
    tokio::spawn(admin.router(routes).serve(metrics::registry("proxy").unwrap(), Readiness::new(), Drain::new()));
    let pipelined = Arc::new("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(4));
    let mut flood = vec![];
    for (turn, address) in addresses.iter().cycle().take(3 * 300).enumerate() {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        let said = match turn / 3 % 3 {
            0 => "GET / HT",
            1 => "POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nno more",
            _ => pipelined.as_str(),
        };
        let _ = stranger.write_all(said.as_bytes()).await;
        flood.push(stranger);
    }
    assert!(get(addresses[0], "/version").await.starts_with("HTTP/1.1 200"));
    assert!(get(addresses[1], "/metrics").await.contains("isthmus_build_info"));
    assert!(get(addresses[2], "/healthz").await.ends_with("ok\n"));
}
