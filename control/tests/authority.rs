//! Two replicas of one control and what both sign with, over a Secret that they share: whatever comes and goes, in whatever
//! order they look, a leaf of either is believed by the clients of both. What serves the Secrets knows nothing else of Kubernetes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, SystemTime};

use isthmus_ca::{Ca, shared};
use isthmus_control::{Config, authority::Authority, cluster::Cluster, keeping::Keeping, plugged::Watcher};
use isthmus_kubernetes::events::Event;
use isthmus_runtime::{drain::Drain, identity::Leaf, tls};
use parking_lot::Mutex;
use support::{
    Ground,
    secrets::{Entries, Secrets},
    within,
};
use tokio::sync::mpsc;

const CA: &str = "isthmus-ca";

/// One replica: what it signs with, and who keeps it.
struct Replica {
    config: Config,
    ca: Ca,
    keeping: Keeping,
    standing: std::sync::Arc<Mutex<isthmus_control::plugged::Standing>>,
    events: mpsc::Receiver<Event>,
}

impl Replica {
    /// Begins, as control does. What is announced signs at the next look, so that looks are all that happens.
    async fn open(config: Config) -> Self {
        let access = config.kubernetes.as_ref().unwrap();
        let cluster = within(Cluster::open(access, &config, &Drain::new())).await.unwrap();
        let authority = Authority::open(&config, cluster.brought(&config).unwrap()).unwrap();
        let (tell, events) = mpsc::channel(8);
        let watcher = Watcher::new(cluster.source(), authority.ca(), Duration::ZERO, Some(tell));
        let standing = watcher.standing();
        let keeping = Keeping::new(authority.ca(), Some(cluster.vault()), Some(watcher));
        Self { ca: authority.ca(), config, keeping, standing, events }
    }

    async fn look(&mut self) {
        within(self.keeping.round()).await;
    }

    fn leaf(&self) -> Leaf {
        self.ca.issue_local(&"spiffe://us-east.mesh.test/ns/shop/sa/cart".parse().unwrap()).unwrap()
    }

    fn believes(&self, leaf: &Leaf) -> bool {
        tls::verify_chain(&self.ca.trust_roots(), leaf.chain(), SystemTime::now()).is_ok()
    }

    fn signs(&self) -> Vec<u8> {
        self.ca.roots()[0].to_vec()
    }
}

struct Scene {
    _ground: Ground,
    secrets: Secrets,
    replicas: Vec<Replica>,
    /// All leaves that were ever issued; all live.
    leaves: Vec<Leaf>,
}

impl Scene {
    /// Two replicas that began one after the other.
    async fn new() -> Self {
        let ground = Ground::new(191);
        let (secrets, access) = Secrets::serve(&ground.path("kubeconfig")).await;
        let config = |number: usize| {
            let mut config = Config { config_dir: None, kubernetes: Some(access.clone()), ..ground.config() };
            config.common.state_dir = ground.path(&format!("replica-{number}"));
            config.federation_key = None;
            config
        };
        let replicas = vec![Replica::open(config(1)).await, Replica::open(config(2)).await];
        Self { _ground: ground, secrets, replicas, leaves: vec![] }
    }

    /// One looks; what it believes then, the other is told, as replicas do beside the Secret.
    async fn look(&mut self, number: usize) {
        self.replicas[number].look().await;
        self.tell(number);
        self.hold();
    }

    fn tell(&self, number: usize) {
        let believed = self.replicas[number].ca.watch_believed().borrow().clone();
        for replica in &self.replicas {
            replica.ca.believe(&believed, SystemTime::now()).unwrap();
        }
    }

    /// Pods of the one are clients of the other as well.
    fn hold(&mut self) {
        self.leaves.extend(self.replicas.iter().map(Replica::leaf));
        for (number, replica) in self.replicas.iter().enumerate() {
            for (at, leaf) in self.leaves.iter().enumerate() {
                assert!(replica.believes(leaf), "replica {number} does not believe leaf {at} of {}", self.leaves.len());
            }
        }
    }

