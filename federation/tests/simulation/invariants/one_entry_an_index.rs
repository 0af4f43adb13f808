//! Whoever applies an index applies the same entry there, in this life or another.
//!
//! Source: the Raft paper, State Machine Safety, 5.4.3.

use std::collections::BTreeMap;

use crate::witness::{Invariant, Seen};

/// The entry at each index that was applied anywhere.
#[derive(Default)]
pub struct OneEntryAnIndex(BTreeMap<u64, (u64, String)>);

impl Invariant for OneEntryAnIndex {
    fn name(&self) -> &'static str {
        "one_entry_an_index"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Applied { cluster, index, term, command, .. } = seen else { return Ok(()) };
        let entry = (*term, serde_json::to_string(command).expect("a command is JSON"));
        let first = self.0.entry(*index).or_insert_with(|| entry.clone());
        if *first == entry {
            return Ok(());
        }
        Err(format!("{cluster} applied {entry:?} at {index}, where {first:?} was applied before"))
    }
}
