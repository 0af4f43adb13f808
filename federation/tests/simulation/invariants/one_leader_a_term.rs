//! At most one member leads a term.
//!
//! Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", Election Safety, 5.2.

use std::collections::BTreeMap;

use crate::witness::{Invariant, Seen};

/// Who led which term.
#[derive(Default)]
pub struct OneLeaderATerm(BTreeMap<u64, String>);

impl Invariant for OneLeaderATerm {
    fn name(&self) -> &'static str {
        "one_leader_a_term"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Leads { cluster, term } = seen else { return Ok(()) };
        let first = self.0.entry(*term).or_insert_with(|| (*cluster).to_owned());
        if first == cluster { Ok(()) } else { Err(format!("{first} and {cluster} both lead term {term}")) }
    }
}
