//! The production log as a member of a story uses it; the adapter only plants.

use std::{fmt::Debug, io, ops::RangeBounds, sync::Arc};

use isthmus_federation::raft::log::Log;
use openraft::{
    OptionalSend,
    alias::{EntryOf, LogIdOf, VoteOf},
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage},
};

use parking_lot::Mutex;

use crate::{plant::Plant, types::Virtual};

/// The log.
#[derive(Clone)]
pub struct Kept {
    /// Production's.
    pub log: Log,
    /// The bug, if there is one.
    pub plant: Option<Plant>,
    /// With [`Plant::LogLate`]: what was acknowledged and is not written yet.
    pub late: Arc<Mutex<Vec<EntryOf<Virtual>>>>,
}

impl Kept {
    /// Writes what is late.
    async fn catch_up(&mut self) -> io::Result<()> {
        let late = std::mem::take(&mut *self.late.lock());
        if late.is_empty() {
            return Ok(());
        }
        RaftLogStorage::<Virtual>::append(&mut self.log, late, IOFlushed::noop()).await
    }
}

impl RaftLogReader<Virtual> for Kept {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<Virtual>>, io::Error> {
        let late: Vec<_> = self.late.lock().iter().filter(|entry| range.contains(&entry.index())).cloned().collect();
        let kept = RaftLogReader::<Virtual>::try_get_log_entries(&mut self.log, range).await;
        Ok(kept?.into_iter().chain(late).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Virtual>>, io::Error> {
        RaftLogReader::<Virtual>::read_vote(&mut self.log).await
    }
}

impl RaftLogStorage<Virtual> for Kept {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Virtual>, io::Error> {
        self.catch_up().await?;
        RaftLogStorage::<Virtual>::get_log_state(&mut self.log).await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Virtual>) -> Result<(), io::Error> {
        if self.plant == Some(Plant::VoteForgotten) {
            return Ok(());
        }
        RaftLogStorage::<Virtual>::save_vote(&mut self.log, vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<Virtual>>) -> Result<(), io::Error> {
        RaftLogStorage::<Virtual>::save_committed(&mut self.log, committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<Virtual>>, io::Error> {
        RaftLogStorage::<Virtual>::read_committed(&mut self.log).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Virtual>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<Virtual>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.catch_up().await?;
        if self.plant == Some(Plant::LogLate) {
            self.late.lock().extend(entries);
            callback.io_completed(Ok(()));
            return Ok(());
        }
        RaftLogStorage::<Virtual>::append(&mut self.log, entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Virtual>>) -> Result<(), io::Error> {
        self.catch_up().await?;
        RaftLogStorage::<Virtual>::truncate_after(&mut self.log, last).await
    }

    async fn purge(&mut self, upto: LogIdOf<Virtual>) -> Result<(), io::Error> {
        self.catch_up().await?;
        RaftLogStorage::<Virtual>::purge(&mut self.log, upto).await
    }
}
