//! What replicas of control have the same, as files: what signs, by which certificates leaves are believed, roots of passes.
//!
//! One place holds them, and a replica changes something of them by putting it there, unless the place has changed meanwhile.
//! Of what signs the higher number holds, of the rest the union. So two replicas sign with the same, and who was away, or comes
//! with an older copy, takes away nothing.

use std::{path::Path, sync::Arc, time::SystemTime};

use isthmus_runtime::disk;
use tokio::sync::watch;

use super::Ca;
use crate::{
    CaError, anchors,
    issuing::Issuing,
    passes,
    plugged::{Entries, Plugged, kept},
    store,
};

/// What signs, where somebody brought it along.
pub const SIGNING: &str = kept::FILE;
/// The cluster's own root, made once.
pub const OWN: &str = "authority.json";
/// Roots of passes.
pub const PASSES: &str = passes::FILE;
/// By what leaves are believed.
pub const ANCHORS: &str = anchors::FILE;

/// Of a file that is there and here the one that holds: `None`, the one there.
#[must_use]
pub fn merged(file: &str, here: &[u8], there: &[u8]) -> Option<Vec<u8>> {
    match file {
        PASSES => passes::merged(here, there),
        ANCHORS => anchors::merged(here, there),
        SIGNING => kept::merged(here, there),
        _ => None,
    }
}

impl Ca {
    /// The files as this replica has them, and with the next root of passes when it is time: that one counts once it is in
    /// the place, and [`Ca::take`] takes it.
    ///
    /// # Errors
    /// [`CaError::Disk`].
    pub fn proposal(&self, now: SystemTime) -> Result<Entries, CaError> {
        let issuing = self.issuing();
        self.change(|anchors| anchors.signing(&issuing.anchor, now))?;
        let mut all = Entries::from([
            (PASSES.to_owned(), self.0.passes.lock().proposed(now)?),
            (ANCHORS.to_owned(), self.0.believed.borrow().clone()),
        ]);
        if let Some(signing) = kept::bytes(&issuing, issuing.number, self.trust_domain())? {
            all.insert(SIGNING.to_owned(), signing);
        }
        if let Some(own) = disk::read(store::file(&self.0.dir))? {
            all.insert(OWN.to_owned(), own);
        }
        Ok(all)
    }

    /// The file by which this one signs in place of what signs now.
    ///
    /// # Errors
    /// [`CaError::Disk`].
    pub fn succession(&self, plugged: &Plugged) -> Result<Vec<u8>, CaError> {
        let number = self.issuing().number + 1;
        let kept = kept::bytes(&plugged.issuing, number, self.trust_domain())?;
        Ok(kept.unwrap_or_default())
    }

    /// Takes what the place holds.
    ///
    /// # Errors
    /// [`CaError`]: the first file that cannot be used; the others are taken.
    pub fn take(&self, there: &Entries, now: SystemTime) -> Result<(), CaError> {
        let anchors = there.get(ANCHORS).map_or(Ok(()), |bytes| self.believe(bytes, now));
        let passes = there.get(PASSES).map_or(Ok(()), |bytes| self.0.passes.lock().merge(bytes));
        anchors.and(passes).and(self.take_signing(there, now))
    }

    /// By what this replica believes leaves, for others, and each change of it: they need not find it in the place.
    #[must_use]
    pub fn watch_believed(&self) -> watch::Receiver<Vec<u8>> {
        self.0.believed.subscribe()
    }

    /// Believes what another replica does.
    ///
    /// # Errors
    /// As [`Ca::take`].
    pub fn believe(&self, anchors: &[u8], now: SystemTime) -> Result<(), CaError> {
        self.change(|own| own.merge(anchors, now))
    }

    fn take_signing(&self, there: &Entries, now: SystemTime) -> Result<(), CaError> {
        let own = self.issuing();
        if let Some(bytes) = there.get(SIGNING) {
            let here = kept::bytes(&own, own.number, self.trust_domain())?;
            if here.is_some_and(|here| here == *bytes || kept::merged(&here, bytes).is_some()) {
                return Ok(());
            }
            return self.sign_with(Plugged::parse(Path::new(SIGNING), bytes, self.trust_domain(), now)?);
        }
        match there.get(OWN) {
            Some(bytes) if own.entries.is_none() => self.take_own(bytes, now),
            _ => Ok(()),
        }
    }

    /// A root that took the place of the one here: somebody deleted it, and another replica made one before this could put it
    /// back.
    fn take_own(&self, bytes: &[u8], now: SystemTime) -> Result<(), CaError> {
        let path = store::file(&self.0.dir);
        if disk::read(&path)?.as_deref() == Some(bytes) {
            return Ok(());
        }
        let there = store::parse(&path, bytes, self.trust_domain())?;
        let issuing = Issuing::of_root(there.root, there.key)?;
        tracing::warn!(
            "the cluster has another root than this replica signed with; it signs with that one from now on"
        );
        self.change(|anchors| anchors.signing(&issuing.anchor, now))?;
        disk::write_atomic(&path, bytes)?;
        *self.0.issuing.lock() = Arc::new(issuing);
        Ok(())
    }
}
