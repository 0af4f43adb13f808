//! Key material in Secrets: what control makes where there is none, and what it says of Secrets that hold something broken.
//! What serves them here keeps Secrets and knows nothing else of Kubernetes; `scenarios/kubernetes` has the real one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path as At, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_ca::plugged::{CERTIFICATE, CHAIN, KEY, ROOT};
use isthmus_control::{Config, cluster::Cluster};
use isthmus_kubernetes::Access;
use isthmus_runtime::drain::Drain;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use support::{Ground, within};
use tempfile::TempDir;

type Secrets = Arc<Mutex<BTreeMap<String, Value>>>;

async fn read(State(secrets): State<Secrets>, At(name): At<String>) -> Response {
    match secrets.lock().unwrap().get(&name) {
        Some(secret) => Json(secret.clone()).into_response(),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn create(State(secrets): State<Secrets>, Json(secret): Json<Value>) -> Response {
    let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
    let mut secrets = secrets.lock().unwrap();
    if secrets.contains_key(&name) {
        return status(StatusCode::CONFLICT, "AlreadyExists");
    }
    secrets.insert(name, secret.clone());
    (StatusCode::CREATED, Json(secret)).into_response()
}

/// A merge patch, of a Secret's data.
async fn patch(State(secrets): State<Secrets>, At(name): At<String>, body: String) -> Response {
    let patch: Value = serde_json::from_str(&body).unwrap();
    let mut secrets = secrets.lock().unwrap();
    let Some(secret) = secrets.get_mut(&name) else { return status(StatusCode::NOT_FOUND, "NotFound") };
    secret["data"].as_object_mut().unwrap().extend(patch["data"].as_object().unwrap().clone());
    Json(secret.clone()).into_response()
}

fn status(code: StatusCode, reason: &str) -> Response {
    let said = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": reason,
        "code": code.as_u16(),
    });
    (code, Json(said)).into_response()
}

/// Secrets, a control's configuration that finds them, and its disk.
struct Scene {
    ground: Ground,
    config: Config,
    secrets: Secrets,
    _kubeconfig: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let secrets = Secrets::default();
        let routes = Router::new()
            .route("/api/v1/namespaces/isthmus-system/secrets", post(create))
            .route("/api/v1/namespaces/isthmus-system/secrets/{name}", get(read).patch(patch))
            .with_state(Arc::clone(&secrets));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nusers: []\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: ''}}}}]\n"
        );
        std::fs::write(&file, text).unwrap();
        let ground = Ground::new(41);
        let access = Access { kubeconfig: Some(file), ..Access::default() };
        let config = Config { config_dir: None, kubernetes: Some(access), federation_key: None, ..ground.config() };
        Self { ground, config, secrets, _kubeconfig: dir }
    }

    async fn open(&self) -> Result<Cluster, String> {
        let access = self.config.kubernetes.as_ref().unwrap();
        within(Cluster::open(access, &self.config, &Drain::new())).await.map_err(|error| error.to_string())
    }

    fn put(&self, name: &str, entries: &[(&str, &[u8])]) {
        let data: BTreeMap<_, _> = entries.iter().map(|(name, bytes)| (*name, STANDARD.encode(bytes))).collect();
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data });
        self.secrets.lock().unwrap().insert(name.to_owned(), secret);
    }

    fn entries(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let secrets = self.secrets.lock().unwrap();
        let data = secrets[name]["data"].as_object().unwrap().clone();
        data.into_iter().map(|(name, text)| (name, STANDARD.decode(text.as_str().unwrap()).unwrap())).collect()
    }

    /// Puts a Secret as it is, but for one entry.
    fn put_but(&self, name: &str, but: (&str, Option<&[u8]>)) {
        let mut entries = self.entries(name);
        match but.1 {
            Some(bytes) => drop(entries.insert(but.0.to_owned(), bytes.to_vec())),
            None => drop(entries.remove(but.0)),
        }
        let entries: Vec<_> = entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.put(name, &entries);
    }

    fn all(&self) -> Vec<String> {
        self.secrets.lock().unwrap().keys().cloned().collect()
    }
}

/// A root that signs itself, as the four files.
fn cacerts(scene: &Scene) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let (pem, key) = (pem.as_bytes(), key.serialize_pem());
    scene.put("cacerts", &[(CERTIFICATE, pem), (KEY, key.as_bytes()), (ROOT, pem), (CHAIN, pem)]);
}

