//! `isthmus failover simulate`: what would go where if clusters were gone, by every control that would be left.

mod outcome;
mod words;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use isthmus_control::failover::simulation::Simulated;
use isthmus_core::name::ClusterName;
use serde_json::Value;

use self::outcome::Outcome;
use super::controls::{Controls, told};
use crate::{
    args::{Form, Look},
    out,
    reach::Reach,
    table,
};

pub async fn run(reach: &Reach, down: &[ClusterName], fail_on_loss: bool, look: &Look) -> Result<()> {
    let down: BTreeSet<_> = down.iter().cloned().collect();
    let names = down.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(",");
    let mut controls = Controls::of(reach, &look.place).await?;
    known(&controls, &down).await?;
    controls.0.retain(|control| !down.iter().any(|down| down.as_str() == control.name));
    if controls.0.is_empty() {
        bail!("with {names} down no cluster is left that could be asked; leave one out");
    }
    let answers = controls.ask::<Vec<Simulated>>(&format!("/api/simulate?down={names}")).await?;
    // A control that was given by address may be one of those.
    let is_left = |row: &Simulated| !down.iter().any(|down| down.as_str() == row.importer);
    let rows = answers.said.into_iter().flat_map(|(_, rows)| rows).filter(is_left).collect();
    let outcome = Outcome::of(down, rows, answers.silent);
    if look.output.output == Form::Json {
        out::line(serde_json::to_string_pretty(&outcome)?);
    } else {
        out::raw(&told(&outcome.silent));
        out::raw(&words::drawn(&outcome));
    }
    match outcome.loss() {
        Some(loss) if fail_on_loss => bail!("with {names} down {loss}"),
        _ => Ok(()),
    }
}

/// A name that nobody has would simulate nothing, and look well.
async fn known(controls: &Controls, down: &BTreeSet<ClusterName>) -> Result<()> {
    let answers = controls.ask::<Vec<Value>>("/api/clusters").await?;
    let rows = answers.said.iter().flat_map(|(_, rows)| rows);
    let known: BTreeSet<_> = rows.map(|row| table::field(row, "name")).collect();
    match down.iter().find(|name| !known.contains(name.as_str())) {
        Some(name) => {
            bail!("no cluster {name} in this mesh; there are {}", known.into_iter().collect::<Vec<_>>().join(", "))
        }
        None => Ok(()),
    }
}
