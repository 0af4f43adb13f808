//! Two candidates at a real API server: `ISTHMUS_KUBECONFIG=… cargo test -p isthmus-kubernetes --test election -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use isthmus_kubernetes::{
    Access, Client,
    leader::{Candidacy, Election},
};
use isthmus_runtime::drain::{Drain, DrainTrigger};
use tokio::{sync::watch, task::JoinHandle};

const LIMIT: Duration = Duration::from_secs(60);

struct Replica {
    leads: watch::Receiver<Candidacy>,
    trigger: DrainTrigger,
    task: JoinHandle<()>,
}

fn replica(client: &Client, lease: &str, name: &str) -> Replica {
    let (tell, leads) = watch::channel(Candidacy::default());
    let (trigger, drain) = Drain::pair();
    let election = Election::new(client.clone(), "default", lease, name);
    Replica { leads, trigger, task: tokio::spawn(election.run(tell, drain)) }
}

async fn leads(replica: &mut Replica) {
    tokio::time::timeout(LIMIT, replica.leads.wait_for(|stands| stands.leads()))
        .await
        .expect("it leads in time")
        .unwrap();
}

#[tokio::test]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG"]
async fn one_leads_and_when_it_ends_the_other_does() {
    let kubeconfig = std::env::var_os("ISTHMUS_KUBECONFIG").expect("ISTHMUS_KUBECONFIG names a cluster for tests");
    let client = Access { kubeconfig: Some(kubeconfig.into()), ..Access::default() }.client().await.unwrap();
    let lease = "isthmus-test-election";
    let mut first = replica(&client, lease, "first");
    leads(&mut first).await;
    let mut second = replica(&client, lease, "second");
    first.trigger.drain("the test says so");
    first.task.await.unwrap();
    assert_eq!(*first.leads.borrow(), Candidacy::Follows);
    leads(&mut second).await;
    // A killed one gives nothing back: its Lease has to run out.
    second.task.abort();
    let mut third = replica(&client, lease, "third");
    leads(&mut third).await;
    third.trigger.drain("the test says so");
    third.task.await.unwrap();
}
