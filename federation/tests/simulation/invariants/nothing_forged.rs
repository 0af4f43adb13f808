//! Nothing is applied or shown that its cluster did not sign: no statement, no join entry, no ejection, no operator, whichever way it
//! came and whoever leads. One member of a story lies.
//!
//! Source: DESIGN.md decision 9. What is genuine is known apart from any signature: who says something in earnest tells
//! the witness first.

use std::collections::BTreeSet;

use isthmus_federation::state::State;
use isthmus_wire::federation::{MemberRecord, SignedStatement, watch_event::Event};
use prost::Message;

use crate::witness::{Invariant, Seen, short};

/// What is genuine.
#[derive(Default)]
pub struct NothingForged {
    said: BTreeSet<Vec<u8>>,
    keys: BTreeSet<(String, Vec<u8>)>,
    ejected: BTreeSet<String>,
    /// Who began the mesh: its only operator.
    first: Option<String>,
}

impl NothingForged {
    fn statement(&self, at: &str, said: &SignedStatement) -> Result<(), String> {
        if self.said.contains(&said.encode_to_vec()) {
            return Ok(());
        }
        let content = String::from_utf8_lossy(&said.content);
        Err(format!("{at} believes that {} says {content} under {}, which it never did", said.cluster, said.key))
    }

    fn member(&self, at: &str, record: &MemberRecord) -> Result<(), String> {
        if !self.keys.contains(&(record.cluster.clone(), record.federation_key.clone())) {
            let key = short(&record.federation_key);
            return Err(format!("{at} believes that {} has key {key}, which nobody gave it", record.cluster));
        }
        if record.operator && self.first.as_deref() != Some(record.cluster.as_str()) {
            return Err(format!("{at} believes that {} is an operator, which nobody made it", record.cluster));
        }
        if record.ejected && !self.ejected.contains(&record.cluster) {
            return Err(format!("{at} believes that {} is ejected, which no operator did", record.cluster));
        }
        Ok(())
    }

    fn state(&self, at: &str, state: &State) -> Result<(), String> {
        state.members().try_for_each(|record| self.member(at, record))?;
        state.statements().try_for_each(|said| self.statement(at, &said))
    }
}

impl Invariant for NothingForged {
    fn name(&self) -> &'static str {
        "nothing_forged"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Signed(said) => drop(self.said.insert(said.encode_to_vec())),
            Seen::Keyed { cluster, key } => {
                self.first.get_or_insert_with(|| (*cluster).to_owned());
                self.keys.insert(((*cluster).to_owned(), key.to_vec()));
            }
            Seen::Ejects { cluster } => drop(self.ejected.insert((*cluster).to_owned())),
            Seen::Applied { cluster, command: Some(_), state, .. } | Seen::Installed { cluster, state, .. } => {
                return self.state(cluster, state);
            }
            Seen::Watched { cluster, event } => match &event.event {
                Some(Event::Statement(said) | Event::Lease(said)) => return self.statement(cluster, said),
                Some(Event::Member(record)) => return self.member(cluster, record),
                Some(Event::Snapshot(all)) => {
                    all.members.iter().try_for_each(|record| self.member(cluster, record))?;
                    return all.statements.iter().try_for_each(|said| self.statement(cluster, said));
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
}
