//! Key material in Secrets: what control makes where there is none, and what it says of Secrets that hold something broken.
//! `scenarios/kubernetes` shows it on real API servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_ca::{Ca, Plugged, Settings, plugged::KEY, shared};
use isthmus_control::{Config, cluster::Cluster};
use isthmus_runtime::drain::Drain;
use rcgen::KeyPair;
use serde_json::Value;
use support::{Ground, east, mesh, secrets::Secrets, within};

/// Secrets, a control's configuration that finds them, and its disk.
struct Scene {
    _ground: Ground,
    config: Config,
    secrets: Secrets,
}

impl Scene {
    async fn new() -> Self {
        let ground = Ground::new(41);
        let (secrets, access) = Secrets::serve(&ground.path("kubeconfig")).await;
        let config = Config { config_dir: None, kubernetes: Some(access), federation_key: None, ..ground.config() };
        Self { _ground: ground, config, secrets }
    }

    async fn open(&self) -> Result<Cluster, String> {
        let access = self.config.kubernetes.as_ref().unwrap();
        within(Cluster::open(access, &self.config, &Drain::new())).await.map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_broken_entry_of_any_secret_is_one_error_with_its_name_and_nothing_is_written() {
    let scene = Scene::new().await;
    scene.open().await.unwrap();
    assert_eq!(scene.secrets.all(), ["isthmus-ca", "isthmus-federation-key"], "made where there was none");
    let good = (scene.secrets.entries("isthmus-ca"), scene.secrets.entries("isthmus-federation-key"));

    for (secret, entry, text, reason) in [
        ("isthmus-ca", "authority.json", "cut", "authority.json"),
        ("isthmus-ca", "pass-roots.json", "{", "pass-roots.json"),
        ("isthmus-federation-key", "key.der", "no key", "key.der holds no Ed25519 key in PKCS#8"),
    ] {
        scene.secrets.put_but(secret, (entry, Some(text.as_bytes())));
        let before = scene.secrets.entries(secret);
        let error = scene.open().await.err().unwrap();
        let named = format!("Secret isthmus-system/{secret} cannot be used: ");
        assert!(error.starts_with(&named) && error.contains(reason) && error.contains("; re"), "{error}");
        assert_eq!(scene.secrets.entries(secret), before, "it is not replaced");
        scene.secrets.put_but(secret, (entry, None));
        let error = scene.open().await.err().unwrap();
        assert_eq!(
            error,
            format!(
                "Secret isthmus-system/{secret} has no entry {entry}; restore it from a backup, or delete it to begin anew"
            )
        );
        let whole = if secret == "isthmus-ca" { &good.0 } else { &good.1 };
        scene.secrets.put_but(secret, (entry, Some(&whole[entry])));
        scene.open().await.unwrap();
    }
}

#[tokio::test]
async fn who_had_the_secrets_before_begins_without_an_api_server_and_who_had_not_waits_for_it() {
    let scene = Scene::new().await;
    let (drain, access) = (Drain::new(), scene.config.kubernetes.clone().unwrap());
    drain.trigger().drain("a test");
    scene.secrets.is_away(true);
    let error = within(Cluster::open(&access, &scene.config, &drain)).await.err().unwrap().to_string();
    assert!(error.contains("drained before the API server answered"), "{error}");
    scene.secrets.is_away(false);
    scene.open().await.unwrap();
    let made = (scene.secrets.entries("isthmus-ca"), scene.secrets.entries("isthmus-federation-key"));
    scene.secrets.is_away(true);
    scene.open().await.unwrap();
    scene.secrets.is_away(false);
    scene.open().await.unwrap();
    assert_eq!((scene.secrets.entries("isthmus-ca"), scene.secrets.entries("isthmus-federation-key")), made);
}

#[tokio::test]
async fn a_key_that_is_another_authoritys_is_told_and_a_deleted_secret_is_made_anew() {
    let scene = Scene::new().await;
    scene.open().await.unwrap();
    let authority = |scene: &Scene| -> Value {
        serde_json::from_slice(&scene.secrets.entries("isthmus-ca")["authority.json"]).unwrap()
    };
    let mut changed = authority(&scene);
    let first = changed["body"]["root"].clone();
    changed["body"]["key"] = STANDARD.encode(KeyPair::generate().unwrap().serialize_der()).into();
    scene.secrets.put_but("isthmus-ca", ("authority.json", Some(changed.to_string().as_bytes())));
    let error = scene.open().await.err().unwrap();
    assert!(
        error.contains("Secret isthmus-system/isthmus-ca") && error.contains("the key is not the root's"),
        "{error}"
    );
    scene.secrets.delete("isthmus-ca");
    scene.open().await.unwrap();
    assert_ne!(authority(&scene)["body"]["root"], first);
}

#[tokio::test]
async fn beside_cacerts_no_authority_of_its_own_is_made_and_a_broken_one_is_refused_before_anything_is_written() {
    let scene = Scene::new().await;
    scene.secrets.cacerts();
    scene
        .secrets
        .put_but("cacerts", (KEY, Some(b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n")));
    let error = scene.open().await.err().unwrap();
    assert!(
        error.starts_with("Secret isthmus-system/cacerts, entry ca-key.pem: it holds no private key that can be read"),
        "{error}"
    );
    assert_eq!(scene.secrets.all(), ["cacerts"]);
    scene.secrets.cacerts();
    let cluster = scene.open().await.unwrap();
    let made: Vec<_> = scene.secrets.entries("isthmus-ca").into_keys().collect();
    assert_eq!(made, ["anchors.json", "pass-roots.json", "signing.json"]);
    // Replaced while no control ran, or broken, or taken away: what signed signs on, and the new one is announced in its time.
    let kept = scene.secrets.entries("isthmus-ca");
    let first = cluster.brought(&scene.config).unwrap().unwrap().certificate().clone();
    scene.secrets.cacerts();
    assert_ne!(*scene.open().await.unwrap().brought(&scene.config).unwrap().unwrap().certificate(), first);
    scene.secrets.put_but("cacerts", (KEY, Some(b"cut")));
    scene.open().await.unwrap();
    scene.secrets.delete("cacerts");
    scene.open().await.unwrap();
    assert_eq!(scene.secrets.entries("isthmus-ca"), kept);
    let (dir, domain) = (scene.config.ca_dir(), east().trust_domain(&mesh()));
    let signs = Plugged::kept(&dir, &domain, SystemTime::now()).unwrap().unwrap();
    assert_eq!(*signs.certificate(), first);
    assert!(!dir.join("authority.json").exists());
}

#[tokio::test]
async fn of_two_that_begin_at_once_one_makes_what_both_have() {
    let (scene, faster) = (Scene::new().await, Scene::new().await);
    faster.open().await.unwrap();
    let made = faster.secrets.entries("isthmus-ca");
    scene.secrets.just_before("isthmus-ca", made.clone());
    scene.open().await.unwrap();
    assert_eq!(scene.secrets.entries("isthmus-ca"), made, "nothing is written over");
    for (file, bytes) in &made {
        let here = std::fs::read(scene.config.ca_dir().join(file)).unwrap();
        assert!(here == *bytes, "{file}: nothing that the slower one made is left");
    }
    let key = |scene: &Scene| scene.secrets.entries("isthmus-federation-key");
    assert_ne!(key(&scene), key(&faster));
    let other = key(&faster);
    scene.secrets.delete("isthmus-federation-key");
    std::fs::remove_file(scene.config.federation_key()).unwrap();
    scene.secrets.just_before("isthmus-federation-key", other.clone());
    scene.open().await.unwrap();
    assert_eq!(std::fs::read(scene.config.federation_key()).unwrap(), other["key.der"]);
}

#[tokio::test]
async fn what_a_replica_has_newer_than_the_secret_is_put_back_and_what_is_newer_there_is_taken() {
    let scene = Scene::new().await;
    scene.open().await.unwrap();
    let older = scene.secrets.entries("isthmus-ca");
    let dir = scene.config.ca_dir();
    let settings = Settings { leaf_ttl: Duration::from_secs(600), ..Settings::default() };
    // A while later another certificate is believed, and roots of passes are others.
    let ca = Ca::open_or_create(&dir, &mesh(), &east(), settings).unwrap();
    let mut newer = ca.proposal(SystemTime::now() + Duration::from_secs(30 * 24 * 3600)).unwrap();
    assert_ne!(newer[shared::PASSES], older[shared::PASSES]);
    scene.secrets.put_all("isthmus-ca", &newer);
    scene.open().await.unwrap();
    assert_eq!(std::fs::read(dir.join(shared::PASSES)).unwrap(), newer[shared::PASSES]);
    newer = scene.secrets.entries("isthmus-ca");
    // Somebody restores an old backup of the Secret.
    scene.secrets.put_all("isthmus-ca", &older);
    scene.open().await.unwrap();
    assert_eq!(scene.secrets.entries("isthmus-ca"), newer);
}
