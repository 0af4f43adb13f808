//! A CA on loopback and the processes that come to it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use isthmus_ca::{
    Ca, Settings,
    enrol::{Asked, mint},
};
use isthmus_core::name::{ClusterName, Locality, MeshDomain, SpiffeId};
use isthmus_runtime::{
    config::Common,
    drain::Drain,
    enrolment::{EnrolError, enrol, system_identity},
    grpc,
    identity::Identity,
    listen, pass,
    tls::{self, Accept, ClientAuth},
};
use isthmus_wire::identity::{IssueRequest, certificate_authority_client::CertificateAuthorityClient};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::service::Routes;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A cluster's CA, served as control serves it.
struct Cluster {
    dir: TempDir,
    name: ClusterName,
    mesh: MeshDomain,
    ca: Ca,
    control: Identity,
    address: SocketAddr,
    drain: Drain,
}

impl Cluster {
    fn new(leaf_ttl: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (name, mesh): (ClusterName, MeshDomain) = ("east".parse().unwrap(), "mesh.local".parse().unwrap());
        let settings = Settings { leaf_ttl, ..Settings::default() };
        let ca = Ca::open_or_create(&dir.path().join("ca"), &mesh, &name, settings).unwrap();
        let drain = Drain::new();
        let id = system_identity(ca.trust_domain(), "control").unwrap();
        let control = ca.local_identity(&id, drain.clone()).unwrap();
        let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let cluster = Self { dir, name, mesh, ca, control, address, drain };
        cluster.serve(listener);
        cluster
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let tls = tls::server_config(&self.control, Accept::Any, &[grpc::ALPN], ClientAuth::Optional);
        let routes = Routes::new(isthmus_ca::service(self.ca.clone(), None));
        tokio::spawn(grpc::serve(listener, tls, routes, self.drain.clone()));
    }

    fn id(&self, namespace: &str, account: &str) -> SpiffeId {
        SpiffeId::new(self.ca.trust_domain().clone(), namespace, account).unwrap()
    }

    /// Configuration of a process that may enrol as `namespace/account`.
    fn common(&self, namespace: &str, account: &str, ttl: Duration) -> Common {
        let control = self.address.to_string();
        let asked = Asked {
            trust_domain: self.ca.trust_domain().clone(),
            namespace,
            service_account: account,
            workload: account,
            ttl,
            control: &control,
        };
        let enrolment: PathBuf = self.dir.path().join(format!("{account}.json"));
        mint(&self.dir.path().join("ca"), &asked).unwrap().write(&enrolment).unwrap();
        Common {
            mesh: self.mesh.clone(),
            cluster: self.name.clone(),
            locality: Locality::default(),
            name: account.to_owned(),
            address: self.address.ip(),
            state_dir: self.dir.path().join(format!("{account}.state")),
            enrolment: Some(enrolment.into()),
            admin: None,
            log: None,
        }
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(60), future).await;
    ended.unwrap_or_else(|_| panic!("{what} did not happen within 60 s"))
}

/// A CSR that claims everything.
fn greedy_csr() -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![
        SanType::URI("spiffe://east.mesh.local/ns/isthmus-system/sa/control".try_into().unwrap()),
        SanType::DnsName("bank.example".try_into().unwrap()),
    ];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[tokio::test]
async fn what_a_csr_claims_counts_for_nothing() {
    let cluster = Cluster::new(DAY);
    let id = cluster.id("shop", "cart");
    let response = cluster.ca.issue(&id, &greedy_csr(), Some(10 * DAY)).unwrap();
    let der = CertificateDer::from(response.chain[0].clone());
    assert_eq!(
        tls::verify_chain(&cluster.ca.trust_roots(), std::slice::from_ref(&der), SystemTime::now()).unwrap(),
        id
    );
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.flags.count_ones() == 1);
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.server_auth && !extended.code_signing && !extended.any);
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert!(life <= 24 * 3600 + 62, "a longer wish is cut: {life} s");
}

#[tokio::test]
async fn a_csr_that_is_none_or_is_not_signed_by_its_key_is_refused() {
    let cluster = Cluster::new(DAY);
    let id = cluster.id("shop", "cart");
    let good = greedy_csr();
    for at in [good.len() - 1, good.len() / 2] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(cluster.ca.issue(&id, &changed, None).is_err());
    }
    for cut in [&good[..good.len() - 1], &[], &[0x30; 100_000]] {
        assert!(cluster.ca.issue(&id, cut, None).is_err());
    }
    let other: SpiffeId = "spiffe://west.mesh.local/ns/shop/sa/cart".parse().unwrap();
    assert!(cluster.ca.issue(&other, &good, None).unwrap_err().to_string().contains("vouches for"));
}

#[tokio::test]
async fn a_process_enrols_by_token_and_begins_again_from_disk_without_the_ca() {
    let cluster = Cluster::new(DAY);
    let common = cluster.common("shop", "cart", DAY);
    let identity = soon("the enrolment", enrol(&common, &cluster.drain)).await.unwrap();
    assert_eq!(identity.spiffe(), cluster.id("shop", "cart"));
    assert!(identity.leaf().pass_roots.is_empty(), "pass roots are for gateways");

    cluster.drain.trigger().close("test");
    let again = soon("the start from disk", enrol(&common, &Drain::new())).await.unwrap();
    assert_eq!(again.leaf().chain(), identity.leaf().chain());

    // Cut off, the file is no identity; the CA is asked, and the process is told to end while it waits.
    let file = common.state_dir.join("identity.json");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let drained = Drain::new();
    drained.trigger().drain("test");
    assert!(matches!(soon("the end", enrol(&common, &drained)).await, Err(EnrolError::Drained)));
}

