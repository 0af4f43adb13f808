//! What is told of, counted: an Event of which nobody was told yet is due soon, one that goes on now and then, and never more at
//! a time than an API server is glad to take. All of it is bounded, whoever tells how much.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;

use super::Event;

/// So many different ones are remembered.
pub const MOST: usize = 256;
/// A burst is one Event: it is written so long after its first.
const SOON: Duration = Duration::from_secs(1);
/// The count of one that goes on is written so often.
const AGAIN: Duration = Duration::from_secs(30);
/// One that befell no more for so long is forgotten; afterwards it is another one.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// So many may be written at once, and then one in so long: what Kubernetes' own recorder lets one source write of one object,
/// twelve times a minute.
const AT_ONCE: u32 = 25;
const REFILL: Duration = Duration::from_secs(5);

/// What is to be written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// What befell.
    pub event: Event,
    /// How often.
    pub count: u32,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
    /// Nothing was written of it yet.
    pub is_new: bool,
}

/// All that is remembered. Times are since any fixed moment.
#[derive(Debug)]
pub struct Tally {
    lines: BTreeMap<Event, Line>,
    /// How many may be written now, and since when that grows.
    left: u32,
    filled: Duration,
}

#[derive(Debug)]
struct Line {
    count: u32,
    first: Timestamp,
    last: Timestamp,
    heard: Duration,
    /// The count that was written; 0: none.
    written: u32,
    due: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), left: AT_ONCE, filled: Duration::ZERO }
    }
}

impl Tally {
    /// It befell, once more or for the first time. Where there is no room the one that is silent for longest is forgotten, of
    /// those that were written; where none was, this one is lost.
    pub fn take(&mut self, event: Event, at: Duration, now: Timestamp) {
        self.lines.retain(|_, line| line.heard + FORGOTTEN > at);
        if let Some(line) = self.lines.get_mut(&event) {
            line.count = line.count.saturating_add(1);
            (line.last, line.heard) = (now, at);
            return;
        }
        if self.lines.len() >= MOST {
            let written = self.lines.iter().filter(|(_, line)| line.written > 0);
            let Some(silent) = written.min_by_key(|(_, line)| line.heard).map(|(event, _)| event.clone()) else {
                return;
            };
            self.lines.remove(&silent);
        }
        let line = Line { count: 1, first: now, last: now, heard: at, written: 0, due: at + SOON };
        self.lines.insert(event, line);
    }

    /// When something is due; `None`: nothing is.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let next = self.lines.values().filter(|line| line.written < line.count).map(|line| line.due).min()?;
        Some(if self.left > 0 { next } else { next.max(self.filled + REFILL) })
    }

    /// What is to be written now, the new ones first. It counts as written, unless it is [`Self::lost`].
    pub fn due(&mut self, at: Duration) -> Vec<Due> {
        self.refill(at);
        let mut due: Vec<_> =
            self.lines.iter_mut().filter(|(_, line)| line.written < line.count && line.due <= at).collect();
        due.sort_by_key(|(_, line)| (line.written > 0, line.due));
        due.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left = self.left.saturating_sub(u32::try_from(due.len()).unwrap_or(u32::MAX));
        let written = |(event, line): (&Event, &mut Line)| {
            let (count, first, last, is_new) = (line.count, line.first, line.last, line.written == 0);
            (line.written, line.due) = (count, at + AGAIN);
            Due { event: event.clone(), count, first, last, is_new }
        };
        due.into_iter().map(written).collect()
    }

    /// It was not written; should it befall again, it is new.
    pub fn lost(&mut self, event: &Event) {
        self.lines.remove(event);
    }

    fn refill(&mut self, at: Duration) {
        let more = at.saturating_sub(self.filled).as_secs() / REFILL.as_secs();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.filled = self.filled.saturating_add(REFILL.saturating_mul(more));
        self.left = self.left.saturating_add(more).min(AT_ONCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::About;

    fn event(name: &str) -> Event {
        let about = About {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            namespace: "shop".into(),
            name: name.into(),
            uid: String::new(),
        };
        Event { about, reason: "SidecarNotInjected", action: "Inject", note: "no".into() }
    }

    fn now(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_hundred_at_once_are_one_with_a_count_and_what_goes_on_is_written_now_and_then() {
        let mut tally = Tally::default();
        for _ in 0..100 {
            tally.take(event("a"), seconds(10), now(10));
        }
        assert!(tally.due(seconds(10)).is_empty(), "a burst may go on");
        let at = tally.next().unwrap();
        let [first] = tally.due(at).try_into().unwrap();
        assert_eq!((first.count, first.is_new), (100, true));
        assert_eq!(tally.next(), None, "nothing happens");
        tally.take(event("a"), at + seconds(1), now(12));
        assert!(tally.due(at + seconds(2)).is_empty());
        let [more] = tally.due(at + AGAIN).try_into().unwrap();
        assert_eq!((more.count, more.is_new, more.first, more.last), (101, false, now(10), now(12)));
    }

    #[test]
    fn many_different_ones_cost_bounded_memory_and_few_writes() {
        let mut tally = Tally::default();
        for number in 0..10_000 {
            tally.take(event(&format!("a-{number}")), seconds(1), now(1));
        }
        assert_eq!(tally.lines.len(), MOST);
        let first = tally.due(seconds(2)).len();
        assert_eq!((first, tally.due(seconds(2)).len()), (25, 0));
        assert_eq!(tally.next(), Some(seconds(5)));
        let minute: usize = (3..=62).map(|second| tally.due(seconds(second)).len()).sum();
        assert_eq!(minute, 12);
        tally.take(event("b"), seconds(62), now(62));
        assert!(tally.lines.contains_key(&event("b")) && tally.lines.len() == MOST, "a written one has left its place");
    }

    #[test]
    fn what_was_lost_or_long_ago_is_new_when_it_befalls_again() {
        let mut tally = Tally::default();
        for (at, lost) in [(0, true), (10, false), (11 + FORGOTTEN.as_secs(), false)] {
            tally.take(event("a"), seconds(at), now(1));
            let [due] = tally.due(seconds(at + 1)).try_into().unwrap();
            assert_eq!((due.count, due.is_new), (1, true), "at {at}");
            if lost {
                tally.lost(&due.event);
            }
        }
    }
}
