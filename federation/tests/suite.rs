//! openraft's own storage suite on the stores, redb and all: on files, with Tokio, as they run in production.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails says so by a panic")]

use isthmus_federation::raft::{TypeConfig, log::Log, machine::Machine};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

struct Folder;

impl StoreBuilder<TypeConfig, Log, Machine, tempfile::TempDir> for Folder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().unwrap();
        let (news, _) = tokio::sync::mpsc::unbounded_channel();
        let log = Log::open(&folder.path().join("log.redb"), true).unwrap();
        let machine = Machine::open(&folder.path().join("state.redb"), vec![], news).unwrap();
        Ok((folder, log, machine))
    }
}

#[tokio::test]
async fn the_stores_do_what_openraft_asks_of_them() {
    Suite::test_all(Folder).await.unwrap();
}
