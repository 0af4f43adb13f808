//! `isthmus failover drill`: a drain at once that is watched: each second what moved and what failed, stopped at the
//! first cluster that gives it up or has nowhere to go, or at Ctrl-C, and a report. If this command dies, the verb ends by itself.

mod rates;
mod report;
mod watch;
mod words;

use std::time::Duration;

use anyhow::{Result, bail};
use isthmus_control::{
    failover::rows::{FailoverRow, VerbRow},
    handle::{Done, Wish},
};
use isthmus_core::{failover::verb::Deed, name::ClusterName};
use tokio::time::Instant;

use self::{report::End, watch::Watch};
use super::{
    clock::from_now,
    controls::{Answers, Control, Controls},
    verbs,
};
use crate::{
    args::{Form, Look},
    out,
    reach::Reach,
    up::Stop,
};

/// Between two looks until everything moved: the report says how long that took.
const OFTEN: Duration = Duration::from_millis(200);
/// Between two looks after that, and between two lines of progress.
const SECOND: Duration = Duration::from_secs(1);

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The cluster to drain.
    pub cluster: ClusterName,
    /// For how long.
    pub lasts: Duration,
    /// Why.
    pub reason: String,
}

/// # Errors
/// When it was not begun, or was given up.
pub async fn run(reach: &Reach, asked: Asked, look: &Look) -> Result<()> {
    // Heard from the start: between the verb and its watch nobody may leave without taking it back.
    let mut stop = Stop::listen()?;
    let doers = Controls::of(reach, &look.place).await?;
    // All are watched: --at says only where it is done.
    let watched = Controls::all(reach, &look.place).await?;
    let mut watch = Watch::before(&asked.cluster, &rows(&watched).await?.said);
    let deed = Deed::Drill { cluster: asked.cluster.clone() };
    let wish = Wish { deed, lasts: Some(asked.lasts), by: verbs::who(), reason: asked.reason.clone() };
    let (at, done) = verbs::first(&doers, &wish).await?;
    let for_people = look.output.output == Form::Table;
    if for_people {
        out::raw(&words::begun(&wish, &at.name, &done, &from_now(asked.lasts)));
    }
    let drill = Drill { watched: &watched, at, done: &done, begun: Instant::now(), lasts: asked.lasts, for_people };
    let end = drill.watch(&mut watch, &mut stop).await;
    let ended = verbs::end(at, &done.name, &end.reason()).await;
    let report = watch.report(&at.name, drill.begun.elapsed(), end);
    match for_people {
        true => out::raw(&words::report(&report)),
        false => out::line(serde_json::to_string_pretty(&report)?),
    }
    ended?;
    match (report.given_up(), report.rose()) {
        (Some(why), _) => bail!("the drill of {} was stopped after {} s {why}", report.cluster, report.seconds),
        (None, Some(why)) => bail!("in the drill of {} more requests failed than before: {why}", report.cluster),
        (None, None) => Ok(()),
    }
}

async fn rows(controls: &Controls) -> Result<Answers<Vec<FailoverRow>>> {
    controls.ask("/api/failover").await
}

/// A drill that runs.
struct Drill<'a> {
    watched: &'a Controls,
    at: &'a Control,
    done: &'a Done,
    begun: Instant,
    lasts: Duration,
    for_people: bool,
}

impl Drill<'_> {
    async fn watch(&self, watch: &mut Watch, stop: &mut Stop) -> End {
        let mut tell = SECOND;
        loop {
            let pause = if watch.has_moved() || self.begun.elapsed() > 10 * SECOND { SECOND } else { OFTEN };
            let rest = self.lasts.saturating_sub(self.begun.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause.min(rest)) => {}
                () = stop.asked() => return End::Stopped,
            }
            if let Some(end) = self.look(watch).await {
                return end;
            }
            let elapsed = self.begun.elapsed();
            if self.for_people && elapsed >= tell {
                out::raw(&words::progress(elapsed, watch));
                tell = elapsed + SECOND - OFTEN / 2;
            }
            if elapsed >= self.lasts {
                return End::Over;
            }
        }
    }

    /// Looks once; why it ends, if it does.
    async fn look(&self, watch: &mut Watch) -> Option<End> {
        let verbs = self.watched.ask::<Vec<VerbRow>>("/api/verbs");
        let (rows, verbs) = tokio::join!(rows(self.watched), verbs);
        if let Ok(rows) = rows {
            watch.look(self.begun.elapsed(), &rows.said, rows.silent);
        }
        if let Some((importer, service)) = watch.stranded() {
            return Some(End::GivenUp { cluster: importer.into(), why: format!("{service} has nowhere to go") });
        }
        let verbs = verbs.ok()?.said;
        let own = |row: &&VerbRow| row.name == self.done.name;
        for (cluster, rows) in &verbs {
            if let Some(why) = rows.iter().filter(own).find_map(|row| row.given_up.clone()) {
                return Some(End::GivenUp { cluster: cluster.clone(), why });
            }
        }
        // Only its writer knows for sure that it is over.
        let (_, of_writer) = verbs.iter().find(|(cluster, _)| *cluster == self.at.name)?;
        let is_gone = !of_writer.iter().any(|row| own(&row));
        (is_gone && self.begun.elapsed() < self.lasts).then_some(End::TakenBack)
    }
}