#[tokio::test]
async fn a_broken_entry_of_any_secret_is_one_error_with_its_name_and_nothing_is_written() {
    let scene = Scene::new().await;
    scene.open().await.unwrap();
    assert_eq!(scene.all(), ["isthmus-ca", "isthmus-federation-key"], "made where there was none");
    let good = (scene.entries("isthmus-ca"), scene.entries("isthmus-federation-key"));

    for (secret, entry, text, reason) in [
        ("isthmus-ca", "authority.json", "cut", "authority.json"),
        ("isthmus-ca", "pass-roots.json", "{", "pass-roots.json"),
        ("isthmus-federation-key", "key.der", "no key", "key.der holds no Ed25519 key in PKCS#8"),
    ] {
        scene.put_but(secret, (entry, Some(text.as_bytes())));
        let before = scene.entries(secret);
        let error = scene.open().await.err().unwrap();
        let named = format!("Secret isthmus-system/{secret} cannot be used: ");
        assert!(error.starts_with(&named) && error.contains(reason) && error.contains("; re"), "{error}");
        assert_eq!(scene.entries(secret), before, "it is not replaced");
        scene.put_but(secret, (entry, None));
        let error = scene.open().await.err().unwrap();
        assert_eq!(
            error,
            format!(
                "Secret isthmus-system/{secret} has no entry {entry}; restore it from a backup, or delete it to begin anew"
            )
        );
        let whole = if secret == "isthmus-ca" { &good.0 } else { &good.1 };
        scene.put_but(secret, (entry, Some(&whole[entry])));
        scene.open().await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_is_another_authoritys_is_told_and_a_deleted_secret_is_made_anew() {
    let scene = Scene::new().await;
    scene.open().await.unwrap();
    let authority =
        |scene: &Scene| -> Value { serde_json::from_slice(&scene.entries("isthmus-ca")["authority.json"]).unwrap() };
    let mut changed = authority(&scene);
    let first = changed["body"]["root"].clone();
    changed["body"]["key"] = STANDARD.encode(KeyPair::generate().unwrap().serialize_der()).into();
    scene.put_but("isthmus-ca", ("authority.json", Some(changed.to_string().as_bytes())));
    let error = scene.open().await.err().unwrap();
    assert!(
        error.contains("Secret isthmus-system/isthmus-ca") && error.contains("the key is not the root's"),
        "{error}"
    );
    scene.secrets.lock().unwrap().remove("isthmus-ca");
    scene.open().await.unwrap();
    assert_ne!(authority(&scene)["body"]["root"], first);
}

#[tokio::test]
async fn beside_cacerts_no_authority_of_its_own_is_made_and_a_broken_one_is_refused_before_anything_is_written() {
    let scene = Scene::new().await;
    cacerts(&scene);
    scene.put_but("cacerts", (KEY, Some(b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n")));
    let error = scene.open().await.err().unwrap();
    assert!(
        error.starts_with("Secret isthmus-system/cacerts, entry ca-key.pem: it holds no private key that can be read"),
        "{error}"
    );
    assert_eq!(scene.all(), ["cacerts"]);
    cacerts(&scene);
    let cluster = scene.open().await.unwrap();
    let made: Vec<_> = scene.entries("isthmus-ca").into_keys().collect();
    assert_eq!(made, ["anchors.json", "pass-roots.json"]);
    // Replaced while no control ran: what signed before is remembered in the Secret, or a second restart would forget it.
    let before = scene.entries("isthmus-ca")["anchors.json"].clone();
    cacerts(&scene);
    let cluster = {
        drop(cluster);
        scene.open().await.unwrap()
    };
    let kept: Value = serde_json::from_slice(&scene.entries("isthmus-ca")["anchors.json"]).unwrap();
    let was: Value = serde_json::from_slice(&before).unwrap();
    assert_eq!(kept["body"][1]["certificate"], was["body"][0]["certificate"]);
    let plugged = cluster.plugged(&scene.config).unwrap().unwrap();
    let told = String::from_utf8(scene.entries("cacerts")[CERTIFICATE].clone()).unwrap();
    assert_eq!(isthmus_ca::enrol::pem(plugged.certificate()).split_whitespace().collect::<String>(), squeezed(&told));
    assert!(!Path::new(&scene.ground.config().ca_dir()).join("authority.json").exists());
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}
