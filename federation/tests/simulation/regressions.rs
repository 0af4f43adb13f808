//! Defects of production code that a story showed, each kept with seeds that show it when its mending is taken out again.

use std::path::Path;

use isthmus_federation::{
    raft::{LeaderId, log::Log},
    state::Command,
};
use openraft::{
    Entry, EntryPayload,
    alias::LogIdOf,
    rt::AsyncRuntime,
    storage::{IOFlushed, LogState, RaftLogStorage},
    vote::RaftLeaderIdExt,
};
use openraft_rt_sim::SimRuntime;

use crate::{
    disk::Disk,
    report,
    story::{USUAL, tell},
    types::Virtual,
};

fn hold(seeds: &[u64]) {
    for seed in seeds {
        let told = tell(*seed, USUAL, false);
        assert!(told.violation.is_none(), "{}", report(*seed, &told).unwrap_or_default());
    }
}

#[test]
fn a_call_for_a_member_that_was_wiped_is_not_answered_by_the_one_in_its_place() {
    hold(&[3, 5, 9]);
}

#[test]
fn a_member_does_not_take_the_name_of_another_by_a_token_of_its_own() {
    hold(&[2, 4, 7]);
}

#[test]
fn a_member_that_catches_up_does_not_believe_a_cluster_s_older_key() {
    hold(&[10, 29, 78]);
}

fn open(disk: &Disk) -> Log {
    let database = redb::Builder::new().create_with_backend(disk.open("log.redb")).unwrap();
    Log::on(database, Path::new("log.redb")).unwrap()
}

fn at(term: u64, index: u64) -> LogIdOf<Virtual> {
    LogIdOf::<Virtual>::new(LeaderId::new_committed(term, 1), index)
}

/// Seeds 107 and 211 found it, when a purge took two transactions.
#[test]
fn a_power_cut_in_a_purge_leaves_a_log_that_raft_begins_with() {
    let empty = || EntryPayload::Normal(Command::Statements { statements: vec![] });
    SimRuntime::with_seed(0).block_on(async {
        for syncs in 0..8 {
            let disk = Disk::new(u64::from(syncs));
            let mut log = open(&disk);
            let entries = (0..30).map(|index| Entry { log_id: at(1, index), payload: empty() });
            RaftLogStorage::<Virtual>::append(&mut log, entries, IOFlushed::noop()).await.unwrap();
            disk.fuse(syncs);
            // A snapshot was installed that goes further than the log.
            let _ = RaftLogStorage::<Virtual>::purge(&mut log, at(2, 50)).await;
            drop(log);
            disk.cut();
            let state: LogState<Virtual> = open(&disk).get_log_state().await.unwrap();
            assert!(state.last_log_id >= state.last_purged_log_id, "cut at sync {syncs}: {state:?}");
        }
    });
}
