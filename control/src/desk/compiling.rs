//! The desk compiles: when it may speak, what of it is new, and to whom it goes.

use std::{sync::Arc, time::Duration};

use isthmus_core::compile::finding;

use super::{Desk, GRACE, PATIENCE, unix_ms};
use crate::{
    compiler::{self, Compiled, Input},
    registry::pods,
    sources::Sources,
};

impl Desk {
    fn may_hand_out(&self) -> bool {
        let is_known = self.is_known_after(if self.replicated { PATIENCE } else { GRACE });
        is_known && (self.outputs.snapshots.borrow().is_some() || self.has_met() || self.began.elapsed() >= PATIENCE)
    }

    /// Whether the own sidecars have come to this control: what it said of endpoints before would be that there are none.
    fn has_met(&self) -> bool {
        let facts = self.sources.as_ref().and_then(|sources| sources.facts.as_deref());
        facts.is_none_or(|facts| pods::are_all_there(&self.registry.standing(self.now()), &facts.workloads))
    }

    /// Whether the own objects are known, and the other clusters, and what another replica decided, are or were waited for so
    /// long; for a replica no longer than [`GRACE`].
    fn is_known_after(&self, patience: Duration) -> bool {
        let waited = self.began.elapsed();
        let is_whole = !(self.replicated && self.forgetful) || waited >= GRACE;
        self.sources.as_ref().is_some_and(|sources| sources.known)
            && ((self.world.is_some() && is_whole) || waited >= patience)
    }

    pub(super) fn look_ready(&self) {
        let handed_out = self.outputs.snapshots.borrow().is_some();
        if handed_out || self.is_known_after(GRACE) && !self.may_hand_out() {
            self.outputs.ready.ready();
        }
    }

    pub(super) fn compile_is_overdue(&self) -> bool {
        self.outputs.snapshots.borrow().is_none() && self.may_hand_out()
    }

    pub(super) fn compile(&mut self) {
        self.compile_at = None;
        if !self.may_hand_out() {
            return;
        }
        let timer = self.metrics.compile_seconds.start_timer();
        self.standing = self.endpoints();
        let world = self.world.clone().unwrap_or_default();
        let sources = self.sources.clone().unwrap_or_default();
        let pins = self.failover.verbs.pins(Duration::from_millis(self.now()));
        let born = self.failover.born(compiler::policies(&sources), unix_ms()).clone();
        let mut compiled = compiler::compile(&Input {
            setting: &self.setting,
            sources: &sources,
            registered: &self.standing,
            world: &world,
            verdicts: &self.decider.verdicts(),
            indexes: &self.indexes,
            born: &born,
            pins: &pins,
        });
        compiled.partial = self.world.is_none();
        self.decider.set_stale_after(compiled.stale_after);
        compiled.contents.extend(self.failover.contents());
        let decided = self.steer(&compiled.orders);
        compiled.resources.extend(decided);
        timer.observe_duration();
        self.table.set_partial(compiled.partial);
        match self.table.replace(compiled.resources.clone(), "lease") {
            Ok(changed) => self.metrics.resource_changes.inc_by(changed.len() as u64),
            Err(error) => tracing::error!(%error, "a compiled resource has no JSON; what was in force stays"),
        }
        self.tell_faults(&sources, &compiled);
        self.keep_indexes(&compiled);
        self.compiled = Arc::new(compiled);
        self.hand_out();
        self.outputs.contents.send_if_modified(|contents| {
            let differs = contents.as_ref() != Some(&self.compiled.contents);
            *contents = Some(self.compiled.contents.clone());
            differs
        });
        self.outputs.compiled.send_replace(Some(self.compiled.clone()));
        self.look_ready();
    }

    fn tell_faults(&self, sources: &Sources, compiled: &Compiled) {
        for fault in compiled.faults.iter().filter(|fault| !self.compiled.faults.contains(fault)) {
            if fault.kind.is_reference() {
                tracing::warn!(%fault, "an object names what is not there; the rest is in force");
            } else if fault.kind == finding::Kind::Overridden {
                tracing::info!(%fault, "nothing follows from a policy");
            } else {
                tracing::error!(%fault, "an object is refused; the rest is in force");
            }
        }
        let in_files: usize = sources.files.iter().map(|(_, _, faults)| faults.len()).sum();
        self.metrics.faults.set(i64::try_from(in_files + compiled.faults.len()).unwrap_or(i64::MAX));
    }

    pub(super) fn hand_out(&self) {
        let snapshot = self.table.snapshot();
        self.metrics.resources.set(i64::try_from(snapshot.entries.len()).unwrap_or(i64::MAX));
        if self.may_hand_out() && self.table.snapshot().entries.contains_key("mesh") {
            if snapshot.partial && self.outputs.snapshots.borrow().is_none() {
                tracing::warn!("no word of other clusters yet; proxies and gateways keep what they know of them");
            }
            self.outputs.snapshots.send_replace(Some(Arc::new(snapshot.clone())));
        }
    }
}
