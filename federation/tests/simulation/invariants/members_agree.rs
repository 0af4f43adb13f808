//! Once everything is mended, all members hold the same state.
//!
//! Source: the Raft paper, 2 and 5.3: equal logs, applied in order, make equal states; and they do come together.

use crate::witness::{Invariant, Seen};

/// Looks at the end only.
#[derive(Default)]
pub struct MembersAgree;

impl Invariant for MembersAgree {
    fn name(&self) -> &'static str {
        "members_agree"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Over { members: [first, others @ ..], .. } = seen else { return Ok(()) };
        match others.iter().find(|other| other.state != first.state) {
            Some(other) => Err(format!("{} and {} hold different states", first.cluster, other.cluster)),
            None => Ok(()),
        }
    }
}
