//! Seeds that once showed a defect of production code.

use crate::{
    report,
    story::{USUAL, tell},
};

fn holds(seed: u64) {
    let told = tell(seed, USUAL, false);
    assert!(told.violation.is_none(), "{}", report(seed, &told).unwrap_or_default());
}

#[test]
fn a_call_for_a_member_that_was_wiped_is_not_answered_by_the_one_in_its_place() {
    holds(0);
}

#[test]
fn a_member_cannot_take_the_name_of_another_by_a_token_of_its_own() {
    holds(1);
}

#[test]
fn a_member_that_catches_up_does_not_believe_a_cluster_s_older_key() {
    holds(14);
    holds(25);
}

#[test]
fn a_power_cut_while_the_log_is_purged_leaves_a_log_to_begin_with() {
    holds(107);
    holds(211);
}
