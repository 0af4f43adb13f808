//! Failover at the desk: verbs as they are counted, each service decided, and what goes with the lease.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    compile::Ordered,
    consent,
    failover::verb::Verb,
    model::Resource,
    name::{ClusterName, ServiceName},
    statement::Version,
};

use super::{Desk, unix_ms};
use crate::{
    clients::Role,
    decider::Move,
    failover::{
        Heard, Moment, Seen,
        history::Event,
        simulation::{self, Simulated},
    },
};

impl Desk {
    pub(super) fn moment(&self) -> Moment {
        Moment { now: Duration::from_millis(self.now()), unix_ms: unix_ms() }
    }

    /// Whose policies and verbs bind this cluster.
    pub(super) fn bound_by(&self) -> Vec<ClusterName> {
        let operators = self.world.as_deref().map(|world| world.operators.as_slice()).unwrap_or_default();
        consent::binding(&self.setting.cluster, consent::listed(&self.compiled.contents), operators)
    }

    /// Decides every service; the resources that say so.
    pub(super) fn steer(&mut self, orders: &BTreeMap<ServiceName, Ordered>) -> Vec<Resource> {
        let connected = self.clients.iter().filter(|client| client.role == Role::Proxy && client.connected);
        let proxies: BTreeSet<String> = connected.map(|client| client.name.clone()).collect();
        let seen = Seen { at: self.moment(), orders, decider: &self.decider, proxies: &proxies };
        self.failover.steer(&seen)
    }

    /// Each beat: shares along their ramps, without compiling all the rest anew.
    pub(super) fn steer_on(&mut self) {
        if self.outputs.snapshots.borrow().is_none() {
            return;
        }
        let compiled = self.compiled.clone();
        let mut changed = false;
        for resource in self.steer(&compiled.orders) {
            match self.table.upsert(resource) {
                Ok(differs) => changed |= differs,
                Err(error) => tracing::error!(%error, "a decision has no JSON; what was in force stays"),
            }
        }
        if changed {
            self.hand_out();
        }
    }

    /// What goes with the next lease.
    pub(super) fn prepare_lease(&mut self) {
        let others = self.world.iter().flat_map(|world| world.members.keys().cloned()).collect();
        let compiled = self.compiled.clone();
        let now = Duration::from_millis(self.now());
        let lease = self.failover.lease(now, &compiled.orders, &others);
        self.outputs.lease.send_if_modified(|said| {
            let differs = *said != lease;
            *said = lease;
            differs
        });
    }

    /// Counts verbs; what began, ended or expired changes what is compiled and said.
    pub(super) fn look_at_verbs(&mut self) {
        let (world, compiled) = (self.world.clone().unwrap_or_default(), self.compiled.clone());
        let (written, bound_by) = (self.written(), self.bound_by());
        let heard = Heard { at: self.moment(), world: &world, bound_by: &bound_by, written: &written };
        if self.failover.look_at_verbs(&heard, &compiled.orders) {
            self.changed();
        }
        self.tell_written();
    }

    /// Own verbs that are in the federation's log: those that the member has taken, up to where it has written.
    fn written(&self) -> Vec<Verb> {
        let up_to = Version { epoch: self.federation.written_epoch, number: self.federation.written_number };
        let said = self.speaker.verbs.iter().filter(|(_, version)| *version <= up_to);
        said.map(|(verb, _)| verb.clone()).collect()
    }

    /// What of the own verbs is in the log, when the member or the federation tells.
    pub(super) fn settle_verbs(&mut self) {
        let written = self.written();
        self.failover.verbs.settle(&written);
        self.tell_written();
    }

    fn tell_written(&mut self) {
        let verbs = &self.failover.verbs;
        for (_, waiting) in self.waiting.extract_if(.., |(name, reply)| verbs.is_written(name) || reply.is_closed()) {
            let _ = waiting.send(());
        }
    }

    pub(super) fn remember(&mut self, moved: &Move) {
        tracing::info!(cluster = %moved.cluster, from = ?moved.from, to = ?moved.to, why = moved.why, "a cluster's standing moves");
        self.metrics.decisions.with_label_values(&[&format!("{:?}", moved.to)]).inc();
        self.failover.history.add(Event {
            at_ms: unix_ms(),
            kind: "cluster".into(),
            of: moved.cluster.to_string(),
            what: format!("{} → {}", super::shown::word(&moved.from), super::shown::word(&moved.to)),
            why: moved.why.into(),
            by: String::new(),
        });
    }

    pub(super) fn simulate(&self, down: &BTreeSet<ClusterName>) -> Vec<Simulated> {
        let now = Duration::from_millis(self.now());
        simulation::simulate(&self.failover, &self.compiled.orders, down, now)
    }
}
