//! Where a member is in a story, and how its Raft calls others from there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_federation::{
    raft::{
        self,
        network::{Carrier, method},
    },
    session::CallError,
};
use isthmus_wire::{
    federation::{RaftAnswer, RaftCall, session_frame::Body},
    signing::FederationKey,
};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    disk::Disk,
    network::{Letter, Network},
    plant::Plant,
    trickery::Trickery,
    witness::{Seen, Witness},
};

/// Where a member is in the story.
#[derive(Clone)]
pub struct Place {
    /// Its cluster.
    pub cluster: String,
    /// Its disk.
    pub disk: Disk,
    /// The network.
    pub network: Network,
    /// Who is told.
    pub witness: Witness,
    /// The bug, if there is one.
    pub plant: Option<Plant>,
    /// Every cluster's key, for bugs that need what no member has.
    pub keys: Keys,
    /// What its snapshots are turned into on their way, while it lies.
    pub trickery: Trickery,
}

/// Every cluster's key.
pub type Keys = Arc<Mutex<BTreeMap<String, Arc<FederationKey>>>>;

/// How its Raft calls others, in one life.
#[derive(Clone)]
pub struct Wire(pub Place, pub u64);

/// The part of a call of Raft that says who leads.
#[derive(Deserialize)]
struct Speaker {
    rpc: Spoken,
}

#[derive(Deserialize)]
struct Spoken {
    vote: openraft::impls::Vote<raft::LeaderId>,
}

impl Carrier for Wire {
    async fn call(&self, cluster: &str, called: &str, body: Vec<u8>, limit: Duration) -> Result<Vec<u8>, CallError> {
        let Self(place, life) = self;
        if place.disk.life() != *life || !place.network.has(&place.cluster, cluster) {
            return Err(CallError::NoSession(cluster.to_owned()));
        }
        if called == method::APPEND
            && let Ok(Speaker { rpc: Spoken { vote } }) = serde_json::from_slice(&body)
        {
            place.witness.tell(&Seen::Leads { cluster: &place.cluster, term: vote.leader_id.term });
        }
        let body = if called == method::SNAPSHOT { place.trickery.with(place, cluster, body) } else { body };
        let letter = Letter::Frame(Body::Raft(RaftCall { method: called.to_owned(), body }));
        match place.network.call(&place.cluster, cluster, letter, limit).await {
            Some(Letter::Frame(Body::RaftAnswer(RaftAnswer { body, error }))) if error.is_empty() => Ok(body),
            Some(Letter::Frame(Body::RaftAnswer(RaftAnswer { error: reason, .. }))) => {
                Err(CallError::Refused { cluster: cluster.to_owned(), reason })
            }
            _ => Err(CallError::Timeout(cluster.to_owned())),
        }
    }
}
