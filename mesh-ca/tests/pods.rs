//! Pods enrol by service account tokens, which somebody reviews, and renew by them too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use isthmus_ca::{Account, Ca, NotReviewed, Reviewer, Settings};
use isthmus_core::name::{ClusterName, MeshDomain};
use isthmus_runtime::{
    config::Common,
    drain::Drain,
    enrolment::{EnrolError, Enrolling, PodEnrolment, enrol, system_identity},
    grpc, listen,
    tls::{self, Accept, ClientAuth},
};
use isthmus_wire::identity::{IssueRequest, certificate_authority_client::CertificateAuthorityClient};

type Answers = Arc<Mutex<Vec<Result<Account, NotReviewed>>>>;

/// Answers what it is told to, and the last of that for ever; keeps what it was asked.
#[derive(Clone, Default)]
struct Told {
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Reviewer for Told {
    async fn review(&self, token: &str) -> Result<Account, NotReviewed> {
        self.asked.lock().unwrap().push(token.to_owned());
        let mut answers = self.answers.lock().unwrap();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }
}

struct Cluster {
    dir: tempfile::TempDir,
    ca: Ca,
    told: Told,
    common: Common,
    drain: Drain,
}

fn account() -> Result<Account, NotReviewed> {
    Ok(Account { namespace: "shop".into(), name: "cart".into() })
}

impl Cluster {
    fn new(leaf_ttl: Duration, answers: Vec<Result<Account, NotReviewed>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (cluster, mesh): (ClusterName, MeshDomain) = ("east".parse().unwrap(), "mesh.test".parse().unwrap());
        let settings = Settings { leaf_ttl, ..Settings::default() };
        let ca = Ca::open_or_create(&dir.path().join("ca"), &mesh, &cluster, settings).unwrap();
        let drain = Drain::new();
        let control = system_identity(ca.trust_domain(), "control").unwrap();
        let identity = ca.local_identity(&control, drain.clone()).unwrap();
        let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let told = Told { answers: Arc::new(Mutex::new(answers)), ..Told::default() };
        let config = tls::server_config(&identity, Accept::Any, &[grpc::ALPN], ClientAuth::Optional);
        let routes = tonic::service::Routes::new(isthmus_ca::service(ca.clone(), Some(Arc::new(told.clone()))));
        tokio::spawn(grpc::serve(listener, config, routes, drain.clone()));
        let common = common(dir.path(), &ca, (cluster, mesh), address.to_string());
        let root = rcgen_pem(&ca);
        std::fs::write(dir.path().join("roots.pem"), root).unwrap();
        let made = Self { dir, ca, told, common, drain };
        made.token("first");
        made
    }

    /// What the kubelet does with a projected token.
    fn token(&self, token: &str) {
        std::fs::write(self.dir.path().join("token"), format!("{token}\n")).unwrap();
    }

    fn asked(&self) -> Vec<String> {
        self.told.asked.lock().unwrap().clone()
    }
}

fn common(dir: &Path, ca: &Ca, (cluster, mesh): (ClusterName, MeshDomain), control: String) -> Common {
    let pod = PodEnrolment {
        service_account_token: dir.join("token"),
        roots: dir.join("roots.pem"),
        trust_domain: ca.trust_domain().clone(),
        control,
    };
    Common {
        mesh,
        cluster,
        locality: Default::default(),
        name: "cart-1".into(),
        address: "127.0.0.1".parse().unwrap(),
        state_dir: dir.join("state"),
        enrolment: Some(Enrolling::Pod(pod)),
        admin: None,
        log: None,
    }
}

fn rcgen_pem(ca: &Ca) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let root = STANDARD.encode(&ca.roots()[0]);
    format!("-----BEGIN CERTIFICATE-----\n{root}\n-----END CERTIFICATE-----\n")
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(60), future).await;
    ended.unwrap_or_else(|_| panic!("{what} did not happen within 60 s"))
}

#[tokio::test]
async fn a_pod_gets_the_identity_of_its_account_once_the_review_answers() {
    let later = Err(NotReviewed::Unavailable("connection refused".into()));
    let cluster = Cluster::new(Duration::from_secs(3600), vec![later, account()]);
    let identity = soon("an identity", enrol(&cluster.common, &cluster.drain)).await.unwrap();
    assert_eq!(identity.spiffe().to_string(), "spiffe://east.mesh.test/ns/shop/sa/cart");
    assert_eq!(cluster.asked(), ["first", "first"], "what could not be reviewed is asked again");
}

#[tokio::test]
async fn a_forged_token_gets_the_reviewers_reason() {
    let cluster = Cluster::new(Duration::from_secs(3600), vec![Err(NotReviewed::Refused("it is forged".into()))]);
    let refused = soon("the refusal", enrol(&cluster.common, &cluster.drain)).await.unwrap_err();
    assert!(matches!(&refused, EnrolError::Refused { reason, .. } if reason.contains("it is forged")), "{refused}");
}

#[tokio::test]
async fn a_leaf_is_renewed_by_the_token_of_the_moment_and_not_without_one() {
    let cluster = Cluster::new(Duration::from_secs(2), vec![account()]);
    let identity = soon("an identity", enrol(&cluster.common, &cluster.drain)).await.unwrap();
    cluster.token("second");
    let renewed = async {
        while !cluster.asked().contains(&"second".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    soon("the renewal", renewed).await;
    let accept = Accept::one(system_identity(cluster.ca.trust_domain(), "control").unwrap());
    let Some(Enrolling::Pod(pod)) = &cluster.common.enrolment else { panic!("it is a pod") };
    let channel = grpc::channel_with(tls::client_config(&identity, accept, &[grpc::ALPN]), &pod.control);
    let csr = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&csr).unwrap().der().to_vec();
    let mut client = CertificateAuthorityClient::new(channel);
    let refusal = async {
        loop {
            let request = IssueRequest { csr: csr.clone(), ..Default::default() };
            let status = client.issue(request).await.unwrap_err();
            // A leaf of two seconds may be over before it is shown; the next one is not.
            if status.code() != tonic::Code::Unavailable {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let status = soon("the refusal", refusal).await;
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert!(status.message().contains("no service account token"), "{}", status.message());
}

#[tokio::test]
async fn a_root_that_control_writes_into_the_namespace_is_believed_by_pods_that_run() {
    let cluster = Cluster::new(Duration::from_secs(2), vec![account()]);
    let identity = soon("an identity", enrol(&cluster.common, &cluster.drain)).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let next = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    let file = cluster.dir.path().join("roots.pem");
    let before = std::fs::read_to_string(&file).unwrap();
    let mut changes = identity.trust_changes();
    std::fs::write(&file, before + &next.pem()).unwrap();
    let learned = async {
        while !identity.trust().roots(cluster.ca.trust_domain()).contains(next.der()) {
            changes.changed().await.unwrap();
        }
    };
    soon("the new root", learned).await;
    assert_eq!(identity.trust().roots(cluster.ca.trust_domain()).len(), 2);
}
