//! Verbs: the own ones, kept on disk and said to the others, and those of others that bind this cluster. Each is counted
//! from when it was heard here first; nobody's wall clock but the own one counts, and that only over restarts.

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{
    failover::{
        drill,
        verb::{self, Deed, Verb},
        window::Tally,
    },
    name::{ClusterName, ServiceName},
    statement::Content,
};
use serde::{Deserialize, Serialize};

use super::{
    Moment,
    history::{Event, History},
};
use crate::heard::World;

/// A verb is in the log when nothing is open so long after it was done, with a quorum.
const SETTLES: Duration = Duration::from_secs(1);

/// An own verb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Own {
    verb: Verb,
    /// Whether it is in the log; before that it is *local*.
    written: bool,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnDisk {
    own: BTreeMap<String, Own>,
    /// When each verb was heard first, by the own wall clock; Unix milliseconds.
    heard: BTreeMap<String, u64>,
    given_up: BTreeMap<String, String>,
}

/// A verb as it is counted here.
#[derive(Clone, Debug)]
struct Counted {
    writer: ClusterName,
    verb: Verb,
    since: Duration,
    /// How long it was in force already when this control began.
    before: Duration,
    binds: bool,
    /// Of a drill: what requests showed before it.
    tally: Tally,
}

/// A verb that is in force, or would be.
#[derive(Clone, Debug)]
pub struct InForce<'a> {
    /// Who wrote it.
    pub writer: &'a ClusterName,
    /// The verb.
    pub verb: &'a Verb,
    /// For how long it is in force.
    pub elapsed: Duration,
    /// Whether it binds this cluster.
    pub binds: bool,
    /// Of a drill: why this cluster gave it up.
    pub given_up: Option<&'a str>,
    /// Whether it is not in the log yet.
    pub local: bool,
}

/// What a look at verbs is made from.
pub struct Seen<'a> {
    /// When.
    pub at: Moment,
    /// What the others say.
    pub world: &'a World,
    /// Whose verbs bind this cluster.
    pub bound_by: &'a [ClusterName],
    /// There is a quorum, and the member has taken all that was said.
    pub written: bool,
    /// What requests showed lately, for drills that begin.
    pub before: Tally,
}

/// All verbs.
#[derive(Debug)]
pub struct Verbs {
    cluster: ClusterName,
    own: BTreeMap<String, Own>,
    heard: BTreeMap<String, u64>,
    given_up: BTreeMap<String, String>,
    counted: BTreeMap<String, Counted>,
}

impl Verbs {
    /// With what an earlier run knew.
    #[must_use]
    pub fn restored(cluster: ClusterName, OnDisk { own, heard, given_up }: OnDisk) -> Self {
        Self { cluster, own, heard, given_up, counted: BTreeMap::new() }
    }

    /// What to keep.
    #[must_use]
    pub fn on_disk(&self) -> OnDisk {
        OnDisk { own: self.own.clone(), heard: self.heard.clone(), given_up: self.given_up.clone() }
    }

    /// Goes by what another replica keeps; whether the own verbs are others than before.
    pub fn adopt(&mut self, OnDisk { own, heard, given_up }: OnDisk) -> bool {
        self.heard.retain(|key, _| self.counted.contains_key(key));
        self.heard.extend(heard);
        self.given_up.retain(|key, _| self.counted.contains_key(key));
        self.given_up.extend(given_up);
        let differs = self.own != own;
        self.own = own;
        differs
    }

    /// The own ones.
    pub fn own(&self) -> impl Iterator<Item = &Verb> {
        self.own.values().map(|own| &own.verb)
    }

    /// An operator does something; the same deed again replaces the last.
    pub fn add(&mut self, verb: Verb) {
        self.own.insert(verb.name.clone(), Own { verb, written: false });
    }

    /// An operator takes a verb back; `false`: there is none of this name here.
    pub fn take_back(&mut self, name: &str) -> bool {
        self.own.remove(name).is_some()
    }

    /// Who wrote the verb of this name, if another cluster did.
    #[must_use]
    pub fn writer_of(&self, name: &str) -> Option<&ClusterName> {
        self.counted.values().find(|one| one.verb.name == name).map(|one| &one.writer)
    }

    /// Counts all verbs; whether any began, ended or expired.
    pub fn look(&mut self, seen: &Seen<'_>, history: &mut History) -> bool {
        let all = self.all(seen.world);
        let gone: Vec<_> = self.counted.keys().filter(|key| !all.contains_key(*key)).cloned().collect();
        let mut changed = !gone.is_empty();
        for key in gone {
            if let Some(one) = self.counted.remove(&key) {
                history.add(event(seen.at.unix_ms, &one, "ended", "it was taken back, or its time was over"));
            }
            self.heard.remove(&key);
            self.given_up.remove(&key);
        }
        for (key, (writer, verb)) in all {
            let binds = verb::binds(&verb.deed, &writer, seen.bound_by);
            match self.counted.get_mut(&key) {
                Some(one) => changed |= std::mem::replace(&mut one.binds, binds) != binds,
                None => {
                    changed = true;
                    self.begin(key, writer, verb, binds, seen, history);
                }
            }
        }
        changed | self.expire(seen)
    }