#[tokio::test]
async fn a_pass_opens_the_gateway_that_has_its_root_and_says_who_came() {
    let cluster = Cluster::new(DAY);
    let gateway = cluster.common("isthmus-system", "gateway", DAY);
    let gateway = soon("the gateway", enrol(&gateway, &cluster.drain)).await.unwrap();
    let sidecar = soon("the sidecar", enrol(&cluster.common("shop", "cart", DAY), &cluster.drain)).await.unwrap();
    let signed = pass::sign_header(sidecar.leaf().pass.as_ref().unwrap(), b"header".to_vec());
    let (who, _) = pass::verify_signed_header(&gateway.leaf().pass_roots, &signed, SystemTime::now()).unwrap();
    assert_eq!(who, cluster.id("shop", "cart"));
    // Somebody else named gateway has no business with them.
    let other = soon("another gateway", enrol(&cluster.common("shop", "gateway", DAY), &cluster.drain)).await.unwrap();
    assert!(other.leaf().pass_roots.is_empty());
}

#[tokio::test]
async fn a_token_that_expired_or_is_another_clusters_is_refused_in_words() {
    let (cluster, other) = (Cluster::new(DAY), Cluster::new(DAY));
    let late = cluster.common("shop", "cart", Duration::ZERO);
    let error = soon("the refusal", enrol(&late, &cluster.drain)).await.unwrap_err().to_string();
    assert!(error.contains("expired") && error.contains("mint a new one"), "{error}");

    let given = |cluster: &Cluster| cluster.common("shop", "cart", DAY).enrolment.unwrap().read().unwrap();
    let mut foreign = given(&cluster);
    foreign.token = given(&other).token;
    let common = cluster.common("shop", "cart", DAY);
    foreign.write(&cluster.dir.path().join("cart.json")).unwrap();
    let error = soon("the refusal", enrol(&common, &cluster.drain)).await.unwrap_err().to_string();
    assert!(error.contains("not minted by this cluster's CA"), "{error}");
}

#[tokio::test]
async fn who_shows_neither_token_nor_certificate_gets_no_leaf() {
    let cluster = Cluster::new(DAY);
    let accept = Accept::one(cluster.control.spiffe());
    let config = tls::anonymous_client_config(cluster.ca.trust_roots(), accept, &[grpc::ALPN]);
    let mut client = CertificateAuthorityClient::new(grpc::channel_with(config, cluster.address));
    let request = IssueRequest { csr: greedy_csr(), ..Default::default() };
    let status = soon("the refusal", client.issue(request)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn leaves_of_two_seconds_are_renewed_and_an_open_connection_stays() {
    let cluster = Cluster::new(Duration::from_secs(2));
    let server = soon("server", enrol(&cluster.common("shop", "web", DAY), &cluster.drain)).await.unwrap();
    let client = soon("client", enrol(&cluster.common("shop", "cart", DAY), &cluster.drain)).await.unwrap();
    let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let config = tls::server_config(&server, Accept::Any, &[], ClientAuth::Required);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                while let Ok(byte) = stream.read_u8().await {
                    stream.write_u8(byte).await.unwrap();
                }
            });
        }
    });
    let connector = tokio_rustls::TlsConnector::from(tls::client_config(&client, Accept::Any, &[]));
    // A machine that stalls for as long as a leaf lives lets both be over; then they are renewed all the same.
    let dial = async || {
        let dialled = async {
            loop {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let connected = connector.connect(ServerName::try_from("x").unwrap(), stream).await;
                // The server's word on the client's leaf comes with its first answer.
                if let Ok(mut stream) = connected
                    && stream.write_u8(6).await.is_ok()
                    && stream.read_u8().await.is_ok()
                {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        soon("a connection", dialled).await
    };
    let mut old = dial().await;
    let (mut renewals, first) = (client.renewals(), client.leaf());
    // The leaf the connection was made with is over before this ends.
    while client.leaf().not_before <= first.not_after - Duration::from_secs(60) {
        soon("a renewal", renewals.changed()).await.unwrap();
        old.write_u8(7).await.unwrap();
        assert_eq!(soon("an answer", old.read_u8()).await.unwrap(), 7);
        let mut new = dial().await;
        new.write_u8(8).await.unwrap();
        assert_eq!(soon("an answer", new.read_u8()).await.unwrap(), 8);
    }
}

#[test]
fn a_directory_of_another_cluster_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mesh: MeshDomain = "mesh.local".parse().unwrap();
    let open = |name: &str| Ca::open_or_create(dir.path(), &mesh, &name.parse().unwrap(), Settings::default());
    let first = open("east").unwrap().roots();
    assert_eq!(open("east").unwrap().roots(), first);
    let error = open("west").err().unwrap().to_string();
    assert!(error.contains("east.mesh.local") && error.contains("west.mesh.local"), "{error}");
    std::fs::write(dir.path().join("authority.json"), "{").unwrap();
    assert!(open("east").is_err(), "a damaged root is not replaced by a new one");
}
