//! The certificate of a server that is known by its name, as a client takes it that knows the root and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use isthmus_ca::{Ca, CaError, ServerLeaf, Settings};
use isthmus_runtime::tls;
use rustls_pki_types::ServerName;
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs},
};

const NAMES: [&str; 2] = ["isthmus-control.isthmus-system.svc", "isthmus-control.isthmus-system.svc.cluster.local"];
const HOUR: Duration = Duration::from_secs(3600);

fn ca(dir: &tempfile::TempDir, leaf_ttl: Duration) -> Ca {
    let settings = Settings { leaf_ttl, ..Settings::default() };
    Ca::open_or_create(dir.path(), &"mesh.local".parse().unwrap(), &"east".parse().unwrap(), settings).unwrap()
}

/// Whether a client that trusts the CA's root and expects `name` takes the server.
async fn is_taken(ca: &Ca, leaf: ServerLeaf, name: &'static str) -> bool {
    let mut roots = RootCertStore::empty();
    for root in ca.roots() {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(leaf.chain, leaf.key.into()).unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(async move { TlsAcceptor::from(Arc::new(server)).accept(far).await.is_ok() });
    let connected = TlsConnector::from(Arc::new(client)).connect(ServerName::try_from(name).unwrap(), near).await;
    // Held until the server is done: it still has something to say.
    serving.await.unwrap() && connected.is_ok()
}

#[tokio::test]
async fn clients_that_know_the_root_take_it_under_its_names_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(&dir, HOUR);
    for name in NAMES {
        assert!(is_taken(&ca, ca.server_leaf(&NAMES, HOUR).unwrap(), name).await, "{name}");
    }
    assert!(!is_taken(&ca, ca.server_leaf(&NAMES, HOUR).unwrap(), "elsewhere.isthmus-system.svc").await);
}

#[test]
fn it_is_nobody_in_the_mesh_and_lives_no_longer_than_a_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(&dir, HOUR);
    let leaf = ca.server_leaf(&NAMES, Duration::MAX).unwrap();
    assert!(tls::spiffe_of(&leaf.chain[0]).is_err());
    assert!(tls::verify_chain(&ca.trust_roots(), &leaf.chain, SystemTime::now()).is_err());
    assert!(leaf.not_before <= SystemTime::now() && leaf.not_after <= SystemTime::now() + HOUR);
    assert!(leaf.not_after > SystemTime::now() + HOUR / 2);
    for names in [&[][..], &["ünïcode"], &["not a name"]] {
        let refused = ca.server_leaf(names, HOUR);
        assert!(matches!(refused, Err(CaError::Request(_))), "{names:?}: {refused:?}");
    }
}
