//! The webhooks of a cluster, served as control serves them; clients that know its root and nothing else.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_ca::{Ca, Settings};
use isthmus_control::webhook::{self, Certificate, DNS_NAMES, Injector, Metrics, Refused};
use isthmus_inject::Values;
use isthmus_runtime::{drain::Drain, listen};
use prometheus::Registry;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command, sync::mpsc};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Longer than anything takes, on a busy machine too.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The webhooks of a cluster.
pub struct Ground {
    folder: tempfile::TempDir,
    pub address: SocketAddr,
    pub certificate: Certificate,
    pub metrics: Metrics,
    pub refused: mpsc::Receiver<Refused>,
    pub drain: Drain,
    roots: RootCertStore,
}

/// The namespaces that are known: `shop` asks for sidecars, `plain` for nothing.
fn labels(namespace: &str) -> Option<BTreeMap<String, String>> {
    match namespace {
        "shop" | "kube-system" => Some(BTreeMap::from([("istio-injection".into(), "enabled".into())])),
        "plain" => Some(BTreeMap::new()),
        _ => None,
    }
}

impl Ground {
    /// `host` tells the tests apart: each listens on an address of its own.
    pub fn new(host: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mesh, cluster) = ("mesh.example".parse().unwrap(), "us-east".parse().unwrap());
        let ca = Ca::open_or_create(&folder.path().join("ca"), &mesh, &cluster, Settings::default()).unwrap();
        let mut roots = RootCertStore::empty();
        let pem: String = ca.roots().iter().map(|root| pem(root)).collect();
        std::fs::write(folder.path().join("roots.pem"), pem).unwrap();
        ca.roots().into_iter().for_each(|root| roots.add(root).unwrap());
        let certificate = Certificate::issue(ca, &DNS_NAMES, webhook::certificate::LIFE).unwrap();
        let (tell, refused) = mpsc::channel(4);
        let values = Arc::new(ArcSwap::from_pointee(Values::new(mesh, cluster)));
        let injector = Injector::new(values, Arc::new(labels)).telling(tell);
        let (metrics, drain) = (Metrics::new(&Registry::new()).unwrap(), Drain::new());
        let listener = listen::tcp(SocketAddr::from(([127, 72, 1, host], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(webhook::serve(listener, certificate.clone(), injector, metrics.clone(), drain.clone()));
        Self { folder, address, certificate, metrics, refused, drain, roots }
    }

    /// How often an outcome was counted.
    pub fn counted(&self, webhook: &str, outcome: &str) -> u64 {
        self.metrics.reviews.with_label_values(&[webhook, outcome]).get()
    }

    /// Asks with curl: the status and the answer.
    pub async fn curl(&self, path: &str, arguments: &[&str], body: &[u8]) -> (u16, String) {
        let Output { stdout, stderr, status } = self.run(DNS_NAMES[0], path, arguments, body).await;
        assert!(status.success(), "curl: {}", String::from_utf8_lossy(&stderr));
        let said = String::from_utf8(stdout).unwrap();
        let (answer, code) = said.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), answer.to_owned())
    }

    /// Runs curl under the name `host`, which leads here.
    pub async fn run(&self, host: &str, path: &str, arguments: &[&str], body: &[u8]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--data-binary", "@-", "--write-out", "\n%{http_code}"])
            .args(["--cacert", self.folder.path().join("roots.pem").to_str().unwrap()])
            .args(["--connect-to", &format!("{host}:443:{}", self.address)])
            .args(arguments)
            .arg(format!("https://{host}{path}"));
        let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = curl.stdin.take().unwrap();
        // A server that has heard enough closes before all is said.
        let _ = stdin.write_all(body).await;
        drop(stdin);
        tokio::time::timeout(LIMIT, curl.wait_with_output()).await.expect("curl ends").unwrap()
    }

    /// Asks as the API server does, and answers with the review's response.
    pub async fn review(&self, path: &str, request: Value) -> Value {
        let review = review(request);
        let (code, answer) = self.curl(path, &JSON, review.to_string().as_bytes()).await;
        assert_eq!(code, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&answer["apiVersion"], &answer["kind"]), (&review["apiVersion"], &review["kind"]));
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    /// A connection on which nothing was asked yet.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(self.roots.clone()).with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(DNS_NAMES[1]).unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        tokio::time::timeout(LIMIT, connecting).await.expect("a handshake").unwrap()
    }
}

/// The header that a review comes with.
pub const JSON: [&str; 2] = ["--header", "content-type: application/json"];

/// A review of a request.
pub fn review(mut request: Value) -> Value {
    request["uid"] = "8f3a".into();
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
}

/// The request for a pod that is created.
pub fn creation(namespace: &str, pod: &Value) -> Value {
    json!({
        "kind": { "group": "", "version": "v1", "kind": "Pod" },
        "resource": { "group": "", "version": "v1", "resource": "pods" },
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
        "object": pod,
        "oldObject": null,
        "dryRun": false,
    })
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}
