//! Whom a handshake lets in, and what it says to those it does not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use isthmus_runtime::{
    identity::Identity,
    tls::{self, Accept, ClientAuth, PeerRefused},
};
use rustls_pki_types::ServerName;
use support::{Root, both, listener, soon};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

const EAST: &str = "spiffe://east.mesh/ns/shop/sa/cart";
const WEST: &str = "spiffe://west.mesh/ns/shop/sa/cart";

/// A server that says who called, one line a byte received.
async fn serve(identity: &Identity, accept: Accept) -> std::net::SocketAddr {
    let (listener, address) = listener();
    let config = tls::server_config(identity, accept, &[b"test"], ClientAuth::Required);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let who = tls::peer_spiffe(stream.get_ref().1.peer_certificates()).unwrap().to_string();
                while stream.read_u8().await.is_ok() {
                    let _ = stream.write_all(format!("{who}\n").as_bytes()).await;
                }
            });
        }
    });
    address
}

async fn dial(
    identity: &Identity,
    accept: Accept,
    address: std::net::SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = tls::client_config(identity, accept, &[b"test"]);
    let name = ServerName::try_from("any.name").unwrap();
    TlsConnector::from(config).connect(name, TcpStream::connect(address).await?).await
}

/// One byte there, one line back: TLS 1.3 tells a client that it was refused only when it reads.
async fn ask(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    stream.write_u8(b'?').await?;
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8(line).unwrap()),
            byte => line.push(byte),
        }
    }
}

fn refused(roots: &isthmus_runtime::trust::TrustRoots, der: rustls_pki_types::CertificateDer<'_>) -> PeerRefused {
    tls::verify_chain(roots, &[der], SystemTime::now()).unwrap_err()
}

#[tokio::test]
async fn two_trust_domains_that_know_each_other_talk_and_see_who_calls() {
    let (east, west) = (Root::new(), Root::new());
    let (client, server) = (east.identity(EAST), west.identity(WEST));
    client.set_trust(both((&east, "east.mesh"), (&west, "west.mesh")));
    server.set_trust(both((&east, "east.mesh"), (&west, "west.mesh")));
    let address = serve(&server, Accept::Any).await;
    let mut stream = dial(&client, Accept::one(WEST.parse().unwrap()), address).await.unwrap();
    assert_eq!(soon("an answer", ask(&mut stream)).await.unwrap(), EAST);
    assert_eq!(
        stream.get_ref().1.negotiated_cipher_suite().unwrap().suite(),
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
    );
}

#[tokio::test]
async fn a_root_can_vouch_for_no_name_of_another_domain() {
    let (east, west) = (Root::new(), Root::new());
    let roots = both((&east, "east.mesh"), (&west, "west.mesh"));
    let (forged, _) = west.sign(&[EAST], |_| {});
    let text = refused(&roots, forged).to_string();
    assert!(text.contains("signed by no root of its own trust domain east.mesh (known roots: 1)"), "{text}");

    // And in a handshake: a server of west that claims a name of east.
    let liar = Identity::new(west.leaf(EAST), roots.clone());
    let client = east.identity(EAST);
    client.set_trust(roots);
    let error = dial(&client, Accept::Any, serve(&liar, Accept::Any).await).await.unwrap_err();
    let error = tls::explain(&error);
    assert!(error.contains("signed by no root of its own trust domain"), "{error}");
}

#[tokio::test]
async fn a_client_of_an_unknown_domain_gets_no_answer() {
    let (east, west) = (Root::new(), Root::new());
    let (client, server) = (east.identity(EAST), west.identity(WEST));
    client.set_trust(both((&east, "east.mesh"), (&west, "west.mesh")));
    let address = serve(&server, Accept::Any).await;
    // TLS 1.3: the client is done before the server has seen its certificate.
    let answer = match dial(&client, Accept::Any, address).await {
        Ok(mut stream) => soon("a refusal", ask(&mut stream)).await,
        Err(error) => Err(error),
    };
    assert!(answer.is_err());
    let text = refused(&server.trust(), east.sign(&[EAST], |_| {}).0).to_string();
    assert!(text.contains("east.mesh is not known here"), "{text}");
}

