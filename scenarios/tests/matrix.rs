//! Dead, blind and cut off: what happens and what must happen, each row over real processes under load, beside a control
//! load on a local service that tells what the machine itself suffers.
//!
//! `scenarios/rehearse` runs all rows several times on a release build and writes `scenarios/RESULTS.md`; the fast ones
//! run here with every test run. `ISTHMUS_ROWS=word,word` picks rows by words of their names; rows that nobody
//! has fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

#[path = "matrix/clock.rs"]
mod clock;
#[path = "matrix/death.rs"]
mod death;
#[path = "matrix/federation.rs"]
mod federation;
#[path = "matrix/health.rs"]
mod health;
#[path = "matrix/ledger.rs"]
mod ledger;
#[path = "matrix/network.rs"]
mod network;
#[path = "matrix/row.rs"]
mod row;
#[path = "matrix/stage.rs"]
mod stage;
#[path = "matrix/verbs.rs"]
mod verbs;
#[path = "matrix/watch.rs"]
mod watch;

use row::{Ground, Row, rows};

/// Two meshes at once would disturb each other's requests.
static STAGE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fast_rows_on_processes_hold() {
    let _alone = STAGE.lock().await;
    row::run(rows().into_iter().filter(|row| row.fast && row.ground == Ground::Processes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fast_rows_on_the_network_hold() {
    let _alone = STAGE.lock().await;
    row::run(rows().into_iter().filter(|row| row.fast && row.ground == Ground::Network)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes and wants a quiet machine; scenarios/rehearse runs it"]
async fn every_row_holds() {
    row::run(rows().into_iter()).await;
}

#[test]
fn every_row_has_a_name_of_its_own() {
    let mut names: Vec<_> = rows().iter().map(|row: &Row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rows().len());
}
