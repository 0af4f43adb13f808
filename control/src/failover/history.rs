//! What happened, for people: standings that moved, verbs that began and ended, services that moved. The last thousand of
//! what operators did, and the last thousand of all else: a link that flaps pushes nobody's drain out.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Events that are remembered, of each sort.
const MOST: usize = 1000;
/// The kind of what operators did.
pub const VERB: &str = "verb";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// cluster, service, verb.
    pub kind: String,
    /// What it is about: a cluster, a service, a verb.
    pub of: String,
    /// What happened: `alive → dead`.
    pub what: String,
    /// Why.
    pub why: String,
    /// Who did it; empty: nobody.
    #[serde(default)]
    pub by: String,
}

/// Events of one sort with their numbers, oldest first.
type Ring = VecDeque<(u64, Event)>;

/// The last events, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    verbs: Ring,
    rest: Ring,
    next: u64,
}

impl History {
    /// With what an earlier run remembered.
    #[must_use]
    pub fn restored(events: Vec<Event>) -> Self {
        let mut history = Self::default();
        events.into_iter().for_each(|event| history.add(event));
        history
    }

    /// Remembers one.
    pub fn add(&mut self, event: Event) {
        let ring = if event.kind == VERB { &mut self.verbs } else { &mut self.rest };
        ring.push_back((self.next, event));
        self.next += 1;
        while ring.len() > MOST {
            ring.pop_front();
        }
    }

    /// All, in the order that they came in.
    pub fn all(&self) -> impl Iterator<Item = &Event> {
        let (mut verbs, mut rest) = (self.verbs.iter().peekable(), self.rest.iter().peekable());
        std::iter::from_fn(move || {
            let verb_is_next = match (verbs.peek(), rest.peek()) {
                (Some((verb, _)), Some((other, _))) => verb < other,
                (verb, _) => verb.is_some(),
            };
            let next = if verb_is_next { verbs.next() } else { rest.next() };
            next.map(|(_, event)| event)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, at_ms: u64) -> Event {
        let (of, what, why, by) = Default::default();
        Event { at_ms, kind: kind.into(), of, what, why, by }
    }

    #[test]
    fn a_link_that_flaps_pushes_no_verb_out_and_all_are_told_in_their_order() {
        let mut history = History::default();
        history.add(event("cluster", 0));
        history.add(event(VERB, 1));
        (2..2000).for_each(|at| history.add(event("cluster", at)));
        history.add(event(VERB, 2000));
        let told: Vec<_> = history.all().map(|event| event.at_ms).collect();
        assert_eq!((told.len(), told[0], told[1], told[1001]), (1002, 1, 1000, 2000));
        let again = History::restored(history.all().cloned().collect());
        assert!(again.all().eq(history.all()), "a restart forgets nothing");
    }
}
