//! Failover in one cluster's control: what operators do, what requests show, what limits allow, and what follows for
//! each service. The decisions are `isthmus_core::failover`'s; here their inputs are gathered and their outputs kept.
//!
//! ```text
//! verbs (own, of others) ─► verbs: in force, ended ────┐
//! reports of own proxies ─► steersman: windows ────────┼─► steersman: shares ─► feed, rows, history
//! leases of others ───────► limits: wants, grants ─────┘
//! ```

pub mod doubts;
pub mod history;
pub mod limits;
pub mod rows;
pub mod simulation;
pub mod steersman;
pub mod traffic;
pub mod verbs;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    compile::Ordered,
    failover::verb::Verb,
    model::{self, Resource},
    name::{ClusterName, ServiceName},
    statement::{Content, Lease},
};
use isthmus_wire::feed::ServiceEvidence;
use serde::{Deserialize, Serialize};

use self::{
    history::{Event, History},
    limits::Limits,
    steersman::Steersman,
    verbs::Verbs,
};
use crate::{decider::Decider, heard::World, replicas::Deeds};

/// What is kept on disk: a restarted control goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnDisk {
    shares: BTreeMap<ServiceName, BTreeMap<ClusterName, f64>>,
    verbs: verbs::OnDisk,
    limits: BTreeMap<ClusterName, Lease>,
    history: Vec<Event>,
    born: BTreeMap<String, u64>,
}

/// The moment: the own monotonic clock for what is decided, the wall clock for people.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since this control began.
    pub now: Duration,
    /// Unix milliseconds.
    pub unix_ms: u64,
}

/// What a decision is made from.
pub struct Seen<'a> {
    /// When.
    pub at: Moment,
    /// The tiers of each service.
    pub orders: &'a BTreeMap<ServiceName, Ordered>,
    /// How the other clusters stand.
    pub decider: &'a Decider,
    /// Own proxies on the feed.
    pub proxies: &'a BTreeSet<String>,
}

/// What is heard of verbs.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// When.
    pub at: Moment,
    /// What the others say.
    pub world: &'a World,
    /// Whose verbs bind this cluster.
    pub bound_by: &'a [ClusterName],
    /// Own verbs that are in the federation's log, as they are there.
    pub written: &'a [Verb],
}

/// All of it.
#[derive(Debug)]
pub struct Failover {
    own: ClusterName,
    /// What requests show, and the shares.
    pub steersman: Steersman,
    /// Limits of others and the own ones.
    pub limits: Limits,
    /// What operators do.
    pub verbs: Verbs,
    /// What happened.
    pub history: History,
    born: BTreeMap<String, u64>,
    kept: OnDisk,
}

impl Failover {
    /// With what an earlier run knew.
    #[must_use]
    pub fn restored(own: ClusterName, on_disk: OnDisk) -> Self {
        let kept = on_disk.clone();
        Self {
            steersman: Steersman::restored(own.clone(), on_disk.shares),
            limits: Limits::restored(own.clone(), on_disk.limits),
            verbs: Verbs::restored(own.clone(), on_disk.verbs),
            history: History::restored(on_disk.history),
            born: on_disk.born,
            own,
            kept,
        }
    }

    /// What to keep on disk, if it changed since it was kept last.
    #[must_use]
    pub fn to_keep(&self) -> Option<OnDisk> {
        let (shares, verbs, limits) = (self.steersman.shares(), self.verbs.on_disk(), self.limits.on_disk());
        let kept = &self.kept;
        // A thousand events are compared each beat, and copied only when something is to be written.
        let same = shares == kept.shares && verbs == kept.verbs && limits == kept.limits && self.born == kept.born;
        if same && self.history.all().eq(&kept.history) {
            return None;
        }
        Some(self.memory())
    }

    /// It is on disk now.
    pub fn kept(&mut self, on_disk: OnDisk) {
        self.kept = on_disk;
    }

    /// All of it, as it would be kept.
    #[must_use]
    pub fn memory(&self) -> OnDisk {
        OnDisk {
            shares: self.steersman.shares(),
            verbs: self.verbs.on_disk(),
            limits: self.limits.on_disk(),
            history: self.history.all().cloned().collect(),
            born: self.born.clone(),
        }
    }

    /// What is kept for the cluster by whoever speaks for it.
    #[must_use]
    pub fn deeds(&self) -> Deeds {
        Deeds { verbs: self.verbs.on_disk(), born: self.born.clone() }
    }

    /// Goes by what the replica that speaks keeps; whether anything is other than before.
    pub fn adopt(&mut self, Deeds { verbs, born }: Deeds) -> bool {
        let mut all = self.born.clone();
        all.extend(born);
        let differs = all != self.born;
        self.born = all;
        self.verbs.adopt(verbs) | differs
    }

    /// When own policies were read first, by `namespace/name`; those that are new are born now, those that are gone
    /// forgotten.
    pub fn born(&mut self, policies: impl Iterator<Item = String>, unix_ms: u64) -> &BTreeMap<String, u64> {
        let of = |name: String| {
            let born = self.born.get(&name).copied().unwrap_or(unix_ms);
            (name, born)
        };
        self.born = policies.map(of).collect();
        &self.born
    }

    /// What one of the own proxies reports of a service.
    pub fn evidence(&mut self, proxy: &str, evidence: &ServiceEvidence, now: Duration) {
        self.steersman.evidence(evidence, now);
        self.limits.wanted(proxy, evidence, now);
    }

    /// Looks at all verbs; whether what is compiled or said changes.
    pub fn look_at_verbs(&mut self, heard: &Heard<'_>, orders: &BTreeMap<ServiceName, Ordered>) -> bool {
        let Heard { at, world, bound_by, written } = *heard;
        let traffic = &traffic::Now { steersman: &self.steersman, orders, now: at.now };
        let seen = verbs::Seen { at, world, bound_by, written, traffic };
        self.verbs.look(&seen, &mut self.history)
    }

    /// Decides every service.
    pub fn steer(&mut self, seen: &Seen<'_>) -> Vec<Resource> {
        self.limits.forget(|service| seen.orders.contains_key(service));
        self.steersman.steer(seen, &self.verbs, &mut self.history);
        let tiers = |(service, ordered): (&ServiceName, &Ordered)| {
            let decided = self.steersman.tiers(service);
            Resource::Failover(model::Failover {
                service: service.clone(),
                tiers: decided.iter().map(|tier| self.limits.tier(service, tier, seen)).collect(),
                when_nothing_healthy: ordered.policy.when_nothing_healthy,
            })
        };
        seen.orders.iter().map(tiers).collect()
    }

    /// What goes with the own lease.
    pub fn lease(
        &mut self,
        now: Duration,
        orders: &BTreeMap<ServiceName, Ordered>,
        others: &BTreeSet<ClusterName>,
    ) -> Lease {
        self.limits.lease(now, orders, others)
    }

    /// Own verbs, as they are said.
    pub fn contents(&self) -> impl Iterator<Item = Content> {
        self.verbs.own().map(|verb| Content::Verb(verb.clone()))
    }

    /// The own cluster.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.own
    }
}
