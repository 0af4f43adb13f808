//! Each invariant is seen to bite: a bug is planted, and some story of a few shows that invariant broken.

use crate::{
    faults::Troubles,
    plant::Plant,
    story::{Kind, USUAL, tell},
};

/// Seeds within which a planted bug has to show.
const SEEDS: u64 = 60;

/// Tells stories with the bug until one shows it by one of these invariants; what other stories showed is no matter.
fn shows(plant: Plant, troubles: Troubles, invariants: &[&str]) {
    let mut others = vec![];
    for seed in 0..SEEDS {
        let told = tell(seed, Kind { troubles, plant: Some(plant), ..USUAL }, false);
        let Some(violation) = told.violation else { continue };
        if invariants.contains(&violation.invariant) {
            println!("{plant:?} shows with seed {seed}: {}: {}", violation.invariant, violation.reason);
            return;
        }
        others.push((seed, violation));
    }
    panic!("{plant:?} is not caught by {invariants:?} in {SEEDS} seeds; what was: {others:#?}");
}

/// The power fails all the time.
const POWER: Troubles = Troubles { pause: 250, reinstalls: false };

#[test]
fn a_log_that_acknowledges_before_it_synced_loses_committed_writes() {
    shows(Plant::LogLate, POWER, &["committed_kept", "one_entry_an_index"]);
}

#[test]
fn a_member_that_forgets_its_vote_makes_two_leaders_of_a_term() {
    shows(Plant::VoteForgotten, POWER, &["one_leader_a_term"]);
}

#[test]
fn a_state_machine_that_forgets_who_used_a_token_lets_two_in() {
    shows(Plant::TokenAgain, USUAL.troubles, &["token_once"]);
}

#[test]
fn a_view_that_does_not_compare_versions_goes_back() {
    shows(Plant::ViewUnversioned, USUAL.troubles, &["nothing_goes_back"]);
}

#[test]
fn a_member_that_does_not_verify_believes_the_liar() {
    shows(Plant::Unverified, USUAL.troubles, &["nothing_forged"]);
}

#[test]
fn a_watcher_that_misses_an_event_is_found_out() {
    shows(Plant::EventDropped, USUAL.troubles, &["watchers_see_all"]);
}

#[test]
fn a_reinstalled_cluster_that_its_old_key_keeps_silent_is_missed() {
    shows(Plant::OldVersionsCount, USUAL.troubles, &["reinstalled_is_heard"]);
}

#[test]
fn a_member_that_skips_a_command_parts_from_the_others() {
    shows(Plant::CommandSkipped, USUAL.troubles, &["members_agree"]);
}
