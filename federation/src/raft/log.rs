//! The log on disk: one redb file. An append is done when it is synced, and readable from then on.

use std::{fmt::Debug, io, ops::RangeBounds, path::Path, sync::Arc};

use openraft::{
    OptionalSend,
    alias::{EntryOf, LogIdOf, VoteOf},
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage},
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};

use super::Types;
use crate::error::Error;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// The format of what is in the tables.
const VERSION: &str = "2";

/// The log.
#[derive(Clone)]
pub struct Log(Arc<Database>);

fn io_error(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Opens a redb file, or says in one line what is wrong with it.
pub(crate) fn open(path: &Path) -> Result<Database, Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| Error::Refused { path: path.to_owned(), source })?;
    }
    // redb may panic on files that are cut short in unlucky places; a member says so and does not start.
    let opened = std::panic::catch_unwind(|| Database::create(path));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(Error::of_file(path, error)),
        Err(_) => Err(Error::Damaged { path: path.to_owned(), reason: "its content is not consistent".into() }),
    }
}

impl Log {
    /// Opens the log: a `fresh` one may be missing, one that was written before may not.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the file is cut, foreign or of another version, [`Error::Refused`] when the system does not
    /// let it be used.
    pub fn open(path: &Path, fresh: bool) -> Result<Self, Error> {
        if !fresh && std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
            let reason = "it is missing or empty, but this member voted and wrote with it before".into();
            return Err(Error::Damaged { path: path.to_owned(), reason });
        }
        Self::on(open(path)?, path)
    }

    /// The log in an open database; `path` is what a person is told of it.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn on(database: Database, path: &Path) -> Result<Self, Error> {
        let log = Self(Arc::new(database));
        match log.version() {
            Ok(version) if version == VERSION.as_bytes() => Ok(log),
            Ok(_) => Err(Error::Damaged { path: path.to_owned(), reason: "it is of another release".into() }),
            Err(error) => Err(Error::of_file(path, error)),
        }
    }

    /// The format of what is in it; a new one gets ours.
    fn version(&self) -> Result<Vec<u8>, redb::Error> {
        let transaction = self.0.begin_write()?;
        transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("version")?.map(|value| value.value().to_vec());
        if found.is_none() {
            meta.insert("version", VERSION.as_bytes())?;
        }
        drop(meta);
        transaction.commit()?;
        Ok(found.unwrap_or_else(|| VERSION.as_bytes().to_vec()))
    }

    fn meta<T: DeserializeOwned>(&self, key: &str) -> io::Result<Option<T>> {
        let transaction = self.0.begin_read().map_err(io_error)?;
        let table = transaction.open_table(META).map_err(io_error)?;
        let value = table.get(key).map_err(io_error)?;
        value.map(|value| serde_json::from_slice(value.value()).map_err(io_error)).transpose()
    }

    fn set_meta<T: Serialize>(&self, key: &str, value: &T) -> io::Result<()> {
        let bytes = serde_json::to_vec(value).map_err(io_error)?;
        let transaction = self.0.begin_write().map_err(io_error)?;
        transaction.open_table(META).map_err(io_error)?.insert(key, bytes.as_slice()).map_err(io_error)?;
        transaction.commit().map_err(io_error)
    }

    fn remove(&self, range: impl RangeBounds<u64>) -> io::Result<()> {
        let transaction = self.0.begin_write().map_err(io_error)?;
        transaction.open_table(LOG).map_err(io_error)?.retain_in(range, |_, _| false).map_err(io_error)?;
        transaction.commit().map_err(io_error)
    }
}

impl<C: Types> RaftLogReader<C> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<C>>, io::Error> {
        let transaction = self.0.begin_read().map_err(io_error)?;
        let table = transaction.open_table(LOG).map_err(io_error)?;
        let entries = table.range(range).map_err(io_error)?;
        entries.map(|entry| serde_json::from_slice(entry.map_err(io_error)?.1.value()).map_err(io_error)).collect()
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, io::Error> {
        self.meta("vote")
    }
}

impl<C: Types> RaftLogStorage<C> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, io::Error> {
        let last_purged_log_id: Option<LogIdOf<C>> = self.meta("purged")?;
        let transaction = self.0.begin_read().map_err(io_error)?;
        let table = transaction.open_table(LOG).map_err(io_error)?;
        let last = table.last().map_err(io_error)?;
        let last = last.map(|(_, entry)| serde_json::from_slice::<EntryOf<C>>(entry.value()).map_err(io_error));
        let last_log_id = last.transpose()?.map(|entry| entry.log_id()).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<C>) -> Result<(), io::Error> {
        self.set_meta("vote", vote)
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> Result<(), io::Error> {
        self.set_meta("committed", &committed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, io::Error> {
        Ok(self.meta::<Option<LogIdOf<C>>>("committed")?.flatten())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<C>> + OptionalSend,
    {
        let transaction = self.0.begin_write().map_err(io_error)?;
        {
            let mut table = transaction.open_table(LOG).map_err(io_error)?;
            for entry in entries {
                let bytes = serde_json::to_vec(&entry).map_err(io_error)?;
                table.insert(entry.index(), bytes.as_slice()).map_err(io_error)?;
            }
        }
        transaction.commit().map_err(io_error)?;
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<C>>) -> Result<(), io::Error> {
        self.remove(last.map_or(0, |id| id.index() + 1)..)
    }

    async fn purge(&mut self, upto: LogIdOf<C>) -> Result<(), io::Error> {
        // Together: a log whose end lies before what it says is purged is none that Raft begins with.
        let bytes = serde_json::to_vec(&upto).map_err(io_error)?;
        let transaction = self.0.begin_write().map_err(io_error)?;
        transaction.open_table(META).map_err(io_error)?.insert("purged", bytes.as_slice()).map_err(io_error)?;
        transaction.open_table(LOG).map_err(io_error)?.retain_in(..=upto.index(), |_, _| false).map_err(io_error)?;
        transaction.commit().map_err(io_error)
    }
}
