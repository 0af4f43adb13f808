//! A token lets one key in: once redeemed it is bound to that key for ever, and nobody else is told that it joined.
//!
//! Source: DESIGN.md decision 15.

use std::collections::BTreeMap;

use isthmus_federation::state::{Command, State};

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
    fn look(&mut self, cluster: &str, token: &str, state: &State) -> Result<(), String> {
        let by = state.token(token).and_then(|token| token.redeemed_by.as_ref());
        let Some(by) = by else { return Ok(()) };
        let first = self.redeemed.entry(token.to_owned()).or_insert_with(|| by.0.clone());
        if *first == by.0 {
            return Ok(());
        }
        Err(format!("token {token} was redeemed by {} and, for {cluster}, by {}", short(first), short(&by.0)))
    }
}

impl Invariant for TokenOnce {
    fn name(&self) -> &'static str {
        "token_once"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Applied { cluster, command: Some(Command::Join { token, .. }), state, .. } => {
                self.look(cluster, token, state)
            }
            Seen::Joined { token, key } => {
                let first = self.told.entry((*token).to_owned()).or_insert_with(|| key.to_vec());
                if first == key { Ok(()) } else { Err(format!("two keys were told they joined by token {token}")) }
            }
            _ => Ok(()),
        }
    }
}