    /// A replica's pod is deleted, and a new one comes and follows the other.
    async fn replace(&mut self, number: usize) {
        self.begin(number).await;
        self.tell(1 - number);
        self.hold();
    }

    async fn begin(&mut self, number: usize) {
        let config = self.replicas[number].config.clone();
        std::fs::remove_dir_all(&config.common.state_dir).unwrap();
        self.replicas[number] = Replica::open(config).await;
    }

    fn secret(&self) -> Entries {
        self.secrets.entries(CA)
    }
}

#[tokio::test]
async fn one_authority_after_the_other_takes_over_and_a_leaf_of_either_replica_is_believed_at_both_at_every_moment() {
    let mut scene = Scene::new().await;
    let own = scene.replicas[0].signs();
    assert_eq!(scene.replicas[1].signs(), own);
    for _ in 0..3 {
        let before = scene.replicas[0].signs();
        scene.secrets.cacerts();
        scene.look(0).await;
        assert!(scene.replicas[0].standing.lock().announced);
        // The other one has not looked yet, and one that begins only now has the new key alone; both go on with the old one.
        assert_eq!(scene.replicas[1].signs(), before);
        scene.replace(1).await;
        assert_eq!(scene.replicas[1].signs(), before);
        scene.look(0).await;
        assert_ne!(scene.replicas[0].signs(), before);
        scene.look(1).await;
        assert_eq!(scene.replicas[1].signs(), scene.replicas[0].signs());
        assert!(scene.replicas.iter().all(|replica| replica.standing.lock().signs));
        let calm = scene.secrets.writes();
        scene.look(0).await;
        scene.look(1).await;
        assert_eq!(scene.secrets.writes(), calm, "both have the same, and nobody writes");
    }
    assert_eq!(scene.replicas[0].ca.roots().len(), 4);
}

#[tokio::test]
async fn in_whatever_order_replicas_look_are_replaced_and_meet_older_secrets_nothing_is_forgotten() {
    for seed in 0..12 {
        println!("seed {seed}");
        let (mut scene, mut random) = (Scene::new().await, fastrand::Rng::with_seed(seed));
        let mut backup = scene.secret();
        for _ in 0..24 {
            let one = random.usize(0..2);
            match random.u8(0..12) {
                0 => scene.secrets.cacerts(),
                1 => scene.replace(one).await,
                2 => backup = scene.secret(),
                3 => scene.secrets.put_all(CA, &backup),
                4 => scene.secrets.just_before(CA, scene.secret()),
                5 if scene.secrets.all().contains(&"cacerts".to_owned()) => {
                    scene.secrets.put_but("cacerts", ("ca-key.pem", Some(b"cut")))
                }
                _ => scene.look(one).await,
            }
        }
        for number in [0, 1, 0, 1, 0, 1] {
            scene.look(number).await;
        }
        assert_eq!(scene.replicas[0].signs(), scene.replicas[1].signs());
        assert_eq!(scene.replicas[0].ca.roots(), scene.replicas[1].ca.roots());
    }
}

#[tokio::test]
async fn who_is_cut_off_from_the_api_server_hears_all_the_same_and_takes_away_nothing_when_it_is_back() {
    let mut scene = Scene::new().await;
    let own = scene.replicas[0].signs();
    scene.secrets.cacerts();
    for _ in 0..2 {
        scene.look(0).await;
    }
    let new = scene.replicas[0].signs();
    scene.secrets.is_away(true);
    scene.look(1).await;
    assert_eq!(scene.replicas[1].signs(), own, "it goes on with what it knows");
    assert!(scene.replicas[1].believes(&scene.replicas[0].leaf()));
    scene.secrets.is_away(false);
    let before = scene.secret();
    scene.look(1).await;
    assert_eq!(scene.replicas[1].signs(), new);
    assert_eq!(scene.secret()[shared::SIGNING], before[shared::SIGNING]);
}

