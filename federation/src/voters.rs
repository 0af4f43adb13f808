//! Who votes: 1, 3 or 5 of the members, everyone else learns (DESIGN.md decision 14). A decision, without Raft or clock:
//! the leader asks for the next step until there is none.

use std::collections::{BTreeMap, BTreeSet};

use openraft::Membership;

use crate::raft::Node;

/// One change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member is not even a learner yet.
    Learner(u64, Node),
    /// These should vote.
    Voters(BTreeSet<u64>),
    /// These are members no longer.
    Gone(BTreeSet<u64>),
}

/// How many of so many members vote.
#[must_use]
pub fn count(members: usize) -> usize {
    match members {
        0..=2 => members.min(1),
        3 | 4 => 3,
        _ => 5,
    }
}

/// The next step from the membership as it is to the members that are wanted; `None`: nothing is to be done, or nothing
/// can be, because those who should vote are not reachable.
#[must_use]
pub fn next(
    membership: &Membership<u64, Node>,
    wanted: &BTreeMap<u64, Node>,
    reachable: impl Fn(&Node) -> bool,
) -> Option<Step> {
    let present: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    if let Some((id, node)) = wanted.iter().find(|(id, _)| !present.contains(id)) {
        return Some(Step::Learner(*id, node.clone()));
    }
    let stays = voters.iter().filter(|id| wanted.contains_key(id));
    let others = wanted.iter().filter(|(id, node)| !voters.contains(id) && reachable(node)).map(|(id, _)| id);
    let next: BTreeSet<u64> = stays.chain(others).copied().take(count(wanted.len())).collect();
    if next != voters && next.len() == count(wanted.len()) {
        return Some(Step::Voters(next));
    }
    let gone: BTreeSet<u64> = present.difference(&wanted.keys().copied().collect()).copied().collect();
    (!gone.is_empty() && voters.is_disjoint(&gone)).then_some(Step::Gone(gone))
}
