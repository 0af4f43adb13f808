//! The federation in virtual time: hundreds of seeds, each a story of its own.
//!
//! A story raises 3 to 5 clusters by the real bootstrap and the real join. Then, for some seconds of a clock that
//! nobody waits for, the clusters speak and watch while troubles befall them: links are cut in both directions or one,
//! letters are late, lost, doubled and overtaken, the power is cut in the midst of a write, disks are wiped and clusters
//! installed anew with another key, members are ejected, and one member lies, also
//! as the leader. Then all is mended, and must come together.
//!
//! What runs is production's: openraft, the log and the snapshots on redb, `State`, `Book`, `View`, watchers, the checks
//! of a join, Raft's calls, the choice of voters. What is simulated is what the world does: [`disk`], [`network`], and
//! clock and dice, which are openraft's own simulated runtime. [`member`] binds them as `federation::member` does.
//!
//! A [`witness`] is told what happens and asks the [`invariants`], one a file. [`plant`]ed bugs show that each of them
//! bites. Equal seeds tell equal stories, poll by poll.
//!
//! ```text
//! cargo test -p isthmus-federation --test simulation                       # the usual seeds
//! ISTHMUS_SEED=17 cargo test -p isthmus-federation --test simulation one   # one seed, its story printed
//! ISTHMUS_SEEDS=5000 cargo test -p isthmus-federation --test simulation    # more of them
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod control;
mod disk;
mod faults;
mod invariants;
mod keeper;
mod liar;
mod log;
mod machine;
mod member;
mod network;
mod place;
mod plant;
mod planted;
mod regressions;
mod story;
mod trickery;
mod types;
mod witness;
mod words;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::story::{Told, USUAL, tell};

/// Seeds of a usual run.
const SEEDS: u64 = 300;
/// Lines of a story that are printed when it goes wrong.
const LINES: usize = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// What went wrong, and how to see it again.
fn report(seed: u64, told: &Told) -> Option<String> {
    let violation = told.violation.as_ref()?;
    let last = told.lines.len().saturating_sub(LINES);
    Some(format!(
        "{}\nseed {seed}: {} does not hold: {}\nreplay: ISTHMUS_SEED={seed} cargo test -p isthmus-federation --test simulation one\n",
        told.lines[last..].join("\n"),
        violation.invariant,
        violation.reason,
    ))
}

/// Tells stories on all cores; those that went wrong.
fn tell_all(seeds: std::ops::Range<u64>) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut wrong = vec![];
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return wrong;
            }
            wrong.extend(report(seed, &tell(seed, USUAL, false)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn every_invariant_holds_in_every_story() {
    if let Some(seed) = number("ISTHMUS_SEED") {
        println!("only seed {seed} is told, twice, by the other test");
        return;
    }
    let count = number("ISTHMUS_SEEDS").unwrap_or(SEEDS);
    let wrong = tell_all(0..count);
    let all: Vec<_> =
        wrong.iter().filter_map(|report| report.trim_end().rsplit_once("\nreplay")?.0.rsplit('\n').next()).collect();
    let text =
        || format!("{} of {count} stories went wrong:\n{}\nthe first:\n{}", wrong.len(), all.join("\n"), wrong[0]);
    assert!(wrong.is_empty(), "{}", text());
}

#[test]
fn one_seed_tells_the_same_story_twice() {
    let seed = number("ISTHMUS_SEED").unwrap_or(1);
    let (first, second) = (tell(seed, USUAL, true), tell(seed, USUAL, true));
    if number("ISTHMUS_SEED").is_some() {
        println!("{}", first.lines.join("\n"));
    }
    let parted = first.lines.iter().zip(&second.lines).find(|(one, other)| one != other);
    assert_eq!(parted, None, "seed {seed} tells two stories");
    let parted = first.polls.iter().zip(&second.polls).find(|(one, other)| one != other);
    assert_eq!(parted, None, "seed {seed} is polled in two ways");
    assert_eq!((first.lines.len(), first.polls.len()), (second.lines.len(), second.polls.len()));
    assert!(first.violation.is_none(), "{}", report(seed, &first).unwrap_or_default());
}
