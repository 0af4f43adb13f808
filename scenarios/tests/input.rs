//! Bad input to a mesh that runs: tokens of every wrong kind, a member that speaks for another cluster, strangers on
//! every port of every role, a cut Raft log, a full disk. Each is told in one clear line where a person looks; nobody
//! panics, nothing committed is lost, and the traffic of others goes on all the while.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

#[path = "input/disk.rs"]
mod disk;
#[path = "input/ground.rs"]
mod ground;
#[path = "input/liars.rs"]
mod liars;
#[path = "input/log.rs"]
mod log;
#[path = "input/strangers.rs"]
mod strangers;
#[path = "input/tokens.rs"]
mod tokens;

use std::time::Instant;

use ground::Ground;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_told_clearly_and_harms_nobody_else() {
    let ground = Ground::raise(110).await;
    let (traffic, began) = (ground.traffic(), Instant::now());
    let told = |story: &str| println!("--- {story}: done {:?} after the mesh was up", began.elapsed());
    tokens::of_every_wrong_kind_are_refused_with_the_reason(&ground).await;
    told("tokens");
    liars::who_speaks_for_another_cluster_is_not_heard_not_even_as_the_leader(&ground).await;
    told("liars");
    strangers::on_every_port_of_every_role_disturb_nobody(&ground).await;
    told("strangers");
    log::a_cut_log_is_refused_with_file_reason_and_remedy_and_both_remedies_help(&ground).await;
    told("cut log");
    disk::a_full_disk_costs_no_committed_write_and_no_request(&ground).await;
    told("full disk");
    traffic.finish_unharmed().await;
    ground.nobody_panicked();
    ground.raised.mesh.supervisor.stop().await;
}
