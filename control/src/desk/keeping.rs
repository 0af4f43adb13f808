//! What the desk keeps on disk.

use isthmus_runtime::disk::Keeper;

use super::Desk;
use crate::compiler::Compiled;

/// Version of the files.
pub(super) const DISK_VERSION: u32 = 1;

/// Files of the desk.
#[derive(Debug)]
pub struct Disk {
    /// Registrations.
    pub registrations: Keeper,
    /// Decisions.
    pub decisions: Keeper,
    /// Address indexes of services.
    pub indexes: Keeper,
    /// Verbs, shares, history.
    pub failover: Keeper,
}

impl Desk {
    /// An address that was told to anybody must not move: indexes are on disk before they are handed out, and where the
    /// disk takes nothing, as soon as it does.
    pub(super) fn keep_indexes(&mut self, compiled: &Compiled) {
        if self.indexes != compiled.indexes {
            self.indexes.clone_from(&compiled.indexes);
            self.indexes_kept = self.disk.indexes.keep(DISK_VERSION, &self.indexes);
        }
    }

    /// Puts on disk what changed; what cannot be kept is tried again at the next beat.
    pub(super) fn keep(&mut self) {
        if !self.indexes_kept {
            self.indexes_kept = self.disk.indexes.keep(DISK_VERSION, &self.indexes);
        }
        if let Some(registered) = self.registry.take_changed()
            && !self.disk.registrations.keep(DISK_VERSION, &registered)
        {
            self.registry.not_kept();
        }
        if let Some(fresh) = self.failover.to_keep()
            && self.disk.failover.keep(DISK_VERSION, &fresh)
        {
            self.failover.kept(fresh);
        }
        if let Some(decided) = self.decider.take_changed()
            && !self.disk.decisions.keep(DISK_VERSION, &decided)
        {
            self.decider.not_kept();
        }
    }
}
