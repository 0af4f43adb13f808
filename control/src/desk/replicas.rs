//! The desk as one of several: what it tells the other replicas of its decisions, and takes from them.

use std::sync::Arc;

use super::Desk;
use crate::{
    decider::Decider,
    failover::Failover,
    heard::World,
    replicas::{Deeds, Memory},
};

impl Desk {
    /// All that is known of the other clusters, and was decided here.
    pub(super) fn memory(&self) -> Memory {
        Memory { decisions: self.decider.verdicts(), failover: self.failover.memory(), world: self.world.clone() }
    }

    /// Another replica's memory, or that there is no other one. Who has an own one goes by that.
    pub(super) fn remember_all(&mut self, mut memory: Option<Box<Memory>>) {
        self.learn(memory.as_mut().and_then(|memory| memory.world.take()));
        let has_own = self.has_memory();
        self.forgetful = false;
        if has_own {
            return;
        }
        if let Some(Memory { decisions, failover, .. }) = memory.map(|memory| *memory) {
            tracing::info!("what another replica decided is gone on with");
            self.decider = Decider::restored(self.setting.cluster.clone(), decisions);
            // An operator may have come before the memory: what was done since is part of nobody else's.
            let done = self.failover.deeds().verbs;
            self.failover = Failover::restored(self.setting.cluster.clone(), failover);
            self.failover.verbs.go_on_with(done);
            self.look_at_verbs();
        }
        self.changed();
    }

    /// Whether there was a memory from the start, another one's came, or what was decided here is handed out.
    fn has_memory(&self) -> bool {
        !self.forgetful || self.outputs.snapshots.borrow().is_some()
    }

    /// The other clusters as another replica knows them, until the own member tells of them.
    fn learn(&mut self, world: Option<Arc<World>>) {
        if self.world.is_none() && world.is_some() {
            tracing::info!("what another replica has heard of the other clusters is in force");
            self.world = world;
            self.changed();
        }
    }

    /// What the replica that speaks keeps for the cluster; nobody tells the one that speaks itself.
    pub(super) fn adopt(&mut self, deeds: Deeds) {
        if !self.speaker.speaks && self.failover.adopt(deeds) {
            self.look_at_verbs();
            self.changed();
        }
    }

    /// Tells the others what is kept here, as long as it is this replica that speaks. One that speaks before another one's memory
    /// has come has nothing to tell: they go by what it says, and would forget what they are about to remind it of.
    pub(super) fn tell_deeds(&self) {
        let now =
            (self.replicated && self.speaker.speaks && self.has_memory()).then(|| Arc::new(self.failover.deeds()));
        self.outputs.deeds.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }

    /// Only who speaks does what operators want: the others would not keep it.
    pub(super) fn acts(&self) -> Result<(), String> {
        if self.replicated && !self.speaker.speaks {
            let lease = isthmus_kubernetes::leader::CONTROL;
            return Err(format!(
                "this replica of control follows another one; ask the one that holds the Lease {lease}"
            ));
        }
        Ok(())
    }
}
