//! A write that was acknowledged is never lost: it stays at its index, and in the end everyone has it.
//!
//! Source: the Raft paper, Leader Completeness, 5.4; issue 3, "no committed write lost".

use std::collections::BTreeMap;

use isthmus_federation::state::Command;

use crate::witness::{Invariant, Seen};

/// What was acknowledged, by index.
#[derive(Default)]
pub struct CommittedKept(BTreeMap<u64, String>);

impl Invariant for CommittedKept {
    fn name(&self) -> &'static str {
        "committed_kept"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let json = |command: &Command| serde_json::to_string(command).expect("a command is JSON");
        match seen {
            Seen::Acknowledged { index, command } => match self.0.insert(*index, json(command)) {
                Some(other) if other != json(command) => Err(format!("two writes were told they are at {index}")),
                _ => Ok(()),
            },
            Seen::Applied { cluster, index, command, .. } => match self.0.get(index) {
                Some(written) if command.map(json).as_ref() != Some(written) => {
                    Err(format!("{cluster} applied something else at {index}, where {written} was acknowledged"))
                }
                _ => Ok(()),
            },
            Seen::Over { members, .. } => {
                let last = self.0.keys().next_back().copied().unwrap_or_default();
                match members.iter().find(|member| member.applied < last) {
                    Some(member) => Err(format!("{} has {} of {last}", member.cluster, member.applied)),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
