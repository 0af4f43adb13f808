//! Who leads, as one candidate sees it. No clock but the own one counts: a Lease has run out when it has been the same for its
//! whole length since *this* candidate saw it first, and the own one is given up well before anybody else can think so.

use std::time::Duration;

/// A Lease is written for so long.
pub const LASTS: Duration = Duration::from_secs(15);
/// Who wrote it leads for so long after it began to write: less than [`LASTS`], which the others wait for.
pub const LEADS: Duration = Duration::from_secs(10);

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// Differs with each time it is written.
    pub version: String,
    /// For how long it was written.
    pub lasts: Duration,
    /// How often its holder changed.
    pub transitions: i32,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write it, with so many transitions; it counts once the API server has taken it.
    Write(i32),
    /// Leave it to its holder.
    Wait,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: String,
    /// What was seen last, and since when it is so.
    seen: Option<(Said, Duration)>,
    /// Until when this one leads.
    until: Option<Duration>,
}

impl Candidate {
    /// With a name that no other process ever has.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, seen: None, until: None }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Lease as it is at `now`; `None`: there is none.
    pub fn see(&mut self, said: Option<Said>, now: Duration) -> Step {
        let Some(said) = said else { return Step::Write(0) };
        if said.holder == self.name {
            return Step::Write(said.transitions);
        }
        self.until = None;
        let next = Step::Write(said.transitions.saturating_add(1));
        if said.holder.is_empty() {
            return next;
        }
        match &self.seen {
            Some((before, since)) if *before == said => {
                if now.saturating_sub(*since) >= said.lasts.max(LASTS) {
                    next
                } else {
                    Step::Wait
                }
            }
            _ => {
                self.seen = Some((said, now));
                Step::Wait
            }
        }
    }

    /// The API server took what this one began to write at `asked`.
    pub fn wrote(&mut self, asked: Duration) {
        self.until = Some(asked + LEADS);
    }

    /// This one gave it up.
    pub fn gave_up(&mut self) {
        self.until = None;
    }

    /// Until when it leads; `None`: it does not.
    #[must_use]
    pub fn leads_until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn held(holder: &str, version: &str) -> Option<Said> {
        Some(Said { holder: holder.into(), version: version.into(), lasts: LASTS, transitions: 3 })
    }

    #[test]
    fn a_lease_runs_out_when_it_has_been_the_same_for_its_whole_length() {
        let mut b = Candidate::new("b".into());
        assert_eq!(b.see(held("a", "1"), seconds(100)), Step::Wait);
        assert_eq!(b.see(held("a", "2"), seconds(110)), Step::Wait);
        assert_eq!(b.see(held("a", "2"), seconds(124)), Step::Wait, "it was renewed at 110");
        assert_eq!(b.see(held("a", "2"), seconds(125)), Step::Write(4));
        b.wrote(seconds(125));
        assert!(b.leads_until(seconds(134)).is_some() && b.leads_until(seconds(135)).is_none());
        assert_eq!(b.see(held("b", "3"), seconds(127)), Step::Write(3), "its own is renewed");
    }

    #[test]
    fn one_that_nobody_has_is_taken_at_once_and_one_that_another_took_is_given_up() {
        let mut b = Candidate::new("b".into());
        assert_eq!(b.see(None, seconds(0)), Step::Write(0));
        b.wrote(seconds(0));
        assert_eq!(b.see(held("", "1"), seconds(1)), Step::Write(4));
        b.wrote(seconds(1));
        assert_eq!(b.see(held("a", "2"), seconds(2)), Step::Wait);
        assert_eq!(b.leads_until(seconds(2)), None);
    }

    proptest! {
        /// Candidates read and write when they please, some stand still for long, and their writes arrive late: at no time
        /// does more than one of them believe that it leads.
        #[test]
        fn there_is_never_more_than_one_leader(steps in proptest::collection::vec((0usize..3, 0u64..9, 0u64..4), 1..200)) {
            let mut candidates = ["a", "b", "c"].map(|name| Candidate::new(name.into()));
            let mut lease: Option<Said> = None;
            let mut now = Duration::ZERO;
            for (index, (who, pause, delay)) in steps.into_iter().enumerate() {
                now += seconds(pause);
                let read = lease.clone();
                let asked = now;
                if let Step::Write(transitions) = candidates[who].see(read, now) {
                    now += seconds(delay);
                    // The API server takes a write only onto what its writer has read, which nobody changed here.
                    let holder = candidates[who].name().to_owned();
                    lease = Some(Said { holder, version: index.to_string(), lasts: LASTS, transitions });
                    candidates[who].wrote(asked);
                }
                let leaders = candidates.iter().filter(|one| one.leads_until(now).is_some()).count();
                prop_assert!(leaders <= 1, "{candidates:?}");
            }
        }
    }
}
