//! The source with a test in the API server's place.

use isthmus_core::compile::finding;
use isthmus_kubernetes::{Kind, arrived::Arrived};
use isthmus_runtime::drain::DrainTrigger;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

/// A source whose API server is the test.
struct Ground {
    tell: mpsc::Sender<Told>,
    desk: mpsc::Receiver<Message>,
    compiled: watch::Sender<Option<Arc<Compiled>>>,
    said: watch::Receiver<Arc<Vec<Said>>>,
    trigger: DrainTrigger,
    task: JoinHandle<()>,
}

impl Ground {
    fn start(folder: &std::path::Path) -> Self {
        let (to_desk, desk) = mpsc::channel(64);
        let (compiled, result) = watch::channel(None);
        let handle = Handle::new(to_desk, watch::channel(None).1);
        let file = folder.join("cluster.json");
        let tells = Tells { candidacy: watch::channel(Candidacy::default()).0, replicas: watch::channel(None).0 };
        let own = ("east".parse().unwrap(), "control".into());
        let source = Source::open(Access::default(), own, file, handle, result, tells).unwrap();
        let ((tell, told), (say, said)) = (mpsc::channel(64), watch::channel(Arc::default()));
        let (trigger, drain) = Drain::pair();
        let task = tokio::spawn(source.run(told, say, drain));
        Self { tell, desk, compiled, said, trigger, task }
    }

    async fn sources(&mut self) -> Sources {
        let message = tokio::time::timeout(Duration::from_secs(20), self.desk.recv()).await;
        match message.expect("the desk is told in time") {
            Some(Message::Sources(sources)) => sources,
            other => panic!("{other:?}"),
        }
    }

    async fn all(&self, kind: Kind, objects: Vec<Value>) {
        let arrived = objects.into_iter().map(|object| arrived(kind, object)).collect();
        self.tell.send(Told::All(kind, arrived)).await.unwrap();
    }

    /// Each kind is listed, one policy among them; the revision that follows.
    async fn listed(&mut self) -> u64 {
        for kind in Kind::ALL {
            let objects = if kind == Kind::FailoverPolicy { vec![policy(1, json!({}))] } else { vec![] };
            self.all(kind, objects).await;
        }
        self.sources().await.revision
    }

    async fn one(&self, kind: Kind, object: Value) {
        self.tell.send(Told::One(kind, Box::new(arrived(kind, object)))).await.unwrap();
    }

    async fn stop(self) {
        self.trigger.drain("the test says so");
        self.task.await.unwrap();
    }
}

fn arrived(kind: Kind, object: Value) -> Arrived {
    Arrived::of(kind, serde_json::from_value(object).unwrap()).unwrap()
}

fn service(port: Value) -> Value {
    json!({"metadata": {"name": "reviews", "namespace": "shop"}, "spec": {"ports": [{"port": port}]}})
}

fn policy(generation: i64, spec: Value) -> Value {
    let metadata = json!({"name": "near", "namespace": "shop", "generation": generation});
    json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "FailoverPolicy", "metadata": metadata, "spec": spec})
}

#[tokio::test]
async fn nothing_is_told_before_each_kind_was_listed_and_a_new_run_begins_with_what_was_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::start(folder.path());
    let (last, rest) = Kind::ALL.split_last().unwrap();
    ground.all(Kind::Service, vec![service(json!(9080))]).await;
    for kind in rest.iter().filter(|kind| **kind != Kind::Service) {
        ground.all(*kind, vec![]).await;
    }
    ground.all(*last, vec![]).await;
    let first = ground.sources().await;
    assert!(first.known && first.facts.is_some(), "{first:?}");
    assert_eq!(first.in_force.keys().collect::<Vec<_>>(), ["Service/shop/reviews"]);
    ground.one(Kind::Service, service(json!("many"))).await;
    let second = ground.sources().await;
    assert_eq!(second.in_force, first.in_force, "the last good one stays");
    let fault = &second.files[0].2[0];
    assert_eq!(
        fault.to_string(),
        "Service/shop/reviews: spec.ports[0].port: \"port: many\" is not a whole number from 0 to 65535"
    );
    ground.stop().await;
    let mut again = Ground::start(folder.path());
    assert_eq!(again.sources().await.in_force, first.in_force, "without a word of the API server");
    again.all(Kind::Service, vec![]).await;
    assert!(again.sources().await.in_force.is_empty());
    again.stop().await;
}

#[tokio::test]
async fn a_status_that_was_written_comes_back_as_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::start(folder.path());
    let revision = ground.listed().await;
    ground.compiled.send_replace(Some(Arc::new(Compiled { revision, ..Compiled::default() })));
    ground.said.wait_for(|said| !said.is_empty()).await.unwrap();
    let written: Vec<_> = ground.said.borrow_and_update()[0]
        .verdicts
        .iter()
        .map(|one| json!({"type": one.of, "status": "True", "reason": one.reason, "message": one.message, "observedGeneration": 1}))
        .collect();
    assert_eq!(written.len(), 3, "{written:?}");
    let mut back = policy(1, json!({}));
    back["status"] = json!({"conditions": written});
    ground.one(Kind::FailoverPolicy, back).await;
    ground.said.wait_for(|said| said[0].of.conditions.len() == 3).await.unwrap();
    assert!(ground.desk.try_recv().is_err(), "the desk is not told, and nothing is compiled");
    ground.stop().await;
}

#[tokio::test]
async fn a_verdict_waits_for_what_was_told_last_and_for_the_other_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::start(folder.path());
    let revision = ground.listed().await;
    let fault = |reason: &str| Fault {
        file: "FailoverPolicy/shop/near".into(),
        line: 0,
        field: "spec".into(),
        kind: finding::Kind::Invalid,
        reason: reason.into(),
    };
    let compiled = |revision, faults| Some(Arc::new(Compiled { revision, faults, ..Compiled::default() }));
    ground.compiled.send_replace(compiled(revision - 1, vec![fault("old news")]));
    let partial = Compiled { revision, partial: true, faults: vec![fault("nobody is there")], ..Compiled::default() };
    ground.compiled.send_replace(Some(Arc::new(partial)));
    ground.compiled.send_replace(compiled(revision, vec![fault("it is odd")]));
    ground.said.wait_for(|said| !said.is_empty()).await.unwrap();
    let said = ground.said.borrow().clone();
    assert_eq!((said[0].of.generation, said[0].verdicts[0].reason), (1, "PartlyInvalid"));
    ground.one(Kind::FailoverPolicy, policy(2, json!({"nonsense": 1}))).await;
    let revision = ground.sources().await.revision;
    ground.compiled.send_replace(compiled(revision, vec![]));
    ground.said.wait_for(|said| said.iter().any(|one| one.of.generation == 2)).await.unwrap();
    assert_eq!(ground.said.borrow()[0].verdicts[0].reason, "Invalid");
    ground.stop().await;
}
