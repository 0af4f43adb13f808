//! One authority takes the place of another while the cluster runs: what is to sign is announced first, and what signed is
//! believed as long as leaves of it live. So there is no moment at which somebody shows a leaf that others cannot believe
//! yet, or not any more.

use std::{sync::Arc, time::SystemTime};

use super::{Ca, keep};
use crate::{CaError, anchors::Anchors, plugged::Plugged};

impl Ca {
    /// Whether leaves are signed with this one.
    #[must_use]
    pub fn signs_with(&self, plugged: &Plugged) -> bool {
        let (now, issuing) = (self.issuing(), &plugged.issuing);
        now.anchor == issuing.anchor && now.behind == issuing.behind
    }

    /// Tells others of one that is about to sign.
    ///
    /// # Errors
    /// [`CaError::Disk`], [`CaError::Crowded`]; nothing is changed then.
    pub fn announce(&self, plugged: &Plugged) -> Result<(), CaError> {
        self.change(|anchors| anchors.coming(&plugged.issuing.anchor, SystemTime::now()))
    }

    /// Signs with it from now on.
    ///
    /// # Errors
    /// As [`Ca::announce`].
    pub fn sign_with(&self, plugged: Plugged) -> Result<(), CaError> {
        self.change(|anchors| anchors.signing(&plugged.issuing.anchor, SystemTime::now()))?;
        keep(&self.0.dir, &plugged.issuing, self.trust_domain())?;
        *self.0.issuing.lock() = Arc::new(plugged.issuing);
        Ok(())
    }

    /// Lets go of what signed once and of which no leaf lives.
    ///
    /// # Errors
    /// As [`Ca::announce`].
    pub fn forget_retired(&self, now: SystemTime) -> Result<(), CaError> {
        let issuing = self.issuing();
        self.change(|anchors| {
            anchors.signing(&issuing.anchor, now)?;
            anchors.forget(now)
        })
    }

    pub(super) fn change(&self, what: impl FnOnce(&mut Anchors) -> Result<(), CaError>) -> Result<(), CaError> {
        let mut anchors = self.0.anchors.lock();
        what(&mut anchors)?;
        let (all, bytes) = (anchors.all(), anchors.bytes()?);
        self.0.believed.send_if_modified(|believed| {
            let changed = *believed != bytes;
            *believed = bytes;
            changed
        });
        self.0.roots.send_if_modified(|roots| {
            let changed = *roots != all;
            *roots = all;
            changed
        });
        Ok(())
    }
}
