//! The rows: a name, a ground, a story; and how they are run and told.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, time::Duration};

use futures_util::FutureExt;

use crate::{clock, death, federation, health, network, stage::Stage, verbs};

/// Where a row is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// Processes on loopback.
    Processes,
    /// Clusters in network namespaces, the emulated network between them.
    Network,
}

/// What a row came to. Figures of requests are of the safe ones.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Requests sent.
    pub requests: usize,
    /// Requests that failed.
    pub failed: usize,
    /// The slowest of them.
    pub slowest: Duration,
    /// The slowest of the control, which nothing happened to.
    pub control: Duration,
    /// For how long requests failed or were slow, in all.
    pub disturbed: Duration,
    /// From the event until the last request was sent there, as far as sidecars told.
    pub left: Option<Duration>,
    /// From the event until it was decided that none is sent there.
    pub decided: Option<Duration>,
    /// From the end of the event until the first request that was answered from there again.
    pub back: Option<Duration>,
    /// What else there is to tell.
    pub note: String,
}

type Played<'a> = Pin<Box<dyn Future<Output = Figures> + Send + 'a>>;

/// A row.
#[derive(Clone, Copy)]
pub struct Row {
    /// What happens.
    pub name: &'static str,
    /// Where.
    pub ground: Ground,
    /// Whether it is fast enough for every test run.
    pub fast: bool,
    play: for<'a> fn(&'a Stage) -> Played<'a>,
}

macro_rules! row {
    ($ground:ident, $fast:literal, $name:literal, $play:path) => {
        Row { name: $name, ground: Ground::$ground, fast: $fast, play: |stage| Box::pin($play(stage)) }
    };
}

/// All of them.
pub fn rows() -> Vec<Row> {
    vec![
        row!(Processes, true, "every process of a cluster dies", death::every_process),
        row!(
            Processes,
            true,
            "the applications of one's own cluster die, their sidecars live",
            death::own_applications
        ),
        row!(Processes, true, "a survivor dies while it carries another's load", death::a_survivor),
        row!(Processes, false, "a cluster comes back empty-handed", death::comes_back_empty_handed),
        row!(Processes, false, "a cluster comes back with its clock an hour off", clock::is_wrong),
        row!(
            Processes,
            false,
            "the machine stalls for a second, three clusters look dead at once",
            death::the_machine_stalls
        ),
        row!(Processes, false, "a reinstalled cluster takes its old name", death::is_reinstalled),
        row!(Processes, true, "its control and federation member die, its workloads live", federation::blind),
        row!(Processes, false, "the same for a minute", federation::blind_for_a_minute),
        row!(Processes, true, "only its federation member dies", federation::member_down),
        row!(Processes, true, "the federation loses its quorum", federation::no_quorum),
        row!(Processes, false, "all its members die", federation::no_members),
        row!(Processes, true, "two thirds of a cluster's endpoints become unready", health::unready_in_part),
        row!(Processes, true, "a cluster answers with errors", health::errors),
        row!(Processes, false, "a cluster answers ten times slower", health::slow),
        row!(Processes, false, "a cluster is drained, and dies in the middle of it", verbs::drained_and_dies),
        row!(Network, true, "it falls silent: packets lost both ways", network::silent),
        row!(Network, false, "the network between two clusters is cut, both still see the third", network::cut_between),
        row!(Network, false, "one direction only is cut", network::cut_one_way),
        row!(Network, false, "a link flaps every 3 s", network::flaps),
    ]
}

/// Plays rows, ground by ground, each on a mesh that the last one left in order; all are told, then what failed fails.
pub async fn run(rows: impl Iterator<Item = Row>) {
    let words = std::env::var("ISTHMUS_ROWS").unwrap_or_default();
    let words: Vec<_> = words.split(',').filter(|word| !word.is_empty()).collect();
    let is_picked = |row: &Row| words.is_empty() || words.iter().any(|word| row.name.contains(word));
    let mut rows: Vec<_> = rows.filter(is_picked).collect();
    assert!(!rows.is_empty(), "no row that is played here has any of {words:?} in its name");
    rows.sort_by_key(|row| row.ground);
    let mut failed = vec![];
    for ground in [Ground::Processes, Ground::Network] {
        let of_ground: Vec<_> = rows.iter().filter(|row| row.ground == ground).collect();
        if of_ground.is_empty() {
            continue;
        }
        let stage = Stage::raise(ground).await;
        for row in of_ground {
            println!("-- {}", row.name);
            // One row that fails hides none of the others.
            let played = AssertUnwindSafe(async {
                stage.in_order().await;
                (row.play)(&stage).await
            });
            match played.catch_unwind().await {
                Ok(figures) => tell(row, &figures),
                Err(_) => {
                    println!("-- {} FAILED", row.name);
                    failed.push(row.name);
                    stage.remember(true);
                    stage.revive();
                }
            }
        }
        stage.end().await;
    }
    assert!(failed.is_empty(), "rows that do not hold: {failed:?}");
}

/// One line that people and `scenarios/rehearse` read.
fn tell(row: &Row, figures: &Figures) {
    let millis = |time: Option<Duration>| time.map_or_else(|| "-".into(), |time| time.as_millis().to_string());
    println!(
        "ROW|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
        row.name,
        figures.requests,
        figures.failed,
        figures.slowest.as_millis(),
        figures.control.as_millis(),
        figures.disturbed.as_millis(),
        millis(figures.left),
        millis(figures.decided),
        millis(figures.back),
        figures.note,
    );
}