#[tokio::test]
async fn a_deleted_secret_is_put_back_and_one_that_was_made_anew_takes_no_leaf_its_believers() {
    let mut scene = Scene::new().await;
    scene.hold();
    let before = scene.secret();
    scene.secrets.delete(CA);
    scene.look(0).await;
    assert_eq!(scene.secret()[shared::OWN], before[shared::OWN]);
    // A new replica was faster than the others: there are two authorities, until all sign with the one in the Secret.
    scene.secrets.delete(CA);
    scene.begin(1).await;
    assert_ne!(scene.replicas[1].signs(), scene.replicas[0].signs());
    scene.tell(0);
    scene.tell(1);
    scene.hold();
    scene.look(0).await;
    assert_eq!(scene.replicas[1].signs(), scene.replicas[0].signs());
    scene.look(1).await;
}

#[tokio::test]
async fn who_was_slower_reads_again_and_a_secret_of_yesterday_changes_nothing() {
    let mut scene = Scene::new().await;
    let yesterday = scene.secret();
    for _ in 0..2 {
        let before = scene.secret();
        scene.secrets.cacerts();
        scene.look(0).await;
        scene.secrets.just_before(CA, scene.secret());
        scene.look(0).await;
        assert_ne!(scene.secret().get(shared::SIGNING), before.get(shared::SIGNING), "it signs, so it is written");
        scene.look(1).await;
        let (signs, now) = (scene.replicas[0].signs(), scene.secret());
        for older in [before, yesterday.clone()] {
            scene.secrets.put_all(CA, &older);
            for number in [0, 1] {
                scene.look(number).await;
                assert_eq!(scene.replicas[number].signs(), signs);
            }
            assert_eq!(scene.secret(), now);
        }
    }
}

#[tokio::test]
async fn what_is_broken_is_refused_by_both_in_an_event_and_what_signed_signs_on() {
    let mut scene = Scene::new().await;
    scene.secrets.cacerts();
    for number in [0, 0, 1] {
        scene.look(number).await;
    }
    let (signs, good) = (scene.replicas[0].signs(), scene.secrets.entries("cacerts"));
    scene.secrets.put_but("cacerts", ("ca-key.pem", Some(b"garbage")));
    let named = "Secret isthmus-system/cacerts, entry ca-key.pem: it holds no private key";
    for number in [0, 1] {
        scene.look(number).await;
        let replica = &mut scene.replicas[number];
        assert!(replica.standing.lock().refused.as_ref().unwrap().starts_with(named));
        let event = replica.events.try_recv().unwrap();
        assert_eq!((event.about.kind.as_str(), event.about.name.as_str()), ("Secret", "cacerts"));
        assert!(
            event.note.starts_with(named) && event.note.ends_with("(what signed before signs on)"),
            "{}",
            event.note
        );
        assert_eq!(replica.signs(), signs);
    }
    scene.look(0).await;
    assert!(scene.replicas[0].events.try_recv().is_err(), "once");
    scene.replace(1).await;
    assert_eq!(scene.replicas[1].signs(), signs);
    scene.secrets.put_all("cacerts", &good);
    for number in [0, 1] {
        scene.look(number).await;
        assert!(scene.replicas[number].standing.lock().signs);
    }
    scene.secrets.delete("cacerts");
    scene.look(0).await;
    assert!(scene.replicas[0].standing.lock().refused.as_ref().unwrap().contains("is gone; put it back"));
    assert_eq!(scene.replicas[0].signs(), signs);
}

#[tokio::test]
async fn roots_of_passes_are_made_once_for_both() {
    let mut scene = Scene::new().await;
    let week = SystemTime::now() + Duration::from_secs(8 * 24 * 3600);
    let proposed = [0, 1].map(|number| scene.replicas[number].ca.proposal(week).unwrap());
    assert_ne!(proposed[0][shared::PASSES], proposed[1][shared::PASSES]);
    // The first one's is there; the second one's, which nobody took, never counts.
    scene.secrets.put_all(CA, &proposed[0]);
    for number in [0, 1] {
        scene.look(number).await;
        let proposal = scene.replicas[number].ca.proposal(week).unwrap();
        assert_eq!(proposal[shared::PASSES], proposed[0][shared::PASSES]);
    }
}
