//! Who votes (DESIGN.md decision 14): 1, 3 or 5 members, everyone else a learner. Who votes goes on voting, unless it is
//! out of the mesh or was silent so long that a learner who can be reached is the better voter.

use std::{collections::BTreeSet, time::Duration};

/// A voter that is silent for so long gives its place to a learner that can be reached.
pub const SILENT: Duration = Duration::from_secs(600);

/// A member, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its Raft id.
    pub id: u64,
    /// Whether there is a session with it.
    pub reachable: bool,
    /// How long there has been none.
    pub silent: Duration,
}

/// How many of so many members vote.
#[must_use]
pub fn voters_of(members: usize) -> usize {
    match members {
        0..=2 => members.min(1),
        3 | 4 => 3,
        _ => 5,
    }
}

/// Who is to vote from now on. It is `voters` itself where nothing better is at hand.
#[must_use]
pub fn next(voters: &BTreeSet<u64>, candidates: &[Candidate]) -> BTreeSet<u64> {
    let votes = |candidate: &&Candidate| voters.contains(&candidate.id);
    let lost = |candidate: &&Candidate| !candidate.reachable && candidate.silent >= SILENT;
    let stay = candidates.iter().filter(votes).filter(|candidate| !lost(candidate));
    let come = candidates.iter().filter(|candidate| !votes(candidate) && candidate.reachable);
    let last = candidates.iter().filter(votes).filter(lost);
    let wanted = voters_of(candidates.len());
    let next: BTreeSet<u64> = stay.chain(come).chain(last).map(|candidate| candidate.id).take(wanted).collect();
    // Fewer than are wanted can be reached: those there are vote on until more can.
    if next.len() < wanted { voters.clone() } else { next }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: u64, reachable: bool, silent_s: u64) -> Candidate {
        Candidate { id, reachable, silent: Duration::from_secs(silent_s) }
    }

    fn here(id: u64) -> Candidate {
        member(id, true, 0)
    }

    #[test]
    fn one_three_or_five_vote() {
        let all: Vec<_> = (1..=9).map(here).collect();
        let after = |count: usize| next(&BTreeSet::from([1]), &all[..count]).len();
        assert_eq!((1..=9).map(after).collect::<Vec<_>>(), [1, 1, 3, 3, 5, 5, 5, 5, 5]);
    }

    #[test]
    fn a_voter_that_was_silent_for_ten_minutes_gives_its_place_to_a_learner_that_can_be_reached() {
        let voters = BTreeSet::from([1, 2, 3]);
        let with = |silent, learner| next(&voters, &[here(1), member(2, false, silent), here(3), learner]);
        assert_eq!(with(599, here(4)), voters, "a while is nothing");
        assert_eq!(with(600, here(4)), BTreeSet::from([1, 3, 4]));
        assert_eq!(with(600, member(4, false, 5)), voters, "who cannot be reached is no better");
    }

    #[test]
    fn who_is_out_of_the_mesh_votes_no_more() {
        assert_eq!(next(&BTreeSet::from([1, 2, 3]), &[here(1), here(3), here(4)]), BTreeSet::from([1, 3, 4]));
    }

    proptest! {
        #[test]
        fn whoever_is_silent_the_number_of_voters_is_right_or_nothing_changes(
            voting in proptest::collection::btree_set(1u64..8, 1..6),
            members in proptest::collection::btree_map(1u64..8, (any::<bool>(), 0u64..1200), 1..8),
        ) {
            let candidates: Vec<_> = members.iter().map(|(id, (here, silent))| member(*id, *here, *silent)).collect();
            let next = next(&voting, &candidates);
            prop_assert!(next == voting || next.len() == voters_of(candidates.len()));
            prop_assert!(next.iter().all(|id| voting.contains(id) || members[id].0), "only who can be reached is taken in");
        }
    }
}
