//! A joiner with every wrong kind of token, as it speaks over the wire to a member that runs; and an operator who pastes
//! one.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use isthmus_runtime::{
    grpc,
    tls::{self, Accept},
    trust::TrustRoots,
};
use isthmus_scenarios::{admin, operator};
use isthmus_wire::{
    federation::{JoinRequest, member_client::MemberClient},
    signing::FederationKey,
};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    ground::{Ground, PATIENCE},
    support::eventually,
};

/// A cluster that would like to join, and its key.
struct Joiner {
    name: &'static str,
    key: FederationKey,
}

impl Joiner {
    fn new(name: &'static str) -> Self {
        Self { name, key: FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap() }
    }

    /// What it asks with a token.
    fn asks(&self, token: &Value) -> JoinRequest {
        let mut request = JoinRequest {
            mesh: text(token, "mesh"),
            cluster: self.name.into(),
            token_id: text(token, "id"),
            secret: STANDARD.decode(text(token, "secret")).unwrap(),
            federation_key: self.key.public(),
            roots: vec![b"a root".to_vec()],
            addresses: vec!["127.119.3.1:15443".into()],
            trust_domain: format!("{}.mesh.local", self.name),
            proof: vec![],
        };
        self.key.prove(&mut request);
        request
    }

    fn proves(&self, mut request: JoinRequest) -> JoinRequest {
        self.key.prove(&mut request);
        request
    }
}

fn text(token: &Value, field: &str) -> String {
    token[field].as_str().unwrap_or_else(|| panic!("a token has {field}")).to_owned()
}

/// What a token says.
fn open(token: &str) -> Value {
    let json = URL_SAFE_NO_PAD.decode(token.strip_prefix("isthmus1.").expect("a token")).expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}

/// Asks the issuer's member, as a joiner does, under the roots that the token gives.
async fn ask(token: &Value, request: JoinRequest) -> Result<u64, String> {
    let domain = text(token, "trust_domain").parse().unwrap();
    let roots = token["roots"].as_array().unwrap().iter().map(|root| STANDARD.decode(root.as_str().unwrap()).unwrap());
    let roots = TrustRoots::of_domain(&domain, roots.map(CertificateDer::from));
    let issuer = format!("spiffe://{domain}/ns/isthmus-system/sa/federation").parse().unwrap();
    let config = tls::anonymous_client_config(roots, Accept::one(issuer), &[b"isthmus-member/1"]);
    let address = token["addresses"][0].as_str().unwrap();
    let mut client = MemberClient::new(grpc::channel_with(config, address));
    let answer = timeout(PATIENCE, client.join(request)).await.expect("a member answers");
    answer.map(|joined| joined.into_inner().raft_id).map_err(|status| grpc::reason(&status))
}

/// Whether the mesh knows a token, asked by somebody who has not its secret.
pub async fn is_known(pasted: &str) -> bool {
    let said = open(pasted);
    let cluster: &'static str = text(&said, "cluster").leak();
    let joiner = Joiner::new(cluster);
    let guess = joiner.proves(JoinRequest { secret: vec![0; 32], ..joiner.asks(&said) });
    ask(&said, guess).await.is_err_and(|told| told.contains("secret is wrong"))
}

/// A token; while a leader is elected nothing is written, and it is asked for again.
pub async fn made(member: SocketAddr, cluster: &str, ttl: Duration) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        match operator::create_token(member, cluster, ttl).await {
            Ok(token) => return token,
            Err(reason) => assert!(Instant::now() < until, "no token for {cluster}: {reason:#}"),
        }
    }
}

async fn token(ground: &Ground, cluster: &str, ttl: Duration) -> (String, Value) {
    let text = made(ground.raised.member("us-east"), cluster, ttl).await;
    let said = open(&text);
    (text, said)
}

fn refused(answer: Result<u64, String>, words: &[&str]) {
    let told = answer.expect_err("it must be refused");
    println!("refused: {told}");
    assert!(words.iter().all(|word| told.contains(word)), "{told:?} does not say {words:?}");
}

pub async fn of_every_wrong_kind_are_refused_with_the_reason(ground: &Ground) {
    let hour = Duration::from_secs(3600);
    let joiner = Joiner::new("ap-south");
    let (pasted, good) = token(ground, "ap-south", hour).await;
    let asked = joiner.asks(&good);

    refused(
        ask(&good, joiner.proves(JoinRequest { token_id: "f00d".into(), ..asked.clone() })).await,
        &["f00d", "not known", "isthmus token create"],
    );
    refused(
        ask(&good, joiner.proves(JoinRequest { secret: vec![0; 32], ..asked.clone() })).await,
        &["secret is wrong"],
    );
    refused(ask(&good, Joiner::new("ap-east").asks(&good)).await, &["is for cluster ap-south", "ap-east"]);
    refused(
        ask(&good, joiner.proves(JoinRequest { mesh: "other.local".into(), ..asked.clone() })).await,
        &["other.local", "mesh.local"],
    );
    refused(
        ask(&good, joiner.proves(JoinRequest { trust_domain: "us-east.mesh.local".into(), ..asked.clone() })).await,
        &["us-east.mesh.local", "not the trust domain of"],
    );
    // Somebody who read the request on its way has not the key it names.
    refused(ask(&good, Joiner::new("ap-south").proves(JoinRequest { ..asked.clone() })).await, &["federation key"]);

    let (_, short) = token(ground, "ap-south", Duration::from_secs(1)).await;
    eventually("the token expires", PATIENCE, || async {
        // Each try is another key's: none of them may burn it before.
        let told = ask(&short, JoinRequest { secret: vec![0; 32], ..joiner.asks(&short) }).await;
        anyhow::ensure!(told.is_err(), "{told:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        anyhow::ensure!(now > short["expires"].as_u64().unwrap() + 1, "it is still valid");
        Ok(())
    })
    .await;
    refused(ask(&short, joiner.asks(&short)).await, &["has expired", "isthmus token create"]);

    // What a person pastes, to a member that is of a mesh already and to the command.
    let member = ground.raised.member("us-west");
    for (wrong, words) in [
        ("hello", ["no join token", "copy it whole"]),
        (&pasted[..pasted.len() / 2], ["cut or changed", "copy it whole"]),
        (pasted.as_str(), ["is of mesh mesh.local already", "state directory"]),
    ] {
        let told = format!("{:#}", operator::join(member, wrong, &[]).await.expect_err("it must be refused"));
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }
    let asked = serde_json::json!({ "cluster": "us-east", "ttl_seconds": 60 });
    let own = admin::send(ground.raised.member("us-east"), "/tokens", &asked, PATIENCE).await;
    assert!(own.expect_err("no token for itself").to_string().contains("us-east"));

    used_once_it_lets_the_same_key_in_again_and_no_other(ground, &joiner).await;
}

/// At the end, since a cluster that joined without a member that answers stays one that is missed until it is ejected.
async fn used_once_it_lets_the_same_key_in_again_and_no_other(ground: &Ground, joiner: &Joiner) {
    let (_, good) = token(ground, joiner.name, Duration::from_secs(3600)).await;
    let first = ask(&good, joiner.asks(&good)).await.expect("a good token lets its cluster in");
    let again = ask(&good, joiner.asks(&good)).await.expect("a lost reply must not burn it");
    assert_eq!(first, again);
    let thief = Joiner::new("ap-south");
    refused(ask(&good, thief.asks(&good)).await, &["used already", "isthmus token create"]);
    let eject = serde_json::json!({ "cluster": joiner.name });
    admin::send(ground.raised.member("us-east"), "/eject", &eject, PATIENCE).await.expect("it is ejected");
}
