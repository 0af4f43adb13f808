//! The own verbs: done, taken back, over; each is said until everybody had time to hear how it ended.

use std::time::Duration;

use isthmus_core::failover::verb::{Ended, Verb};
use serde::{Deserialize, Serialize};

use super::{OnDisk, Verbs};

/// That a verb ended is said for so long; who hears nothing for longer is told that it ended, and not by whom.
const TOLD: Duration = Duration::from_secs(3600);
/// No more ends than that are said at a time.
const MOST_TOLD: usize = 64;
/// How often in its time a verb is said again with its writer's count.
const SAID_AGAIN: u32 = 8;
/// And not more often than that: each time is an entry of the log.
const SAID_AT_MOST: Duration = Duration::from_secs(10);

/// An own verb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Own {
    verb: Verb,
    /// Whether it, or its end, is in the log; before that it is *local*.
    written: bool,
}

impl Verbs {
    /// The own ones as they are said, those that ended a while ago among them.
    pub fn own(&self) -> impl Iterator<Item = &Verb> {
        self.kept.own.values().map(|own| &own.verb)
    }

    /// An own one of this name, whether it is over or not.
    #[must_use]
    pub fn own_named(&self, name: &str) -> Option<&Verb> {
        self.kept.own.get(name).map(|own| &own.verb)
    }

    /// Whether the own verb of this name, or its end, is in the log.
    #[must_use]
    pub fn is_written(&self, name: &str) -> bool {
        self.kept.own.get(name).is_none_or(|own| own.written)
    }

    /// An operator does something; the same deed again replaces the last.
    pub fn add(&mut self, verb: Verb) {
        self.ended.remove(&verb.name);
        self.kept.own.insert(verb.name.clone(), Own { verb, written: false });
    }

    /// Those that were done before a memory came that knows nothing of them; what was done last of a name counts.
    pub fn go_on_with(&mut self, OnDisk { own, .. }: OnDisk) {
        self.kept.own.extend(own);
    }

    /// An operator takes a verb back; `false`: none of this name is in force that was done here.
    pub fn take_back(&mut self, name: &str, ended: Ended) -> bool {
        let own = self.kept.own.get_mut(name).filter(|own| own.verb.ended.is_none());
        let Some(own) = own else { return false };
        (own.verb.ended, own.written) = (Some(ended), false);
        true
    }

    /// What is in the log now.
    pub fn settle(&mut self, written: &[Verb]) {
        for own in self.kept.own.values_mut().filter(|own| !own.written) {
            own.written = written.contains(&own.verb);
        }
    }

    /// Ends what is over, says again now and then how long the others are in force, and forgets ends that were told.
    pub(super) fn tend_own(&mut self, now: Duration) -> bool {
        let mut changed = false;
        for one in self.counted.values().filter(|one| one.writer == self.cluster) {
            let Some(own) = self.kept.own.get_mut(&one.verb.name).filter(|own| own.verb.ended.is_none()) else {
                continue;
            };
            let elapsed = one.elapsed(now);
            let step = (own.verb.lasts / SAID_AGAIN).max(SAID_AT_MOST);
            if elapsed >= own.verb.lasts {
                (own.verb.ended, own.written, changed) = (Some(Ended::default()), false, true);
            } else if elapsed >= own.verb.elapsed + step {
                (own.verb.elapsed, changed) = (Duration::from_secs(elapsed.as_secs()), true);
            }
        }
        changed | self.forget_ends(now)
    }

    fn forget_ends(&mut self, now: Duration) -> bool {
        let before = self.kept.own.len();
        let is_ended = |own: &Own| own.verb.ended.is_some();
        for (name, _) in self.kept.own.iter().filter(|(_, own)| is_ended(own)) {
            self.ended.entry(name.clone()).or_insert(now);
        }
        let mut ends: Vec<_> = self.ended.iter().map(|(name, since)| (*since, name.clone())).collect();
        ends.sort();
        let too_many = ends.len().saturating_sub(MOST_TOLD);
        for (at, (since, name)) in ends.into_iter().enumerate() {
            if at < too_many || now.saturating_sub(since) >= TOLD {
                self.ended.remove(&name);
                self.kept.own.remove(&name);
            }
        }
        self.kept.own.len() != before
    }
}
