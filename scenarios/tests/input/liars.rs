//! A member and a control with good identities of their own cluster that speak for another one, over the wire: by
//! deltas, by publishing, by entries in the log.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_core::statement::{Bundle, Card, Content, Gateways};
use isthmus_runtime::{
    grpc,
    identity::Identity,
    key,
    tls::{self, Accept},
};
use isthmus_scenarios::operator;
use isthmus_wire::{
    federation::{
        ProposeAnswer, PublishAnswer, SessionFrame, SessionHello, SignedStatement, member_client::MemberClient,
        publish_answer::Outcome, session_frame::Body,
    },
    signing::FederationKey,
};
use prost::Message;
use tokio::time::timeout;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    ground::{Ground, PATIENCE},
    support::eventually,
};

/// Somebody with all that a cluster's own people have: its federation key and its CA.
struct Liar<'a> {
    ground: &'a Ground,
    cluster: &'static str,
    key: FederationKey,
}

impl<'a> Liar<'a> {
    fn of(ground: &'a Ground, cluster: &'static str) -> Self {
        let file = ground.raised.mesh.state.federation_key(&ground.raised.cluster(cluster).name);
        Self { ground, cluster, key: key::federation_key(file).expect("the cluster has a key") }
    }

    /// An identity that the own cluster's CA vouches for, and the roots of everybody.
    fn identity(&self, namespace: &str, account: &str) -> Identity {
        let open = |cluster: &str| {
            let name = &self.ground.raised.cluster(cluster).name;
            let dir = self.ground.folder(cluster, "control").join("ca");
            isthmus_ca::Ca::open_or_create(&dir, &self.ground.raised.mesh.plan.mesh, name, Default::default()).unwrap()
        };
        let (own, mut roots) = (open(self.cluster), isthmus_runtime::trust::TrustRoots::new());
        for cluster in ["us-east", "us-west", "eu-west"].map(open) {
            cluster.roots().into_iter().for_each(|root| roots.add(cluster.trust_domain(), root));
        }
        let id = format!("spiffe://{}/ns/{namespace}/sa/{account}", own.trust_domain()).parse().unwrap();
        Identity::new(own.issue_local(&id).unwrap(), roots)
    }

    /// To the member of a cluster, straight.
    fn client(&self, to: &str, identity: &Identity) -> MemberClient<Channel> {
        let config = tls::client_config(identity, Accept::Any, &[b"isthmus-member/1"]);
        let address = std::net::SocketAddr::new(self.ground.raised.cluster(to).addresses().federation(), 15050);
        MemberClient::new(grpc::channel_with(config, address))
    }

    /// A statement of another cluster, signed by this one's key.
    fn forges(&self, victim: &str, content: &Content) -> SignedStatement {
        let mut said = SignedStatement {
            mesh: "mesh.local".into(),
            cluster: victim.into(),
            key: content.key(),
            epoch: 1 << 40,
            number: 1,
            content: serde_json::to_vec(content).unwrap(),
            signature: vec![],
        };
        self.key.sign(&mut said);
        said
    }

    /// Everything that would hurt: its roots, where its gateways are, that all it said before is gone.
    fn lies(&self, victim: &str) -> Vec<SignedStatement> {
        let domain = format!("{victim}.mesh.local").parse().unwrap();
        let contents = [
            Content::Bundle(Bundle { trust_domain: domain, roots: vec![STANDARD.encode(b"a thief's root")] }),
            Content::Card(Card {
                region: "forged".into(),
                gateways: Gateways::both(vec!["127.0.0.1:9".into()]),
                ..Card::default()
            }),
            Content::Epoch { keys: vec![] },
        ];
        contents.iter().map(|content| self.forges(victim, content)).collect()
    }

    async fn session(
        &self,
        to: &str,
        identity: &Identity,
        as_cluster: &str,
        frames: Vec<SessionFrame>,
    ) -> Result<(Streaming<SessionFrame>, tokio::sync::mpsc::Sender<SessionFrame>), Status> {
        let hello = SessionHello {
            wire_min: 1,
            wire_max: 1,
            mesh: "mesh.local".into(),
            cluster: as_cluster.into(),
            raft_id: 1,
            applies: vec![1],
        };
        let (out, frames_out) = tokio::sync::mpsc::channel(64);
        out.send(SessionFrame { id: 0, body: Some(Body::Hello(hello)) }).await.unwrap();
        for frame in frames {
            out.send(frame).await.unwrap();
        }
        let opened = self.client(to, identity).session(ReceiverStream::new(frames_out)).await?;
        Ok((opened.into_inner(), out))
    }
}

