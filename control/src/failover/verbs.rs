//! Verbs: the own ones, kept on disk and said to the others, and those of others that bind this cluster. Each is counted
//! from when it was heard here first, or by its writer's own count where that is ahead; nobody's wall clock but the own one
//! counts, and that only over restarts.
//!
//! A verb that ended is said as ended for an hour: so the others' histories tell who took it back and why. Whose writer is
//! silent ends by the own count.

mod drills;
mod in_force;
mod own;
mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_core::{
    failover::verb::{self, Deed, Verb},
    name::ClusterName,
    statement::Content,
};
use serde::{Deserialize, Serialize};

pub use self::{
    drills::{Baseline, Baselines, Traffic},
    in_force::InForce,
};
use self::{
    own::Own,
    telling::{Tale, tell},
};
use super::{Moment, history::History};
use crate::heard::World;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnDisk {
    own: BTreeMap<String, Own>,
    /// When each verb was heard first, by the own wall clock; Unix milliseconds.
    heard: BTreeMap<String, u64>,
    given_up: BTreeMap<String, String>,
    /// Those of others that are over by the own count.
    over: BTreeSet<String>,
    /// Of drills: how it was before them.
    before: BTreeMap<String, Baselines>,
}

/// A verb as it is counted here.
#[derive(Clone, Debug)]
struct Counted {
    writer: ClusterName,
    verb: Verb,
    since: Duration,
    /// How long it was in force already then.
    before: Duration,
    binds: bool,
}

/// What a look at verbs is made from.
pub struct Seen<'a> {
    /// When.
    pub at: Moment,
    /// What the others say.
    pub world: &'a World,
    /// Whose verbs bind this cluster.
    pub bound_by: &'a [ClusterName],
    /// Own verbs that are in the federation's log, as they are there.
    pub written: &'a [Verb],
    /// How requests go, for drills.
    pub traffic: &'a dyn Traffic,
}

/// All verbs.
#[derive(Debug)]
pub struct Verbs {
    cluster: ClusterName,
    kept: OnDisk,
    counted: BTreeMap<String, Counted>,
    /// Own ones that ended: since when that is said.
    ended: BTreeMap<String, Duration>,
}

impl Verbs {
    /// With what an earlier run knew.
    #[must_use]
    pub fn restored(cluster: ClusterName, kept: OnDisk) -> Self {
        let (counted, ended) = Default::default();
        Self { cluster, kept, counted, ended }
    }

    /// What to keep.
    #[must_use]
    pub fn on_disk(&self) -> OnDisk {
        self.kept.clone()
    }

    /// Goes by what another replica keeps; whether the own verbs are others than before.
    pub fn adopt(&mut self, OnDisk { own, heard, given_up, over, before }: OnDisk) -> bool {
        let (counted, kept) = (&self.counted, &mut self.kept);
        kept.heard.retain(|key, _| counted.contains_key(key));
        kept.heard.extend(heard);
        kept.given_up.retain(|key, _| counted.contains_key(key));
        kept.given_up.extend(given_up);
        kept.over.extend(over);
        kept.before.extend(before);
        let differs = kept.own != own;
        kept.own = own;
        differs
    }

    /// Who wrote the verb of this name, if another cluster did.
    #[must_use]
    pub fn writer_of(&self, name: &str) -> Option<&ClusterName> {
        let named = |(key, one): &(&String, &Counted)| one.verb.name == name && !self.kept.over.contains(*key);
        self.counted.iter().find(named).map(|(_, one)| &one.writer)
    }

    /// Counts all verbs; whether any began, ended or expired, or is to be said otherwise.
    pub fn look(&mut self, seen: &Seen<'_>, history: &mut History) -> bool {
        let all = self.all(seen.world);
        let mut changed = self.part_with(&all, seen, history);
        for (key, (writer, verb)) in all {
            if verb.ended.is_some() {
                changed |= self.end(&key, writer, verb, seen, history);
                continue;
            }
            let binds = verb::binds(&verb.deed, &writer, seen.bound_by);
            match self.counted.get_mut(&key) {
                Some(one) => {
                    changed |= std::mem::replace(&mut one.binds, binds) != binds;
                    one.hear(verb, seen.at.now);
                }
                None => {
                    changed = true;
                    self.begin(
                        key,
                        Counted { writer, verb, since: seen.at.now, before: Duration::ZERO, binds },
                        seen,
                        history,
                    );
                }
            }
        }
        self.settle(seen.written);
        changed | self.expire(seen, history) | self.judge_drills(seen, history)
    }