#[test]
fn a_leaf_has_exactly_one_name_and_that_is_a_spiffe_id() {
    let east = Root::new();
    let roots = east.trust("east.mesh");
    let two = east.sign(&[EAST, "spiffe://east.mesh/ns/shop/sa/admin"], |_| {}).0;
    assert_eq!(refused(&roots, two), PeerRefused::Names { count: 2 });
    let mixed = east.sign(&[EAST, "https://example.com/"], |_| {}).0;
    assert_eq!(refused(&roots, mixed), PeerRefused::Names { count: 2 });
    assert_eq!(refused(&roots, east.sign(&[], |_| {}).0), PeerRefused::Names { count: 0 });
    for strange in ["https://east.mesh/ns/shop/sa/cart", "spiffe://east.mesh/cart", "spiffe://east.mesh/ns/a/sa/b/c"] {
        assert!(
            matches!(refused(&roots, east.sign(&[strange], |_| {}).0), PeerRefused::NotASpiffeId { .. }),
            "{strange}"
        );
    }
}

#[test]
fn time_and_usage_of_a_leaf_are_checked_and_named() {
    let east = Root::new();
    let roots = east.trust("east.mesh");
    let hour = Duration::from_secs(3600);
    let late = east.sign(&[EAST], |params| {
        params.not_before = OffsetDateTime::now_utc() - 2 * hour;
        params.not_after = OffsetDateTime::now_utc() - hour;
    });
    let text = refused(&roots, late.0).to_string();
    assert!(text.contains("expired") && text.contains("clock"), "{text}");
    let early = east.sign(&[EAST], |params| params.not_before = OffsetDateTime::now_utc() + hour / 12);
    let text = refused(&roots, early.0).to_string();
    assert!(text.contains("not valid yet") && text.contains("clock"), "{text}");
    let unused = east.sign(&[EAST], |params| params.extended_key_usages.clear());
    assert!(matches!(refused(&roots, unused.0), PeerRefused::Unusable { .. }));
    let garbage = rustls_pki_types::CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    assert!(matches!(refused(&roots, garbage), PeerRefused::NotACertificate { .. }));
}

#[tokio::test]
async fn a_good_identity_that_was_not_expected_is_refused_by_both_names() {
    let east = Root::new();
    let server = east.identity("spiffe://east.mesh/ns/shop/sa/impostor");
    let address = serve(&server, Accept::Any).await;
    let error = dial(&east.identity(EAST), Accept::one(EAST.parse().unwrap()), address).await.unwrap_err();
    let shown = error.to_string();
    let error = tls::explain(&error);
    assert_eq!(tls::explain_text(&shown), error, "the same where only the text is left: {shown}");
    assert!(error.contains("sa/impostor") && error.contains("sa/cart"), "{error}");
    let rule = Accept::OneOf(Arc::new(|id| id.service_account() == "impostor"));
    assert!(dial(&east.identity(EAST), rule, address).await.is_ok());
}

#[tokio::test]
async fn a_renewed_leaf_serves_new_connections_and_open_ones_do_not_notice() {
    let east = Root::new();
    let (client, server) = (east.identity(EAST), east.identity("spiffe://east.mesh/ns/shop/sa/web"));
    let address = serve(&server, Accept::Any).await;
    let mut old = dial(&client, Accept::Any, address).await.unwrap();
    let before = old.get_ref().1.peer_certificates().unwrap().to_vec();
    let waiting = tokio::spawn({
        let mut renewals = server.renewals();
        async move { renewals.changed().await }
    });
    server.set_leaf(east.leaf("spiffe://east.mesh/ns/shop/sa/web"));
    client.set_leaf(east.leaf(EAST));
    soon("the renewal", waiting).await.unwrap().unwrap();
    assert_eq!(soon("an answer", ask(&mut old)).await.unwrap(), EAST);
    let new = dial(&client, Accept::Any, address).await.unwrap();
    assert_ne!(new.get_ref().1.peer_certificates().unwrap().to_vec(), before);
}

#[tokio::test]
async fn own_roots_stay_and_an_ejected_domain_is_refused_from_then_on() {
    let (east, west) = (Root::new(), Root::new());
    let (client, server) = (east.identity(EAST), west.identity(WEST));
    client.set_trust(both((&east, "east.mesh"), (&west, "west.mesh")));
    server.set_trust(both((&east, "east.mesh"), (&west, "west.mesh")));
    let address = serve(&server, Accept::Any).await;
    assert!(dial(&client, Accept::Any, address).await.is_ok());
    let version = client.trust_version();
    client.set_trust(isthmus_runtime::trust::TrustRoots::new());
    assert!(client.trust_version() > version);
    assert_eq!(client.trust().roots(&"east.mesh".parse().unwrap()).len(), 1, "own roots stay");
    let error = dial(&client, Accept::Any, address).await.unwrap_err();
    let error = tls::explain(&error);
    assert!(error.contains("west.mesh is not known here"), "{error}");
}
