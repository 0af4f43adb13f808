//! A control that signs with what somebody brought along, in a directory, as a cluster of hosts has it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_ca::{
    Plugged,
    enrol::{Asked, mint_plugged},
    plugged::{CERTIFICATE, CHAIN, KEY, ROOT},
};
use isthmus_control::Config;
use isthmus_core::model::Resource;
use isthmus_runtime::{drain::Drain, enrolment, feed::Role, identity::Identity};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use support::{Client, Ground, east, mesh, until, within};

struct Scene {
    ground: Ground,
    dir: PathBuf,
    root: (String, Issuer<'static, KeyPair>),
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Scene {
    fn new() -> Self {
        let (params, key) = (authority("Root CA"), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        let ground = Ground::new(41);
        let dir = ground.path("cacerts");
        std::fs::create_dir_all(&dir).unwrap();
        Self { ground, dir, root: (pem, Issuer::new(params, key)) }
    }

    fn config(&self) -> Config {
        let mut config = self.ground.config();
        config.ca.cacerts = Some(self.dir.clone());
        config
    }

    /// Another intermediate of the one root takes the place of what is there.
    fn bring(&self) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = authority("Intermediate CA").signed_by(&key, &self.root.1).unwrap();
        let (pem, root) = (certificate.pem(), self.root.0.clone());
        let chain = pem.clone() + &root;
        for (name, text) in [(CERTIFICATE, pem), (KEY, key.serialize_pem()), (ROOT, root), (CHAIN, chain)] {
            self.write(name, &text);
        }
        certificate
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(".new"), text).unwrap();
        std::fs::rename(self.dir.join(".new"), self.dir.join(name)).unwrap();
    }

    async fn stands(&self, key: &str) -> Value {
        let admin = SocketAddr::new(self.ground.at(1), 15000);
        let text = support::get(admin, "/api/authority").await.unwrap_or_default();
        serde_json::from_str::<Value>(&text).unwrap_or_default()[key].clone()
    }

    async fn enrol(&self, name: &str) -> Identity {
        let domain = east().trust_domain(&mesh());
        let plugged = Plugged::read_dir(&self.dir, &domain, SystemTime::now()).unwrap();
        let asked = Asked {
            trust_domain: domain,
            namespace: "bookinfo",
            service_account: name,
            workload: name,
            ttl: Duration::from_secs(600),
            control: &self.ground.control().to_string(),
        };
        let minted = mint_plugged(&self.ground.config().ca_dir(), &plugged, &asked).unwrap();
        minted.write(&self.ground.path(&format!("enrolment-{name}.json"))).unwrap();
        within(enrolment::enrol(&self.ground.common(name, 250), &Drain::new())).await.unwrap()
    }
}

/// Whether these and no others are believed of the own domain; the first one signs.
fn believes(client: &Client, certificates: &[&Certificate]) -> bool {
    let wanted: Vec<_> = certificates.iter().map(|one| STANDARD.encode(one.der())).collect();
    let Some(Resource::Trust(trust)) = client.known.get("trust") else { return false };
    let known = &trust.roots[&east().trust_domain(&mesh())];
    known.first() == wanted.first() && known.len() == wanted.len() && wanted.iter().all(|one| known.contains(one))
}

#[tokio::test]
async fn what_was_brought_along_signs_what_is_broken_later_is_told_and_another_one_is_announced() {
    let scene = Scene::new();
    let first = scene.bring();
    let running = scene.ground.start_with(scene.config());
    until("it signs", || async { scene.stands("signs").await == true }).await;
    let identity = scene.enrol("reviews").await;
    assert_eq!(identity.leaf().chain().len(), 2);
    let mut client = scene.ground.subscribe(&identity, Role::Proxy, "reviews");
    // The intermediate, not the root, which other clusters may have too.
    client.until("the intermediate alone", |client| believes(client, &[&first])).await;
    let metrics = scene.ground.metrics().await;
    for name in ["leaf", "authority"] {
        let metric = format!("isthmus_certificate_expiry_timestamp_seconds{{certificate=\"{name}\"}} ");
        assert!(metrics.contains(&metric), "{metrics}");
    }
    scene.write(KEY, "cut");
    until("it is refused", || async { scene.stands("refused").await.is_string() }).await;
    let reason = scene.stands("refused").await.to_string();
    assert!(reason.contains("entry ca-key.pem: it holds no private key"), "{reason}");
    let second = scene.bring();
    client.until("both", |client| believes(client, &[&first, &second])).await;
    assert_eq!((scene.stands("announced").await, scene.stands("refused").await), (true.into(), Value::Null));
    client.leave();
    running.stop().await;

    // What signed signs on over a restart, though what took its place is broken, and then another one; each is announced first.
    scene.write(KEY, "cut");
    let running = scene.ground.start_with(scene.config());
    until("it is refused again", || async { scene.stands("refused").await.is_string() }).await;
    let third = scene.bring();
    until("the third is announced", || async { scene.stands("announced").await == true }).await;
    let identity = scene.enrol("ratings").await;
    let mut client = scene.ground.subscribe(&identity, Role::Proxy, "ratings");
    client.until("the first signs, and all are believed", |client| believes(client, &[&first, &second, &third])).await;
    client.leave();
    running.stop().await;

    // Where nothing signed yet, nothing begins with what is broken.
    scene.write(KEY, "cut");
    let mut config = scene.config();
    config.common.state_dir = scene.ground.path("state-of-another");
    let error = within(isthmus_control::run(config, Drain::new())).await.unwrap_err().to_string();
    assert!(error.starts_with("directory ") && error.contains("entry ca-key.pem"), "{error}");
}