/// Waits for the answers to so many requests, by their ids.
async fn answers(frames: &mut Streaming<SessionFrame>, count: usize) -> BTreeMap<u64, ProposeAnswer> {
    let mut found = BTreeMap::new();
    let answered = async {
        while found.len() < count {
            let frame = frames.next().await.expect("the session stays open").expect("the session stays open");
            if let Some(Body::ProposeAnswer(answer)) = frame.body {
                found.insert(frame.id, answer);
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("the member answers what it is asked");
    found
}

pub async fn who_speaks_for_another_cluster_is_not_heard_not_even_as_the_leader(ground: &Ground) {
    let before = seen(ground).await;
    let liar = Liar::of(ground, "us-east");
    sessions_of_who_is_not_a_member_or_not_that_one_are_refused(&liar).await;
    deltas_and_log_entries_for_another_cluster_change_nothing(&liar).await;
    publishing_for_another_cluster_is_refused(&liar).await;
    assert_eq!(seen(ground).await, before, "nobody believes it");
    for (cluster, service) in [("us-west", "ratings"), ("eu-west", "details")] {
        ground.answers(cluster, service).await;
    }
}

/// What us-west and eu-west think of each other, as far as a lie could change it.
async fn seen(ground: &Ground) -> Vec<(String, String)> {
    let mut all = vec![];
    for (from, of) in [("us-west", "eu-west"), ("eu-west", "us-west")] {
        let view = ground.raised.view(from, of).await.expect("they know each other");
        all.push((view["region"].to_string(), view["gateways"].to_string()));
    }
    all
}

async fn sessions_of_who_is_not_a_member_or_not_that_one_are_refused(liar: &Liar<'_>) {
    let refusals = [
        (liar.identity("bookinfo", "federation"), "us-east", "is the member of no cluster"),
        (liar.identity("isthmus-system", "control"), "us-east", "is the member of no cluster"),
        (liar.identity("isthmus-system", "federation"), "eu-west", "us-east says it is eu-west"),
    ];
    for (identity, as_cluster, words) in refusals {
        let refused = liar.session("us-west", &identity, as_cluster, vec![]).await.expect_err("it must be refused");
        assert!(refused.message().contains(words), "{refused}");
    }
}

async fn deltas_and_log_entries_for_another_cluster_change_nothing(liar: &Liar<'_>) {
    let raised = &liar.ground.raised;
    let lies = liar.lies("eu-west");
    let blobs: Vec<_> = lies.iter().map(|lie| STANDARD.encode(lie.encode_to_vec())).collect();
    let command = serde_json::to_vec(&serde_json::json!({ "command": "statements", "statements": blobs })).unwrap();
    let leader = liar.ground.leader().await;
    // What the leader itself puts into the log, however it came by it, everybody applies.
    for to in ["us-west", leader.as_str()] {
        let mut frames: Vec<_> =
            lies.iter().map(|lie| SessionFrame { id: 0, body: Some(Body::Delta(lie.clone())) }).collect();
        frames.push(SessionFrame { id: 7, body: Some(Body::Propose(command.clone())) });
        frames.push(SessionFrame { id: 8, body: Some(Body::Propose(b"{\"command\":\"obey\"}".to_vec())) });
        let sender = Liar::of(liar.ground, if to == "us-east" { "us-west" } else { "us-east" });
        let identity = sender.identity("isthmus-system", "federation");
        let opened = sender.session(to, &identity, sender.cluster, frames).await;
        let (mut heard, _out) = opened.expect("a member may open a session");
        let told = answers(&mut heard, 2).await;
        assert!(to != leader || told[&7].error.is_empty(), "it is written, for what it is worth: {told:?}");
        assert!(told[&8].error.contains("a command this member does not know"), "{told:?}");
    }
    let applied = async |cluster: &str| {
        let standing = operator::standing(raised.member(cluster)).await?;
        anyhow::Ok(standing["applied"].as_u64().unwrap_or(0))
    };
    let written = applied(&leader).await.unwrap();
    for cluster in ["us-east", "us-west", "eu-west"] {
        eventually("the entry is applied everywhere", PATIENCE, || async {
            anyhow::ensure!(applied(cluster).await? >= written);
            Ok(())
        })
        .await;
    }
}

async fn publishing_for_another_cluster_is_refused(liar: &Liar<'_>) {
    let control = liar.identity("isthmus-system", "control");
    let publish = async |to: &str, identity: &Identity, said: Vec<SignedStatement>| {
        let mut answers = liar.client(to, identity).publish(tokio_stream::iter(said)).await?.into_inner();
        let first = timeout(Duration::from_secs(20), answers.next()).await.expect("an answer").expect("an answer")?;
        Ok::<PublishAnswer, Status>(first)
    };
    let lies = liar.lies("eu-west");
    let told = publish("us-east", &control, lies.clone()).await.expect("its own control may publish");
    match told.outcome {
        Some(Outcome::Refused(reason)) => assert!(reason.contains("speaks for itself only"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let refused = publish("us-west", &control, lies).await.expect_err("another's control may not");
    assert!(refused.message().contains("is not the control of this member's cluster"), "{refused}");
    // For its own cluster, but signed by another key.
    let thief = Liar::of(liar.ground, "us-west");
    let told = publish("us-east", &control, vec![thief.forges("us-east", &Content::Card(Card::default()))]).await;
    match told.expect("its own control may publish").outcome {
        Some(Outcome::Refused(reason)) => assert!(reason.contains("not signed"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
