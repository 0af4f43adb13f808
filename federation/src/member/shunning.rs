//! Ejections without a quorum: whoever was put out here is out for this cluster at once, over restarts too, and for the others
//! when the log has the deed.

use std::collections::BTreeMap;

use isthmus_runtime::disk;

use super::Member;
use crate::{
    error::{Error, Refusal},
    state::{Blob, Deed},
};

/// Layout of the file.
const DISK_VERSION: u32 = 1;

/// Clusters that are out for this one, each by the key it was put out with.
pub(super) type Shunned = BTreeMap<String, Blob>;

/// How far an ejection has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ejected {
    /// It is in the log.
    Written,
    /// It is in force in this cluster alone, and written when there is a quorum; why it is not yet.
    Local(String),
}

impl Member {
    /// Puts a cluster out of the mesh; where the log cannot take it, out of what this cluster hears and believes.
    ///
    /// # Errors
    /// When there is no such member, this cluster may not, or nothing can be kept.
    pub(crate) async fn eject(&self, cluster: &str) -> Result<Ejected, Refusal> {
        let held = self.look(|state| state.member(cluster).cloned())?;
        let unknown = || Refusal::new(format!("{cluster} is no member of this mesh"), "see `isthmus clusters`");
        let held = held.filter(|held| !held.ejected).ok_or_else(unknown)?;
        let key = Blob(held.federation_key);
        let refusal = match self.act(Deed::Eject { cluster: cluster.to_owned(), key: key.clone() }).await {
            Ok(()) => return Ok(Ejected::Written),
            Err(refusal) => refusal,
        };
        if self.standing().quorum || cluster == self.cluster() || !self.operates() {
            return Err(refusal);
        }
        let kept = |error: disk::DiskError| Refusal::new(error.to_string(), "make room, then eject it again");
        self.keep_shunned(|shunned| drop(shunned.insert(cluster.to_owned(), key.clone()))).map_err(kept)?;
        tracing::warn!(cluster, "it is out for this cluster; the others hear of it when there is a quorum");
        self.shun(cluster, key);
        Ok(Ejected::Local(refusal.error))
    }

    /// What was put out in an earlier run stays out.
    pub(super) fn shun_kept(&self) -> Result<(), Error> {
        let kept: Option<Shunned> = disk::load_versioned(self.file("shunned.json"), DISK_VERSION)?;
        for (cluster, key) in kept.iter().flatten() {
            self.shun(cluster, key.clone());
        }
        *self.shunned.lock() = kept.unwrap_or_default();
        Ok(())
    }

    fn shun(&self, cluster: &str, key: Blob) {
        self.view.shun(cluster, Some(key.0));
        self.sessions.close(cluster);
        self.believe();
    }

    /// The log has it: nothing is left to be done. A key that is out never comes back, so the view may go on shunning it.
    pub(super) fn is_ejected(&self, cluster: &str) {
        if self.shunned.lock().contains_key(cluster) {
            self.forget(cluster);
        }
    }

    /// Writes what waits for a quorum. Who is no operator any more has ejected nobody.
    pub(super) async fn write_ejections(&self) {
        let waiting = self.shunned.lock().clone();
        if waiting.is_empty() || !self.standing().quorum {
            return;
        }
        let operates = self.operates();
        for (cluster, key) in waiting {
            if !operates {
                tracing::warn!(cluster, "it is heard again: this cluster is no operator of the mesh any more");
                self.view.shun(&cluster, None);
                self.forget(&cluster);
                self.believe();
            } else if let Err(refusal) = self.act(Deed::Eject { cluster: cluster.clone(), key }).await {
                tracing::debug!(%refusal, cluster, "an ejection waits for the log");
            }
        }
    }

    fn operates(&self) -> bool {
        self.look(|state| state.member(self.cluster()).is_some_and(|own| own.operator)).unwrap_or(false)
    }

    fn forget(&self, cluster: &str) {
        if let Err(error) = self.keep_shunned(|shunned| drop(shunned.remove(cluster))) {
            tracing::warn!(%error, cluster, "that its ejection is written is not kept; it is looked at again");
        }
    }

    fn keep_shunned(&self, change: impl FnOnce(&mut Shunned)) -> Result<(), disk::DiskError> {
        let mut shunned = self.shunned.lock();
        let mut changed = shunned.clone();
        change(&mut changed);
        disk::store_versioned(self.file("shunned.json"), DISK_VERSION, &changed)?;
        *shunned = changed;
        Ok(())
    }
}
