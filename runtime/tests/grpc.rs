//! The gRPC server outlives strangers, and the channel finds a server that comes back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod support;

use std::net::SocketAddr;

use isthmus_runtime::{
    drain::Drain,
    grpc::{self, PeerIdentity},
    identity::Identity,
    listen,
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
    net::{TcpListener, TcpStream},
};
use tonic::{Request, Response, Status, service::Routes};

const SERVER: &str = "spiffe://east.mesh/ns/isthmus-system/sa/control";
const CLIENT: &str = "spiffe://east.mesh/ns/shop/sa/cart";

/// Says who calls.
struct Echo;

#[tonic::async_trait]
impl CertificateAuthority for Echo {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let who = PeerIdentity::of(&request).map_or("nobody".to_owned(), |id| id.to_string());
        Ok(Response::new(IssueResponse { chain: vec![who.into_bytes()], ..Default::default() }))
    }
}

fn serve(listener: TcpListener, identity: &Identity, drain: &Drain) -> tokio::task::JoinHandle<()> {
    let config = tls::server_config(identity, Accept::Any, &[grpc::ALPN], ClientAuth::Optional);
    let routes = Routes::new(CertificateAuthorityServer::new(Echo));
    tokio::spawn(grpc::serve(listener, config, routes, drain.clone()))
}

async fn call(identity: &Identity, address: SocketAddr) -> Result<String, String> {
    let channel = grpc::channel(identity, address, Accept::one(SERVER.parse().unwrap()));
    ask(&mut CertificateAuthorityClient::new(channel)).await
}

async fn ask(client: &mut CertificateAuthorityClient<tonic::transport::Channel>) -> Result<String, String> {
    let answer = soon("an answer", client.issue(IssueRequest::default())).await;
    let mut chain = answer.map_err(|status| grpc::reason(&status))?.into_inner().chain;
    Ok(String::from_utf8(chain.pop().unwrap()).unwrap())
}

#[tokio::test]
async fn random_bytes_half_open_connections_and_plain_http_disturb_nobody() {
    let root = Root::new();
    let drain = Drain::new();
    let (listener, address) = listener();
    serve(listener, &root.identity(SERVER), &drain);
    let client = root.identity(CLIENT);
    let _half_open = TcpStream::connect(address).await.unwrap();
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", &[0xA9; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(garbage).await.unwrap();
        stranger.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = soon("the server to hang up", stranger.read_to_end(&mut rest)).await;
        assert_eq!(call(&client, address).await.unwrap(), CLIENT);
    }
    // Inside a good handshake too: bytes that are no HTTP/2.
    let config = tls::client_config(&client, Accept::Any, &[grpc::ALPN]);
    let name = rustls_pki_types::ServerName::try_from("x").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    stream.write_all(&[7; 10_000]).await.unwrap();
    let _ = soon("the server to hang up", stream.read_to_end(&mut Vec::new())).await;
    assert_eq!(call(&client, address).await.unwrap(), CLIENT);
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_nobody_and_one_of_a_foreign_root_is_no_caller() {
    let root = Root::new();
    let (listener, address) = listener();
    serve(listener, &root.identity(SERVER), &Drain::new());
    let accept = Accept::one(SERVER.parse().unwrap());
    let anonymous = tls::anonymous_client_config(root.trust("east.mesh"), accept.clone(), &[grpc::ALPN]);
    let mut client = CertificateAuthorityClient::new(grpc::channel_with(anonymous, address));
    assert_eq!(ask(&mut client).await.unwrap(), "nobody");
    let stranger = Root::new().leaf(CLIENT);
    assert!(call(&Identity::new(stranger, root.trust("east.mesh")), address).await.is_err());
    let elsewhere = tls::anonymous_client_config(Root::new().trust("east.mesh"), accept, &[grpc::ALPN]);
    let mut client = CertificateAuthorityClient::new(grpc::channel_with(elsewhere, address));
    let reason = ask(&mut client).await.unwrap_err();
    assert!(reason.contains("signed by no root of its own trust domain"), "{reason}");
}

#[tokio::test]
async fn a_channel_finds_a_server_that_comes_back_and_names_one_that_is_away() {
    let root = Root::new();
    let (identity, client) = (root.identity(SERVER), root.identity(CLIENT));
    let (first, address) = listener();
    let drain = Drain::new();
    let serving = serve(first, &identity, &drain);
    let channel = grpc::channel(&client, address, Accept::Any);
    let mut client = CertificateAuthorityClient::new(channel);
    assert_eq!(ask(&mut client).await.unwrap(), CLIENT);
    drain.trigger().close("test");
    soon("the server to end", serving).await.unwrap();
    let reason = loop {
        // A call that was under way when the server ended may still be answered.
        if let Err(reason) = ask(&mut client).await
            && reason.contains("refused")
        {
            break reason;
        }
        tokio::task::yield_now().await;
    };
    assert!(reason.contains(&address.to_string()), "{reason}");
    serve(listen::tcp(address).unwrap(), &identity, &Drain::new());
    let back = async {
        while ask(&mut client).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("the channel to be back", back).await;
}
