//! Enrolment tokens of every wrong kind, over the wire: each is refused in words that say which kind, and no leaf.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::time::{Duration, SystemTime};

use isthmus_ca::{
    Ca, Settings,
    token::{self, Claims, TokenError},
};
use isthmus_core::name::SpiffeId;
use isthmus_runtime::{
    drain::Drain,
    enrolment::system_identity,
    grpc,
    identity::Identity,
    listen,
    tls::{self, Accept, ClientAuth},
};
use isthmus_wire::identity::{IssueRequest, certificate_authority_client::CertificateAuthorityClient};
use proptest::prelude::*;
use tonic::{Code, Status, service::Routes};

const KEY: [u8; 32] = [7; 32];

fn open(name: &str) -> (tempfile::TempDir, Ca) {
    let dir = tempfile::tempdir().unwrap();
    let (mesh, name) = ("mesh.local".parse().unwrap(), name.parse().unwrap());
    let ca = Ca::open_or_create(dir.path(), &mesh, &name, Settings::default()).unwrap();
    (dir, ca)
}

fn csr() -> Vec<u8> {
    let params = rcgen::CertificateParams::default();
    params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

struct Served {
    client: CertificateAuthorityClient<tonic::transport::Channel>,
    _dir: tempfile::TempDir,
}

/// A CA that is served, and a caller: without an identity, or with this one.
fn served(caller: Option<&Identity>) -> (Served, Ca) {
    let (dir, ca) = open("east");
    let control = system_identity(ca.trust_domain(), "control").unwrap();
    let identity = Identity::new(ca.issue_local(&control).unwrap(), ca.trust_roots());
    if let Some(caller) = caller {
        // Both know each other's roots: what is refused is not refused for want of trust.
        let mut roots = ca.trust_roots();
        let domain = caller.spiffe().trust_domain().clone();
        caller.trust().roots(&domain).iter().for_each(|root| roots.add(&domain, root.clone()));
        identity.set_trust(roots.clone());
        caller.set_trust(roots);
    }
    let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let config = tls::server_config(&identity, Accept::Any, &[grpc::ALPN], ClientAuth::Optional);
    let routes = Routes::new(isthmus_ca::service(ca.clone(), None));
    tokio::spawn(grpc::serve(listener, config, routes, Drain::new()));
    let config = match caller {
        None => tls::anonymous_client_config(ca.trust_roots(), Accept::one(control), &[grpc::ALPN]),
        Some(caller) => tls::client_config(caller, Accept::one(control), &[grpc::ALPN]),
    };
    let client = CertificateAuthorityClient::new(grpc::channel_with(config, address));
    (Served { client, _dir: dir }, ca)
}

async fn refused(client: &mut CertificateAuthorityClient<tonic::transport::Channel>, token: &str) -> Status {
    let request = IssueRequest { csr: csr(), enrolment: token.into(), ttl_seconds: 0 };
    tokio::time::timeout(Duration::from_secs(20), client.issue(request)).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn malformed_tokens_are_called_no_tokens_and_strange_ones_not_this_cas() {
    let (mut served, _ca) = served(None);
    let claims = Claims { ns: "shop".into(), sa: "cart".into(), workload: "cart-1".into(), exp: u64::MAX };
    let strange = token::mint(&KEY, &claims);
    for malformed in ["hello", "a.!!", &"x".repeat(10_000), "isthmus1.abc"] {
        let status = refused(&mut served.client, malformed).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{malformed:.40}");
        let said = status.message();
        assert!(said.contains("no enrolment token") || said.contains("not minted by this cluster's CA"), "{said}");
    }
    let said = refused(&mut served.client, &strange).await;
    assert!(said.message().contains("not minted by this cluster's CA"), "{said}");
}

#[tokio::test]
async fn a_workload_of_another_trust_domain_gets_no_leaf_of_this_one_by_its_identity() {
    let (_dir, west) = open("west");
    let id: SpiffeId = "spiffe://west.mesh.local/ns/isthmus-system/sa/control".parse().unwrap();
    let thief = Identity::new(west.issue_local(&id).unwrap(), west.trust_roots());
    let (mut served, _ca) = served(Some(&thief));
    let status = refused(&mut served.client, "").await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("west.mesh.local") && status.message().contains("east.mesh.local"), "{status}");
}

proptest! {
    #[test]
    fn no_text_is_a_token_but_a_minted_one(text in "\\PC{0,120}", front in "[A-Za-z0-9_-]{0,60}", tag in "[A-Za-z0-9_-]{43}") {
        for text in [text, format!("{front}.{tag}"), format!("{front}.")] {
            let refused = token::verify(&KEY, &text, SystemTime::now());
            prop_assert!(matches!(refused, Err(TokenError::Malformed(_) | TokenError::Forged)), "{refused:?}");
        }
    }

    #[test]
    fn what_was_minted_says_what_it_was_minted_for(ns in "\\PC{0,20}", sa in "\\PC{0,20}", workload in "\\PC{0,20}") {
        let claims = Claims { ns, sa, workload, exp: u64::MAX };
        prop_assert_eq!(token::verify(&KEY, &token::mint(&KEY, &claims), SystemTime::now()), Ok(claims));
    }
}
