//! The state machine under Raft: applies, keeps snapshots on disk (a file apart from the log), tells what changed.

use std::{io, path::Path, sync::Arc};

use futures_util::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend,
    alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf},
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use parking_lot::RwLock;
use redb::{Database, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{TypeConfig, Types, log};
use crate::{
    error::Error,
    state::{Answer, Change, Command, State},
};

const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");
/// The format of what is in the table.
const VERSION: u32 = 2;

/// What Raft applied, and how far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Applied {
    last: Option<LogIdOf<TypeConfig>>,
    membership: StoredMembershipOf<TypeConfig>,
    state: State,
}

#[derive(Serialize, Deserialize)]
struct Kept<A = Applied> {
    version: u32,
    applied: A,
}

/// How far a stored snapshot goes. Its state stays unread: that would verify everything in it again.
#[derive(Deserialize)]
struct Reach {
    last: Option<LogIdOf<TypeConfig>>,
    membership: StoredMembershipOf<TypeConfig>,
}

/// What lookers-on are told.
#[derive(Clone, Debug)]
pub enum News {
    /// A command changed this.
    Changed(Change),
    /// A snapshot replaced everything.
    Replaced,
}

/// The machine. Clones share it.
#[derive(Clone)]
pub struct Machine {
    applied: Arc<RwLock<Applied>>,
    database: Arc<Database>,
    /// How the membership's history begins, as far as this member was told when it joined.
    beginning: Arc<[Command]>,
    news: mpsc::UnboundedSender<News>,
}

fn io_error(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Going on would be in another mesh, or back in time: Raft stops here, and the member says why.
fn not_ours(reason: String) -> io::Error {
    io::Error::other(format!("what the leader sends is not this mesh's history: {reason}"))
}

impl Machine {
    /// With the last snapshot on disk; the log brings the rest. `beginning` is how the membership's history must begin.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn open(path: &Path, beginning: Vec<Command>, news: mpsc::UnboundedSender<News>) -> Result<Self, Error> {
        Self::on(log::open(path)?, path, beginning, news)
    }

    /// The machine on an open database; `path` is what a person is told of it.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn on(
        database: Database,
        path: &Path,
        beginning: Vec<Command>,
        news: mpsc::UnboundedSender<News>,
    ) -> Result<Self, Error> {
        let database = Arc::new(database);
        let machine = Self { applied: Arc::default(), database, beginning: beginning.into(), news };
        let damaged = |error: io::Error| Error::Damaged { path: path.to_owned(), reason: error.to_string() };
        if let Some(bytes) = machine.stored().map_err(damaged)? {
            let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(error.into()))?;
            if kept.version != VERSION {
                return Err(damaged(io::Error::other("it is of another release")));
            }
            *machine.applied.write() = kept.applied;
        }
        Ok(machine)
    }

    /// Looks at the state.
    pub fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.applied.read().state)
    }

    fn stored(&self) -> io::Result<Option<Vec<u8>>> {
        let transaction = self.database.begin_read().map_err(io_error)?;
        match transaction.open_table(SNAPSHOT) {
            Ok(table) => Ok(table.get("snapshot").map_err(io_error)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(io_error(error)),
        }
    }

    fn store(&self, bytes: &[u8]) -> io::Result<()> {
        let transaction = self.database.begin_write().map_err(io_error)?;
        transaction.open_table(SNAPSHOT).map_err(io_error)?.insert("snapshot", bytes).map_err(io_error)?;
        transaction.commit().map_err(io_error)
    }

    fn tell(&self, news: News) {
        let _ = self.news.send(news);
    }
}

impl<C: Types> RaftSnapshotBuilder<C> for Machine {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<C, Vec<u8>>, io::Error> {
        let applied = self.applied.read().clone();
        let meta = SnapshotMetaOf::<C> { last_log_id: applied.last, last_membership: applied.membership.clone() };
        let bytes = serde_json::to_vec(&Kept { version: VERSION, applied }).map_err(io_error)?;
        self.store(&bytes)?;
        Ok(SnapshotOf::<C, Vec<u8>> { meta, snapshot: bytes })
    }
}

impl<C: Types> RaftStateMachine<C> for Machine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<C>>, StoredMembershipOf<C>), io::Error> {
        let applied = self.applied.read();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<C>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut applied = self.applied.write();
            applied.last = Some(entry.log_id);
            let known = applied.state.deeds().len();
            let (answer, changes) = match entry.payload {
                EntryPayload::Blank => (Answer::Done, vec![]),
                EntryPayload::Normal(command) => applied.state.apply(command),
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembershipOf::<C>::new(Some(entry.log_id), membership);
                    (Answer::Done, vec![])
                }
            };
            // Statements, which are most of the log, add nothing to the membership's history.
            if applied.state.deeds().len() > known {
                applied.state.agrees_with(&self.beginning).map_err(not_ours)?;
            }
            drop(applied);
            changes.into_iter().for_each(|change| self.tell(News::Changed(change)));
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Self> {
        Some(self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMetaOf<C>, snapshot: Vec<u8>) -> Result<(), io::Error> {
        let kept: Kept = serde_json::from_slice(&snapshot).map_err(io_error)?;
        if kept.version != VERSION {
            return Err(io::Error::other("the leader's snapshot is of another release"));
        }
        kept.applied.state.agrees_with(&self.beginning).map_err(not_ours)?;
        kept.applied.state.follows(&self.applied.read().state).map_err(not_ours)?;
        self.store(&snapshot)?;
        *self.applied.write() = kept.applied;
        self.tell(News::Replaced);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<C, Vec<u8>>>, io::Error> {
        let Some(bytes) = self.stored()? else { return Ok(None) };
        let kept: Kept<Reach> = serde_json::from_slice(&bytes).map_err(io_error)?;
        let meta = SnapshotMetaOf::<C> { last_log_id: kept.applied.last, last_membership: kept.applied.membership };
        Ok(Some(SnapshotOf::<C, Vec<u8>> { meta, snapshot: bytes }))
    }
}
