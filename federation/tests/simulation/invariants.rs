//! What must always hold, one a file. Each looks on at the story and says when it does not.

mod committed_kept;
mod members_agree;
mod nothing_forged;
mod nothing_goes_back;
mod one_entry_an_index;
mod one_leader_a_term;
mod reinstalled_is_heard;
mod token_once;
mod watchers_see_all;

use crate::witness::Invariant;

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<one_leader_a_term::OneLeaderATerm>::default(),
        Box::<one_entry_an_index::OneEntryAnIndex>::default(),
        Box::<committed_kept::CommittedKept>::default(),
        Box::<token_once::TokenOnce>::default(),
        Box::<nothing_forged::NothingForged>::default(),
        Box::<nothing_goes_back::NothingGoesBack>::default(),
        Box::<watchers_see_all::WatchersSeeAll>::default(),
        Box::<members_agree::MembersAgree>::default(),
        Box::<reinstalled_is_heard::ReinstalledIsHeard>::default(),
    ]
}
