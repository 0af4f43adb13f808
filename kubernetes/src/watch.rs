//! A task a kind, all telling one channel.
//!
//! What holds: a kind is told whole once its list is complete, and then object by object; an API server that does not answer
//! is asked again, later each time, and nothing is told meanwhile.

mod health;
mod objects;
mod patience;
mod presence;

use isthmus_runtime::drain::Drain;
use kube::Client;
use tokio::{sync::mpsc, task::JoinSet};

use self::health::Health;
use crate::{Kind, seen::Told};

/// What was told and not taken yet: a slow taker slows the watches down.
const QUEUE: usize = 256;

/// Begins to watch every kind, until the drain; the receiver ends with the tasks.
pub fn start(client: &Client, tasks: &mut JoinSet<()>, drain: &Drain) -> mpsc::Receiver<Told> {
    let (tell, told) = mpsc::channel(QUEUE);
    let health = Health::default();
    for kind in Kind::ALL {
        let (client, tell, drain, health) = (client.clone(), tell.clone(), drain.clone(), health.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = drain.draining() => {}
                () = watch(client, kind, &tell, &health) => {}
            }
        });
    }
    told
}

async fn watch(client: Client, kind: Kind, tell: &mpsc::Sender<Told>, health: &Health) {
    match kind.definition() {
        None => objects::watch(client, kind, "v1", tell, health).await,
        Some(definition) => presence::watch(client, kind, &definition, tell, health).await,
    }
}
