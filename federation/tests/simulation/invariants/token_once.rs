//! A token lets one key in: once redeemed it is bound to that key for ever, and nobody else is told that it joined.
//!
//! Source: DESIGN.md decision 15.

use std::collections::BTreeMap;

use isthmus_federation::state::{Blob, Command, State};
use isthmus_wire::federation::MemberRecord;
use prost::Message;

use crate::witness::{Invariant, Seen, short};

/// The key of each token.
#[derive(Default)]
pub struct TokenOnce {
    /// As the log has it.
    redeemed: BTreeMap<String, Vec<u8>>,
    /// As joiners were told.
    told: BTreeMap<String, Vec<u8>>,
}

impl TokenOnce {
    /// After a join entry was applied: whether it let its key in, and whether that is the first by its token.
    fn look(&mut self, cluster: &str, token: &str, record: &Blob, state: &State) -> Result<(), String> {
        let Ok(record) = MemberRecord::decode(record.0.as_slice()) else { return Ok(()) };
        if state.member(&record.cluster).is_none_or(|held| held.federation_key != record.federation_key) {
            return Ok(());
        }
        let first = self.redeemed.entry(token.to_owned()).or_insert_with(|| record.federation_key.clone());
        if *first == record.federation_key {
            return Ok(());
        }
        let (one, other) = (short(first), short(&record.federation_key));
        Err(format!("token {token} let {one} in and, at {cluster}, {other} too"))
    }
}

impl Invariant for TokenOnce {
    fn name(&self) -> &'static str {
        "token_once"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Applied { cluster, command: Some(Command::Join { token, record }), state, .. } => {
                self.look(cluster, token, record, state)
            }
            Seen::Joined { token, key } => {
                let first = self.told.entry((*token).to_owned()).or_insert_with(|| key.to_vec());
                if first == key { Ok(()) } else { Err(format!("two keys were told they joined by token {token}")) }
            }
            _ => Ok(()),
        }
    }
}
