//! The stores: what openraft asks of them, and what a member says of a file that is not whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails says so by a panic"
)]

use isthmus_federation::{Error, raft::log::Log};

#[tokio::test]
async fn a_member_never_votes_with_a_log_that_is_cut_or_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.redb");
    drop(Log::open(&path, true).expect("a fresh one is made"));
    drop(Log::open(&path, false).expect("and opened again"));
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 100, whole.len() / 2] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = Log::open(&path, false).err().expect("a cut file is refused");
        let text = error.to_string();
        assert!(
            matches!(error, Error::Damaged { .. }) && text.contains("log.redb") && text.contains("join again"),
            "{text}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    assert!(Log::open(&path, false).is_err(), "a missing one is refused");
}
