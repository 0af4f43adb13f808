//! Whatever happened, in the end each cluster is heard by all: what it says last, under its key of the moment, is in
//! every member's log and view. So a reinstalled cluster is heard again, whatever version its old key had reached.
//!
//! Source: issue 3; DESIGN.md decisions 11 and 12.

use isthmus_wire::federation::SignedStatement;

use crate::witness::{Invariant, Seen};

/// Looks at the end only.
#[derive(Default)]
pub struct ReinstalledIsHeard;

impl Invariant for ReinstalledIsHeard {
    fn name(&self) -> &'static str {
        "reinstalled_is_heard"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Over { members, said } = seen else { return Ok(()) };
        for member in *members {
            let held: Vec<SignedStatement> = member.state.statements().collect();
            for last in *said {
                if !held.contains(last) || !member.view.statements.contains(last) {
                    let SignedStatement { cluster, key, epoch, number, .. } = last;
                    return Err(format!(
                        "{} does not hold {cluster}/{key} {epoch}.{number}, said last",
                        member.cluster
                    ));
                }
                let of = |all: &[SignedStatement]| all.iter().filter(|one| one.cluster == last.cluster).count();
                if of(&held) != of(said) {
                    return Err(format!("{} holds what {} no longer says", member.cluster, last.cluster));
                }
            }
        }
        Ok(())
    }
}
