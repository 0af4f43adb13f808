//! The production state machine as a member of a story uses it: the adapter tells the witness what is applied, and plants.

use std::io;

use futures_util::{Stream, TryStreamExt, stream};
use isthmus_federation::{
    raft::machine::Machine,
    state::{Blob, Command},
};
use isthmus_wire::federation::MemberRecord;
use openraft::{
    EntryPayload, OptionalSend,
    alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf},
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use prost::Message;
use serde_json::Value;

use crate::{
    disk::Disk,
    plant::Plant,
    types::Virtual,
    witness::{Seen, Witness},
};

/// The machine under witness.
pub struct Watched {
    /// Production's.
    pub machine: Machine,
    /// Whose.
    pub cluster: String,
    /// Where it writes, and the life it belongs to: what is applied after a cut happened to nobody.
    pub disk: Disk,
    /// See `disk`.
    pub life: u64,
    /// Who is told.
    pub witness: Witness,
    /// The bug, if there is one.
    pub plant: Option<Plant>,
}

impl Watched {
    async fn one(&mut self, mut entry: EntryResponder<Virtual>) -> Result<(), io::Error> {
        let log_id = entry.0.log_id;
        let command = match &entry.0.payload {
            EntryPayload::Normal(command) => Some(command.clone()),
            _ => None,
        };
        let kept = match (self.plant, &command) {
            (Some(Plant::TokenAgain), Some(Command::Join { token, .. })) => {
                self.edit(|state| state["tokens"][token.as_str()]["redeemed_by"] = Value::Null, Some(token)).await?;
                None
            }
            (Some(Plant::OldBookKept), Some(Command::Join { record, .. })) => self.book_of(record),
            (Some(Plant::CommandSkipped), Some(Command::Statements { .. })) if log_id.index % 7 == self.life % 7 => {
                entry.0.payload = EntryPayload::Blank;
                None
            }
            _ => None,
        };
        RaftStateMachine::<Virtual>::apply(&mut self.machine, stream::iter([Ok(entry)])).await?;
        if let Some((cluster, book)) = kept {
            self.edit(move |state| state["books"][cluster] = book, None).await?;
        }
        if self.disk.life() == self.life {
            self.machine.look(|state| {
                self.witness.tell(&Seen::Applied {
                    cluster: &self.cluster,
                    index: log_id.index,
                    term: log_id.leader_id.term,
                    command: command.as_ref(),
                    state,
                });
            });
        }
        Ok(())
    }

    /// What a cluster said so far, if a join entry gives it another key.
    fn book_of(&self, record: &Blob) -> Option<(String, Value)> {
        let record = MemberRecord::decode(record.0.as_slice()).ok()?;
        self.machine.look(|state| {
            let old = state.member(&record.cluster)?;
            let json = serde_json::to_value(state).ok()?;
            let book = json["books"].get(&record.cluster)?.clone();
            (old.federation_key != record.federation_key).then_some((record.cluster, book))
        })
    }

    /// Changes the state as no command could, by a snapshot of it.
    async fn edit(&mut self, change: impl FnOnce(&mut Value), token: Option<&String>) -> Result<(), io::Error> {
        if token.is_some_and(|token| self.machine.look(|state| state.token(token).is_none())) {
            return Ok(());
        }
        let snapshot = RaftSnapshotBuilder::<Virtual>::build_snapshot(&mut self.machine).await?;
        let mut json: Value = serde_json::from_slice(&snapshot.snapshot).map_err(io::Error::other)?;
        change(&mut json["applied"]["state"]);
        let bytes = serde_json::to_vec(&json).map_err(io::Error::other)?;
        RaftStateMachine::<Virtual>::install_snapshot(&mut self.machine, &snapshot.meta, bytes).await
    }
}

impl RaftStateMachine<Virtual> for Watched {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<Virtual>>, StoredMembershipOf<Virtual>), io::Error> {
        RaftStateMachine::<Virtual>::applied_state(&mut self.machine).await
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Virtual>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.try_next().await? {
            self.one(entry).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.machine.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Virtual>, bytes: Vec<u8>) -> Result<(), io::Error> {
        RaftStateMachine::<Virtual>::install_snapshot(&mut self.machine, meta, bytes).await?;
        if self.disk.life() == self.life {
            let index = meta.last_log_id.map_or(0, |id| id.index);
            self.machine.look(|state| self.witness.tell(&Seen::Installed { cluster: &self.cluster, index, state }));
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Virtual, Vec<u8>>>, io::Error> {
        RaftStateMachine::<Virtual>::get_current_snapshot(&mut self.machine).await
    }
}
