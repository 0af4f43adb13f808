//! Who votes: 1, 3 or 5 of the members, everyone else learns (DESIGN.md decision 14). Who votes goes on voting, unless it
//! is out of the mesh, or was silent so long that a learner who can be reached is the better voter. Where fewer are to vote,
//! who leads goes on: it would have to give up leading otherwise. Two members that only dial out never hear each other: where
//! there are several of them they learn, because whoever leads has to reach everyone. A decision, without Raft or clock: the
//! leader asks for the next step until there is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::Membership;

use crate::raft::Node;

/// A voter that is silent for so long gives its place to a learner that can be reached.
pub const SILENT: Duration = Duration::from_secs(600);

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

/// How the leader hears a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Whether it hears it now.
    pub reachable: bool,
    /// For how long it has not.
    pub silent: Duration,
    /// Whether it says where it can be dialled.
    pub named: bool,
}

impl Contact {
    fn is_lost(self) -> bool {
        !self.reachable && self.silent >= SILENT
    }
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
/// can be, because those who should vote are not reachable. `leader` is who asks.
#[must_use]
pub fn next(
    membership: &Membership<u64, Node>,
    leader: u64,
    wanted: &BTreeMap<u64, Node>,
    contact: impl Fn(&Node) -> Contact,
) -> Option<Step> {
    let present: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    if let Some((id, node)) = wanted.iter().find(|(id, _)| !present.contains(id)) {
        return Some(Step::Learner(*id, node.clone()));
    }
    let mut members: Vec<(u64, Contact)> = wanted.iter().map(|(id, node)| (*id, contact(node))).collect();
    members.sort_by_key(|(id, _)| *id != leader);
    let next = vote(&voters, &members);
    // A change that its leader did not live to finish is finished: until then those who voted before have to agree as well.
    if next != voters || membership.get_joint_config().len() > 1 {
        return Some(Step::Voters(next));
    }
    let gone: BTreeSet<u64> = present.difference(&wanted.keys().copied().collect()).copied().collect();
    (!gone.is_empty() && voters.is_disjoint(&gone)).then_some(Step::Gone(gone))
}

/// Who is to vote from now on, the first of the members first; `voters` as they are while fewer than are wanted can be reached.
fn vote(voters: &BTreeSet<u64>, members: &[(u64, Contact)]) -> BTreeSet<u64> {
    let members = &eligible(members)[..];
    let voting = |lost: bool| members.iter().filter(move |(id, at)| voters.contains(id) && at.is_lost() == lost);
    let coming = members.iter().filter(|(id, at)| !voters.contains(id) && at.reachable);
    let wanted = count(members.len());
    let next: BTreeSet<u64> = voting(false).chain(coming).chain(voting(true)).map(|(id, _)| *id).take(wanted).collect();
    if next.len() < wanted { voters.clone() } else { next }
}

/// Members of which each reaches each other.
fn eligible(members: &[(u64, Contact)]) -> Vec<(u64, Contact)> {
    let named: Vec<_> = members.iter().copied().filter(|(_, at)| at.named).collect();
    let only_dial_out = members.len() - named.len();
    if only_dial_out < 2 || named.is_empty() { members.to_vec() } else { named }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: u64, reachable: bool, silent_s: u64) -> (u64, Contact) {
        (id, Contact { reachable, silent: Duration::from_secs(silent_s), named: true })
    }

    fn here(id: u64) -> (u64, Contact) {
        member(id, true, 0)
    }

    #[test]
    fn one_three_or_five_vote() {
        let all: Vec<_> = (1..=9).map(here).collect();
        let after = |count: usize| vote(&BTreeSet::from([1]), &all[..count]).len();
        assert_eq!((1..=9).map(after).collect::<Vec<_>>(), [1, 1, 3, 3, 5, 5, 5, 5, 5]);
    }

    #[test]
    fn where_fewer_are_to_vote_who_leads_goes_on() {
        let node = |id: u64| (id, Node { cluster: format!("c-{id}") });
        let moves = Membership::new_with_defaults(vec![BTreeSet::from([1]), BTreeSet::from([2])], []);
        let wanted: BTreeMap<_, _> = [1, 2].map(node).into();
        for leader in [1, 2] {
            let step = next(&moves, leader, &wanted, |_| here(leader).1);
            assert_eq!(step, Some(Step::Voters(BTreeSet::from([leader]))));
        }
    }

    #[test]
    fn a_change_that_was_left_half_done_is_finished() {
        let node = |id: u64| (id, Node { cluster: format!("c-{id}") });
        let (alone, all) = (BTreeSet::from([1]), BTreeSet::from([1, 2, 3]));
        let wanted: BTreeMap<_, _> = [1, 2, 3].map(node).into();
        let step = |configs| next(&Membership::new_with_defaults(configs, []), 2, &wanted, |_| here(2).1);
        assert_eq!(step(vec![alone, all.clone()]), Some(Step::Voters(all.clone())), "the first is needed still");
        assert_eq!(step(vec![all]), None);
    }

    #[test]
    fn a_voter_that_was_silent_for_ten_minutes_gives_its_place_to_a_learner_that_can_be_reached() {
        let voters = BTreeSet::from([1, 2, 3]);
        let with = |silent, learner| vote(&voters, &[here(1), member(2, false, silent), here(3), learner]);
        assert_eq!(with(599, here(4)), voters, "a while is nothing");
        assert_eq!(with(600, here(4)), BTreeSet::from([1, 3, 4]));
        assert_eq!(with(600, member(4, false, 5)), voters, "who cannot be reached is no better");
    }

    #[test]
    fn who_is_out_of_the_mesh_votes_no_more() {
        assert_eq!(vote(&BTreeSet::from([1, 2, 3]), &[here(1), here(3), here(4)]), BTreeSet::from([1, 3, 4]));
    }

    #[test]
    fn who_only_dials_out_votes_where_it_is_the_only_one_of_its_kind() {
        let hidden = |id| (id, Contact { named: false, ..here(id).1 });
        assert_eq!(vote(&BTreeSet::from([1]), &[here(1), here(2), hidden(3)]), BTreeSet::from([1, 2, 3]));
        let members = [here(1), hidden(2), hidden(3), here(4)];
        assert_eq!(vote(&BTreeSet::from([1, 2, 3]), &members), BTreeSet::from([1]), "of two that are named one votes");
        assert_eq!(vote(&BTreeSet::from([2]), &[hidden(2), hidden(3)]), BTreeSet::from([2]), "nobody else is there");
    }

    proptest! {
        #[test]
        fn whoever_is_silent_the_number_of_voters_is_right_or_nothing_changes(
            voting in proptest::collection::btree_set(1u64..8, 1..6),
            members in proptest::collection::btree_map(1u64..8, (any::<bool>(), 0u64..1200), 1..8),
        ) {
            let known: Vec<_> = members.iter().map(|(id, (here, silent))| member(*id, *here, *silent)).collect();
            let next = vote(&voting, &known);
            prop_assert!(next == voting || next.len() == count(known.len()));
            prop_assert!(next.iter().all(|id| voting.contains(id) || members[id].0), "only who can be reached is taken in");
        }
    }
}