    fn begin(
        &mut self,
        key: String,
        writer: ClusterName,
        verb: Verb,
        binds: bool,
        seen: &Seen<'_>,
        history: &mut History,
    ) {
        let unix_ms = seen.at.unix_ms;
        let is_known = self.heard.contains_key(&key);
        let first = *self.heard.entry(key.clone()).or_insert(unix_ms);
        let before = Duration::from_millis(unix_ms.saturating_sub(first));
        let one = Counted { writer, verb, since: seen.at.now, before, binds, tally: seen.before };
        if !is_known {
            history.add(event(unix_ms, &one, "began", &one.verb.reason));
        }
        self.counted.insert(key, one);
    }

    /// Own verbs whose time is over are taken back; who cannot hear that ends them by the own count.
    fn expire(&mut self, seen: &Seen<'_>) -> bool {
        let mut expired = vec![];
        for one in self.counted.values().filter(|one| one.writer == self.cluster) {
            let elapsed = one.elapsed(seen.at.now);
            if elapsed >= one.verb.lasts {
                expired.push(one.verb.name.clone());
            } else if let Some(own) = self.own.get_mut(&one.verb.name)
                && elapsed >= SETTLES
            {
                own.written |= seen.written;
            }
        }
        expired.iter().fold(false, |any, name| self.take_back(name) | any)
    }

    /// Drills stop by themselves when requests fail more than before.
    pub fn judge_drills(&mut self, unix_ms: u64, now: &Tally, history: &mut History) {
        for (key, one) in &self.counted {
            let runs = matches!(one.verb.deed, Deed::Drill { .. }) && one.binds && !self.given_up.contains_key(key);
            if let Some(why) = drill::stops(&one.tally, now).filter(|_| runs) {
                history.add(event(unix_ms, one, "given up", &why));
                self.given_up.insert(key.clone(), why);
            }
        }
    }

    /// All, in force or not.
    pub fn list(&self, now: Duration) -> impl Iterator<Item = InForce<'_>> {
        self.counted.iter().map(move |(key, one)| InForce {
            writer: &one.writer,
            verb: &one.verb,
            elapsed: one.elapsed(now),
            binds: one.binds,
            given_up: self.given_up.get(key).map(String::as_str),
            local: one.writer == self.cluster && self.own.get(&one.verb.name).is_some_and(|own| !own.written),
        })
    }

    fn in_force(&self, now: Duration) -> impl Iterator<Item = InForce<'_>> {
        self.list(now).filter(|one| one.binds && one.given_up.is_none() && one.elapsed < one.verb.lasts)
    }

    /// What verbs leave of a cluster's share for a service, and which leaves least.
    #[must_use]
    pub fn leave(&self, now: Duration, service: &ServiceName, cluster: &ClusterName) -> (f64, String) {
        let mut least = (1.0, String::new());
        let about = |one: &InForce<'_>| one.verb.deed.is_about(service) && one.verb.deed.cluster() == cluster;
        for one in self.in_force(now).filter(about) {
            let leaves = one.verb.deed.leaves(one.elapsed);
            if leaves < least.0 {
                let because = if one.verb.reason.is_empty() { String::new() } else { format!(": {}", one.verb.reason) };
                least = (leaves, format!("{}, by {}{because}", one.verb.deed, one.verb.by));
            }
        }
        least
    }

    /// Clusters that services are pinned to.
    #[must_use]
    pub fn pins(&self, now: Duration) -> BTreeMap<ServiceName, Vec<ClusterName>> {
        let mut pins = BTreeMap::<_, Vec<_>>::new();
        for one in self.in_force(now) {
            if let Deed::Pin { service, cluster } = &one.verb.deed {
                pins.entry(service.clone()).or_default().push(cluster.clone());
            }
        }
        pins
    }

    fn all(&self, world: &World) -> BTreeMap<String, (ClusterName, Verb)> {
        let own = self.own.values().map(|own| (self.cluster.clone(), own.verb.clone()));
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

fn event(at_ms: u64, one: &Counted, what: &str, why: &str) -> Event {
    Event {
        at_ms,
        kind: "verb".into(),
        of: one.verb.deed.to_string(),
        what: what.into(),
        why: why.into(),
        by: format!("{} at {}", one.verb.by, one.writer),
    }
}

impl Counted {
    fn elapsed(&self, now: Duration) -> Duration {
        self.before + now.saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests;