    /// Those that nobody says any more.
    fn part_with(
        &mut self,
        all: &BTreeMap<String, (ClusterName, Verb)>,
        seen: &Seen<'_>,
        history: &mut History,
    ) -> bool {
        let gone: Vec<_> = self.counted.keys().filter(|key| !all.contains_key(*key)).cloned().collect();
        for key in &gone {
            let Some(one) = self.counted.remove(key) else { continue };
            let again = |(writer, verb): &(ClusterName, Verb)| *writer == one.writer && verb.name == one.verb.name;
            let is_member = one.writer == self.cluster || seen.world.members.contains_key(&one.writer);
            let tale = match (all.values().any(again), is_member) {
                (true, _) => Tale::Replaced,
                (false, true) => Tale::Unsaid,
                (false, false) => Tale::Left,
            };
            if !self.kept.over.contains(key) {
                history.add(tell(&one, &tale, seen.at.unix_ms));
            }
            self.forget(key);
        }
        if !seen.world.members.is_empty() {
            let stale: Vec<_> = self.kept.heard.keys().filter(|key| !all.contains_key(*key)).cloned().collect();
            stale.iter().for_each(|key| self.forget(key));
        }
        !gone.is_empty()
    }

    /// One that its writer says is over.
    fn end(&mut self, key: &str, writer: ClusterName, verb: Verb, seen: &Seen<'_>, history: &mut History) -> bool {
        let counted = self.counted.remove(key);
        let was_known = counted.is_some() || self.kept.heard.contains_key(key);
        if was_known && !self.kept.over.contains(key) {
            let (since, before) = Default::default();
            let binds = counted.is_some_and(|one| one.binds);
            let one = Counted { writer, verb, since, before, binds };
            history.add(tell(&one, &Tale::Ended, seen.at.unix_ms));
        }
        self.forget(key);
        was_known
    }

    fn begin(&mut self, key: String, mut one: Counted, seen: &Seen<'_>, history: &mut History) {
        let unix_ms = seen.at.unix_ms;
        let is_known = self.kept.heard.contains_key(&key);
        let first = *self.kept.heard.entry(key.clone()).or_insert(unix_ms);
        one.before = Duration::from_millis(unix_ms.saturating_sub(first)).max(one.verb.elapsed);
        if !is_known {
            history.add(tell(&one, &Tale::Began { here: &self.cluster }, unix_ms));
            if matches!(one.verb.deed, Deed::Drill { .. }) {
                self.kept.before.insert(key.clone(), seen.traffic.before());
            }
        }
        self.counted.insert(key, one);
    }

    fn forget(&mut self, key: &str) {
        let OnDisk { heard, given_up, over, before, .. } = &mut self.kept;
        heard.remove(key);
        given_up.remove(key);
        over.remove(key);
        before.remove(key);
    }

    /// The own ones whose time is over end for everybody; who cannot hear of an end ends the others' by the own count.
    fn expire(&mut self, seen: &Seen<'_>, history: &mut History) -> bool {
        let now = seen.at.now;
        let is_over = |one: &Counted| one.elapsed(now) >= one.verb.lasts;
        let mut changed = false;
        for (key, one) in self.counted.iter().filter(|(_, one)| one.writer != self.cluster && is_over(one)) {
            if self.kept.over.insert(key.clone()) {
                history.add(tell(one, &Tale::Over, seen.at.unix_ms));
                changed = true;
            }
        }
        changed | self.tend_own(now)
    }

    fn all(&self, world: &World) -> BTreeMap<String, (ClusterName, Verb)> {
        let own = self.own().map(|verb| (self.cluster.clone(), verb.clone()));
        let others = world.contents.iter().flat_map(|(writer, said)| {
            said.values().filter_map(|content| match content.as_ref() {
                Content::Verb(verb) => Some((writer.clone(), verb.clone())),
                _ => None,
            })
        });
        own.chain(others).map(|(writer, verb)| (key(&writer, &verb), (writer, verb))).collect()
    }
}

/// A verb done again is another one: it is counted anew.
fn key(writer: &ClusterName, verb: &Verb) -> String {
    format!("{writer}/{}@{}", verb.name, verb.at_ms)
}

impl Counted {
    fn elapsed(&self, now: Duration) -> Duration {
        self.before + now.saturating_sub(self.since)
    }

    /// As its writer says it now; where its count is ahead, that counts.
    fn hear(&mut self, verb: Verb, now: Duration) {
        self.before += verb.elapsed.saturating_sub(self.elapsed(now));
        self.verb = verb;
    }
}

#[cfg(test)]
mod tests;
