//! The production log as a member of a story uses it; the adapter only plants.

use std::{fmt::Debug, io, ops::RangeBounds};

use isthmus_federation::raft::log::Log;
use openraft::{
    OptionalSend,
    alias::{EntryOf, LogIdOf, VoteOf},
    storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage},
};

use crate::{plant::Plant, types::Virtual};

/// The log.
#[derive(Clone)]
pub struct Kept {
    /// Production's.
    pub log: Log,
    /// The bug, if there is one.
    pub plant: Option<Plant>,
}

impl RaftLogReader<Virtual> for Kept {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<Virtual>>, io::Error> {
        RaftLogReader::<Virtual>::try_get_log_entries(&mut self.log, range).await
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Virtual>>, io::Error> {
        RaftLogReader::<Virtual>::read_vote(&mut self.log).await
    }
}

impl RaftLogStorage<Virtual> for Kept {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Virtual>, io::Error> {
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
        RaftLogStorage::<Virtual>::append(&mut self.log, entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Virtual>>) -> Result<(), io::Error> {
        RaftLogStorage::<Virtual>::truncate_after(&mut self.log, last).await
    }

    async fn purge(&mut self, upto: LogIdOf<Virtual>) -> Result<(), io::Error> {
        RaftLogStorage::<Virtual>::purge(&mut self.log, upto).await
    }
}
