//! Follows every other replica there is, as Kubernetes shows them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use isthmus_ca::Ca;
use isthmus_core::name::SpiffeId;
use isthmus_runtime::{
    drain::{Drain, DrainTrigger},
    grpc,
    identity::Identity,
    tls::Accept,
};
use tokio::{sync::watch, task::JoinSet};

use super::follower::Follower;
use crate::handle::{Handle, Message};

/// Where each replica is, by the name of its pod; the own one among them.
pub type Replicas = BTreeMap<String, IpAddr>;

/// The others.
pub struct Siblings {
    /// The own name.
    pub name: String,
    /// Where the feed is served.
    pub port: u16,
    /// What is shown, and what is asked for.
    pub identity: Identity,
    /// The identity of all replicas.
    pub control: SpiffeId,
    /// The own desk.
    pub desk: Handle,
    /// The own certificate authority.
    pub ca: Ca,
    /// All there are; `None`: not known yet.
    pub replicas: watch::Receiver<Option<Replicas>>,
}

impl Siblings {
    /// Follows until the drain.
    pub async fn run(mut self, drain: Drain) {
        let mut followed = BTreeMap::<(String, IpAddr), DrainTrigger>::new();
        let mut tasks = JoinSet::new();
        loop {
            let replicas = self.replicas.borrow_and_update().clone();
            if let Some(replicas) = replicas {
                let others: Vec<_> = replicas.into_iter().filter(|(name, _)| *name != self.name).collect();
                if others.is_empty() {
                    self.desk.pass(Message::Memory(None)).await;
                }
                followed.retain(|one, trigger| {
                    let stays = others.contains(one);
                    if !stays {
                        trigger.drain("the replica is gone");
                    }
                    stays
                });
                for one in others {
                    followed.entry(one).or_insert_with_key(|(name, address)| self.follow(name, *address, &mut tasks));
                }
            }
            tokio::select! {
                () = drain.draining() => break,
                Some(_) = tasks.join_next() => {}
                changed = self.replicas.changed() => if changed.is_err() { break },
            }
        }
    }

    fn follow(&self, replica: &str, address: IpAddr, tasks: &mut JoinSet<()>) -> DrainTrigger {
        tracing::info!(replica, %address, "another replica of this control is followed");
        let (trigger, dropped) = Drain::pair();
        let address = SocketAddr::new(address, self.port);
        let follower = Follower {
            name: self.name.clone(),
            replica: replica.to_owned(),
            channel: grpc::channel(&self.identity, address, Accept::one(self.control.clone())),
            desk: self.desk.clone(),
            ca: self.ca.clone(),
            streams: BTreeMap::new(),
        };
        tasks.spawn(follower.run(dropped));
        trigger
    }
}
