//! The production state machine as a member of a story uses it: the adapter tells the witness what is applied, and plants.

use std::{collections::BTreeMap, io};

use futures_util::{Stream, TryStreamExt, stream};
use isthmus_core::statement::Version;
use isthmus_federation::{
    raft::machine::Machine,
    state::{Blob, Command, Deed, version},
};
use isthmus_wire::federation::{MemberRecord, SignedStatement};
use openraft::{
    Entry, EntryPayload, OptionalSend,
    alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf},
    storage::{EntryResponder, RaftStateMachine},
};
use prost::Message;

use crate::{
    disk::Disk,
    place::Keys,
    plant::Plant,
    types::Virtual,
    witness::{Seen, Witness},
    words::MESH,
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
    /// Every cluster's key, for bugs that need what no member has.
    pub keys: Keys,
    /// With [`Plant::OldVersionsCount`]: the highest of each cluster that came anew.
    pub old: BTreeMap<String, Version>,
}

/// What a bug does to a command.
enum Spoilt {
    /// Changes it, or nothing.
    Changed,
    /// Skips it.
    Skipped,
    /// Applies this before it.
    After(Command),
}

impl Watched {
    async fn one(&mut self, mut entry: EntryResponder<Virtual>) -> Result<(), io::Error> {
        let log_id = entry.0.log_id;
        let command = match &entry.0.payload {
            EntryPayload::Normal(command) => Some(command.clone()),
            _ => None,
        };
        let mut entries = vec![];
        if let (Some(plant), EntryPayload::Normal(command)) = (self.plant, &mut entry.0.payload) {
            match self.spoil(plant, command, log_id.index) {
                Spoilt::Changed => {}
                Spoilt::Skipped => entry.0.payload = EntryPayload::Blank,
                Spoilt::After(first) => entries.push((Entry { log_id, payload: EntryPayload::Normal(first) }, None)),
            }
        }
        entries.push(entry);
        RaftStateMachine::<Virtual>::apply(&mut self.machine, stream::iter(entries.into_iter().map(Ok))).await?;
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

    /// Does to a command what the bug would.
    fn spoil(&mut self, plant: Plant, command: &mut Command, index: u64) -> Spoilt {
        match (plant, command) {
            (Plant::CommandSkipped, Command::Statements { .. }) if index % 7 == self.life % 7 => {
                return Spoilt::Skipped;
            }
            (Plant::OldVersionsCount, Command::Statements { statements }) => {
                let said = |blob: &Blob| SignedStatement::decode(blob.0.as_slice()).ok();
                let counts =
                    |said: &SignedStatement| self.old.get(&said.cluster).is_none_or(|old| version(said) > *old);
                statements.retain(|blob| said(blob).is_some_and(|said| counts(&said)));
            }
            (Plant::OldVersionsCount, Command::Join { record, .. }) => {
                let Ok(record) = MemberRecord::decode(record.0.as_slice()) else { return Spoilt::Changed };
                let highest = self.machine.look(|state| {
                    let of = state.all_said().filter(|said| said.cluster == record.cluster);
                    of.map(|said| version(&said)).max()
                });
                self.old.extend(highest.map(|highest| (record.cluster, highest)));
            }
            (Plant::TokenAgain, Command::Join { token, record }) => {
                let Ok(record) = MemberRecord::decode(record.0.as_slice()) else { return Spoilt::Changed };
                if let Some((another, deed)) = self.another(token, &record.federation_key) {
                    *token = another;
                    return Spoilt::After(deed);
                }
            }
            _ => {}
        }
        Spoilt::Changed
    }

    /// In place of a token that another key used, one more just like it: so it is as if nobody had used it.
    fn another(&self, used: &str, key: &[u8]) -> Option<(String, Command)> {
        let known = self.machine.look(|state| state.token(used).cloned());
        let token = known.filter(|token| token.redeemed_by.as_ref().is_some_and(|by| by.0 != key))?;
        let (id, issuer) = (format!("{used}, again"), self.keys.lock().get(&token.issuer).cloned()?);
        let (cluster, hash, expires) = (token.cluster, token.hash, token.expires);
        let deed = Deed::Token { id: id.clone(), cluster, hash, expires };
        Some((id, deed.signed(MESH, &token.issuer, &issuer)))
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
