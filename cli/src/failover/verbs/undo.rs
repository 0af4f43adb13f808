//! What operators did, taken back wherever it was done; who keeps it for a while yet is named.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail};
use isthmus_control::{
    failover::rows::VerbRow,
    handle::{Back, TakenBack},
};
use isthmus_core::{failover::verb::Deed, name::ServiceName};
use isthmus_scenarios::admin::{self, Refused};
use serde::Serialize;

use super::{refused, sort, who, words};
use crate::{
    args::{Form, How},
    failover::{
        clock,
        controls::{Control, Controls, LIMIT, Silent, told},
        in_force::merged,
    },
    out,
    reach::Reach,
};

/// What was taken back in a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Taken {
    /// The cluster.
    pub cluster: String,
    /// What.
    #[serde(flatten)]
    pub back: TakenBack,
}

/// Takes it back wherever it was done; with a drain, drills of the cluster too.
pub async fn undo(reach: &Reach, deed: &Deed, undo: &How) -> Result<()> {
    let (what, names) = match deed {
        Deed::Evacuate { service, cluster, .. } => {
            (format!("evacuation of {service} from {cluster}"), vec![deed.name()])
        }
        Deed::Pin { service, .. } => (format!("pin of {service}"), vec![deed.name()]),
        Deed::Drain { cluster, .. } | Deed::Drill { cluster } => {
            let drill = Deed::Drill { cluster: cluster.clone() };
            (format!("drain of {cluster}"), vec![deed.name(), drill.name()])
        }
    };
    let controls = Controls::of(reach, &undo.place).await?;
    let all = Controls::all(reach, &undo.place).await?;
    let back = Back { by: who(), reason: undo.reason.clone() };
    let (mut taken, mut refusals, mut silent) = (vec![], vec![], vec![]);
    for control in &controls.0 {
        for name in &names {
            match delete(control, name, &back).await {
                Ok(back) => taken.push(Taken { cluster: control.name.clone(), back }),
                Err(error) => sort(control, &error, &mut refusals, &mut silent),
            }
        }
    }
    silent.dedup_by(|one, other| one.cluster == other.cluster);
    if taken.is_empty() {
        return Err(elsewhere(&all, &names, &what).await.unwrap_or_else(|| refused(refusals, &silent)));
    }
    still(&all, &mut taken).await;
    if undo.output.output == Form::Json {
        let all = serde_json::json!({ "taken_back": taken, "silent": silent });
        out::line(serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    taken.iter().for_each(|one| out::raw(&words::taken_back(&what_of(&one.back.name, &what), one)));
    out::raw(&told(&silent));
    Ok(())
}

/// A pin is named by its service alone.
pub async fn unpin(reach: &Reach, service: ServiceName, with: &How) -> Result<()> {
    let any = "any".parse()?;
    undo(reach, &Deed::Pin { service, cluster: any }, with).await
}

/// A drill that went with a drain is called what it is.
fn what_of(name: &str, what: &str) -> String {
    name.strip_prefix("drill-").map_or_else(|| what.to_owned(), |cluster| format!("drill of {cluster}"))
}

async fn delete(control: &Control, name: &str, back: &Back) -> Result<TakenBack> {
    let body = serde_json::to_value(back)?;
    let taken = admin::delete(control.admin, &format!("/api/verbs/{name}"), &body, LIMIT).await?;
    Ok(serde_json::from_value(taken)?)
}

/// Of those that keep it until they hear of its end, the ones that answer and know of it already do not.
async fn still(controls: &Controls, taken: &mut [Taken]) {
    if taken.iter().all(|one| one.back.still.is_empty()) {
        return;
    }
    let Ok(answers) = controls.ask::<Vec<VerbRow>>("/api/verbs").await else { return };
    for one in taken {
        let name = &one.back.name;
        let has = |rows: &[VerbRow]| rows.iter().any(|row| row.name == *name && row.writer == one.cluster);
        let heard: BTreeSet<_> =
            answers.said.iter().filter(|(_, rows)| !has(rows)).map(|(cluster, _)| cluster.as_str()).collect();
        one.back.still.retain(|cluster| !heard.contains(cluster.as_str()));
    }
}

/// Where it was done, if it is in force somewhere and nobody who was asked has it to take back.
async fn elsewhere(controls: &Controls, names: &[String], what: &str) -> Option<anyhow::Error> {
    let answers = controls.ask::<Vec<VerbRow>>("/api/verbs").await.ok()?;
    let one = merged(&answers.said).into_iter().find(|one| names.contains(&one.name))?;
    let (rest, writer) = (clock::span(one.ends_in_seconds), &one.writer);
    let what = what_of(&one.name, what);
    if let Some(Silent { why, .. }) = answers.silent.iter().find(|silent| silent.cluster == *writer) {
        return Some(anyhow!(
            "the {what} was done in {writer}, whose control does not answer ({why}); it ends by itself in {rest}, or \
             start that control again and take it back then"
        ));
    }
    let of_writer = answers.said.iter().find(|(cluster, _)| cluster == writer);
    if of_writer.is_some_and(|(_, rows)| rows.iter().all(|row| row.name != one.name)) {
        let keep = [one.binds.as_slice(), one.free.as_slice()].concat().join(", ");
        return Some(anyhow!(
            "the {what} was taken back already in {writer}; {keep} have not heard of it yet: they keep it until there is a \
             quorum, or for {rest} by their own count"
        ));
    }
    Some(anyhow!(
        "the {what} was done in {writer}; take it back there, with --at {writer}; it ends by itself in {rest}"
    ))
}

/// Ends it without a word, for a reason; that it is not there any more is no error.
pub async fn end(at: &Control, name: &str, reason: &str) -> Result<()> {
    let back = Back { by: who(), reason: reason.to_owned() };
    match delete(at, name, &back).await {
        Err(error) if error.downcast_ref::<Refused>().is_none() => {
            bail!("{name} could not be taken back in {}: {error:#}; it ends by itself", at.name)
        }
        _ => Ok(()),
    }
}
