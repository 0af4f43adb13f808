//! What a member that lies does as the leader to the snapshots it sends: it puts a statement of another into them that the
//! other never signed, or makes itself the only operator in the name of the one that is.
//!
//! The receiver must find out. It then stops, as a member does whose leader's history is not its own, and begins again.
//! (What a leader leaves out of a snapshot is not among its lies here: Raft believes its leader about what is written.)

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use isthmus_core::statement::{Card, Content, Version};
use isthmus_federation::state::Blob;
use parking_lot::Mutex;
use prost::Message;
use serde_json::Value;

use crate::{place::Place, words, world::FIRST};

/// Shared by all members of a story.
#[derive(Clone, Default)]
pub struct Trickery {
    /// The cluster that lies.
    liar: Arc<Mutex<String>>,
    lies: Arc<AtomicBool>,
    /// Who was sent such a snapshot.
    tricked: Arc<Mutex<BTreeSet<String>>>,
}

impl Trickery {
    /// From now on this cluster lies, or no more.
    pub fn set(&self, liar: &str, lies: bool) {
        liar.clone_into(&mut self.liar.lock());
        self.lies.store(lies, Ordering::Relaxed);
    }

    /// Whether a member may have stopped for what it was sent; asked once.
    pub fn tricked(&self, cluster: &str) -> bool {
        self.tricked.lock().remove(cluster)
    }

    /// A call with a snapshot, changed if its sender lies.
    pub fn with(&self, place: &Place, to: &str, body: Vec<u8>) -> Vec<u8> {
        if !self.lies.load(Ordering::Relaxed) || *self.liar.lock() != place.cluster {
            return body;
        }
        let Some(changed) = change(place, to, &body) else { return body };
        place.witness.note(&format!("{} sends {to} a snapshot that is not so", place.cluster));
        self.tricked.lock().insert(to.to_owned());
        changed
    }
}

fn change(place: &Place, to: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut call: Value = serde_json::from_slice(body).ok()?;
    let bytes: Blob = serde_json::from_value(call["rpc"]["bytes"].clone()).ok()?;
    let mut kept: Value = serde_json::from_slice(&bytes.0).ok()?;
    let state = &mut kept["applied"]["state"];
    let key = place.keys.lock().get(&place.cluster).cloned()?;
    if body.len().is_multiple_of(2) {
        let content = Content::Card(Card { region: "forged".into(), ..Card::default() });
        let forged = words::statement(to, &content, Version { epoch: 99, number: 1 }, &key);
        let blob = serde_json::to_value(Blob(forged.encode_to_vec())).ok()?;
        state["statements"].as_array_mut()?.push(blob);
    } else {
        let coup = words::operators(&place.cluster, FIRST, 1, &key);
        state["deeds"].as_array_mut()?.push(serde_json::to_value(coup).ok()?);
    }
    call["rpc"]["bytes"] = serde_json::to_value(Blob(serde_json::to_vec(&kept).ok()?)).ok()?;
    serde_json::to_vec(&call).ok()
}
