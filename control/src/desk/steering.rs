//! Failover at the desk: verbs as operators do them, each service decided, and what goes with the lease.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    compile::Ordered,
    consent,
    failover::verb::{self, DEFAULT_FOR, Deed, Verb},
    model::Resource,
    name::{ClusterName, ServiceName},
};

use super::{Desk, unix_ms};
use crate::{
    clients::Role,
    decider::Move,
    failover::{
        Moment, Seen,
        history::Event,
        simulation::{self, Fate, Simulated},
    },
    handle::{Done, Wish},
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

    pub(super) fn simulate(&self, fate: &Fate) -> Vec<Simulated> {
        let proxies = BTreeSet::new();
        let seen = Seen { at: self.moment(), orders: &self.compiled.orders, decider: &self.decider, proxies: &proxies };
        simulation::simulate(&self.failover, &seen, fate)
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
        let world = self.world.clone().unwrap_or_default();
        let written = self.federation.quorum && self.speaker.member && self.speaker.open == 0;
        if self.failover.look_at_verbs(self.moment(), &world, &self.bound_by(), written) {
            self.changed();
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

    /// An operator does something for a while: in force here at once, said to the others, in the log when there is a
    /// quorum.
    pub(super) fn wish(&mut self, wish: Wish) -> Result<Done, String> {
        self.acts()?;
        let Wish { deed, lasts, by, reason } = wish;
        self.may(&deed)?;
        let verb = Verb { name: deed.name(), deed, lasts: lasts.unwrap_or(DEFAULT_FOR), by, reason, at_ms: unix_ms() };
        let own = &self.setting.cluster;
        let world = self.world.clone().unwrap_or_default();
        let bound = |cluster: &ClusterName| verb::binds(&verb.deed, own, &world.bound_by(cluster));
        let (mut binds, free): (Vec<_>, Vec<_>) = world.members.keys().cloned().partition(bound);
        binds.insert(0, own.clone());
        // What was heard of a quorum last says nothing without the member that would have to write.
        let local = !(self.federation.quorum && self.speaker.member);
        let done = Done { name: verb.name.clone(), local, binds, free };
        tracing::info!(verb = %verb.deed, by = verb.by, reason = verb.reason, local = done.local, "an operator acts");
        self.failover.verbs.add(verb);
        self.look_at_verbs();
        self.keep();
        self.tell_deeds();
        Ok(done)
    }

    /// Whether what it is about is there. Whom it binds is told: it always binds the cluster that it is done in.
    fn may(&self, deed: &Deed) -> Result<(), String> {
        let own = &self.setting.cluster;
        let world = self.world.clone().unwrap_or_default();
        let cluster = deed.cluster();
        if cluster != own && !world.members.contains_key(cluster) {
            let known = world.members.keys().chain([own]).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(format!("no cluster {cluster} is a member of this mesh; there are {known}"));
        }
        if let Deed::Evacuate { service, .. } | Deed::Pin { service, .. } = deed
            && !self.compiled.orders.contains_key(service)
        {
            return Err(format!("{own} knows no service {service}; `isthmus services` lists those it knows"));
        }
        Ok(())
    }

    pub(super) fn take_back(&mut self, name: &str) -> Result<(), String> {
        self.acts()?;
        if self.failover.verbs.take_back(name) {
            tracing::info!(verb = name, "an operator takes a verb back");
            self.look_at_verbs();
            self.changed();
            self.keep();
            return Ok(());
        }
        let own = &self.setting.cluster;
        Err(match self.failover.verbs.writer_of(name) {
            Some(writer) => format!("{name} was done in {writer}; take it back there, with --at {writer}"),
            None => format!("no {name} is in force in {own}; `isthmus failover verbs` lists what is"),
        })
    }
}
