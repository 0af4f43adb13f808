//! An API server that keeps Secrets, each in versions, and knows nothing else of Kubernetes.

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
use isthmus_kubernetes::Access;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

/// The entries of a Secret.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// What is done once, before a Secret of a name is written.
type Before = Option<(String, Box<dyn FnOnce(&mut BTreeMap<String, Value>) + Send>)>;

#[derive(Default)]
struct Held {
    secrets: BTreeMap<String, Value>,
    version: u64,
    before: Before,
    is_away: bool,
}

/// The server.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Held>>);

impl Held {
    fn put(&mut self, name: &str, mut secret: Value) -> Value {
        self.version += 1;
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        secret["metadata"]["name"] = name.into();
        self.secrets.insert(name.to_owned(), secret.clone());
        secret
    }

    /// Somebody is faster, where a test says so.
    fn writing(&mut self, name: &str) {
        if let Some((_, first)) = self.before.take_if(|(of, _)| of == name) {
            first(&mut self.secrets);
        }
    }
}

async fn read(State(Secrets(held)): State<Secrets>, At(name): At<String>) -> Response {
    let held = held.lock().unwrap();
    match held.secrets.get(&name) {
        _ if held.is_away => status(StatusCode::INTERNAL_SERVER_ERROR, "Away"),
        Some(secret) => Json(secret.clone()).into_response(),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn create(State(Secrets(held)): State<Secrets>, Json(secret): Json<Value>) -> Response {
    let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
    let mut held = held.lock().unwrap();
    held.writing(&name);
    if held.secrets.contains_key(&name) {
        return status(StatusCode::CONFLICT, "AlreadyExists");
    }
    (StatusCode::CREATED, Json(held.put(&name, secret))).into_response()
}

/// A merge patch of a Secret's data, of one version of it.
async fn patch(State(Secrets(held)): State<Secrets>, At(name): At<String>, body: String) -> Response {
    let patch: Value = serde_json::from_str(&body).unwrap();
    let mut held = held.lock().unwrap();
    held.writing(&name);
    let Some(mut secret) = held.secrets.get(&name).cloned() else { return status(StatusCode::NOT_FOUND, "NotFound") };
    if patch["metadata"]["resourceVersion"] != secret["metadata"]["resourceVersion"] {
        return status(StatusCode::CONFLICT, "Conflict");
    }
    secret["data"].as_object_mut().unwrap().extend(patch["data"].as_object().unwrap().clone());
    Json(held.put(&name, secret)).into_response()
}

fn status(code: StatusCode, reason: &str) -> Response {
    let said = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": reason,
        "code": code.as_u16(),
    });
    (code, Json(said)).into_response()
}

impl Secrets {
    /// Serves them; how they are reached is written to `kubeconfig`.
    pub async fn serve(kubeconfig: &Path) -> (Self, Access) {
        let secrets = Self::default();
        let routes = Router::new()
            .route("/api/v1/namespaces/isthmus-system/secrets", post(create))
            .route("/api/v1/namespaces/isthmus-system/secrets/{name}", get(read).patch(patch))
            .with_state(secrets.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nusers: []\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: ''}}}}]\n"
        );
        std::fs::write(kubeconfig, text).unwrap();
        (secrets, Access { kubeconfig: Some(kubeconfig.to_owned()), ..Access::default() })
    }

    pub fn put(&self, name: &str, entries: &[(&str, &[u8])]) {
        let data: BTreeMap<_, _> = entries.iter().map(|(name, bytes)| (*name, STANDARD.encode(bytes))).collect();
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": data });
        self.0.lock().unwrap().put(name, secret);
    }

    pub fn put_all(&self, name: &str, entries: &Entries) {
        let entries: Vec<_> = entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.put(name, &entries);
    }

    pub fn entries(&self, name: &str) -> Entries {
        let held = self.0.lock().unwrap();
        let data = held.secrets[name]["data"].as_object().unwrap().clone();
        data.into_iter().map(|(name, text)| (name, STANDARD.decode(text.as_str().unwrap()).unwrap())).collect()
    }

    /// Puts a Secret as it is, but for one entry.
    pub fn put_but(&self, name: &str, but: (&str, Option<&[u8]>)) {
        let mut entries = self.entries(name);
        match but.1 {
            Some(bytes) => drop(entries.insert(but.0.to_owned(), bytes.to_vec())),
            None => drop(entries.remove(but.0)),
        }
        self.put_all(name, &entries);
    }

    pub fn delete(&self, name: &str) {
        self.0.lock().unwrap().secrets.remove(name);
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().secrets.keys().cloned().collect()
    }

    /// How often anything was written.
    pub fn writes(&self) -> u64 {
        self.0.lock().unwrap().version
    }

    /// Whether it answers no reads.
    pub fn is_away(&self, is_away: bool) {
        self.0.lock().unwrap().is_away = is_away;
    }

    /// When a Secret is about to be written, somebody else was just faster: there is another Secret's content.
    pub fn just_before(&self, name: &str, entries: Entries) {
        let (others, of) = (self.clone(), name.to_owned());
        let data: BTreeMap<_, _> = entries.iter().map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes))).collect();
        let first = Box::new(move |secrets: &mut BTreeMap<String, Value>| {
            let metadata = json!({ "name": of, "resourceVersion": "other" });
            secrets.insert(of, json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data }));
        });
        others.0.lock().unwrap().before = Some((name.to_owned(), first));
    }

    /// A new authority in Secret `cacerts`.
    pub fn cacerts(&self) {
        self.put_all("cacerts", &authority());
    }
}

/// A root that signs itself, as the four files.
pub fn authority() -> Entries {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let files = [(CERTIFICATE, pem.clone()), (KEY, key.serialize_pem()), (ROOT, pem.clone()), (CHAIN, pem)];
    files.map(|(name, text)| (name.to_owned(), text.into_bytes())).into()
}
