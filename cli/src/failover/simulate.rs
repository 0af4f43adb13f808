//! `isthmus failover simulate`: what would go where if clusters were gone or drained, by what every control says.

mod balance;
mod outcome;
mod words;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use isthmus_control::failover::simulation::{Fate, Simulated};
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

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Clusters that would be gone.
    pub down: &'a [ClusterName],
    /// Clusters that would be drained.
    pub drained: &'a [ClusterName],
    /// Whether a loss is a failure.
    pub fail_on_loss: bool,
}

pub async fn run(reach: &Reach, asked: Asked<'_>, look: &Look) -> Result<()> {
    let named = |names: &[ClusterName]| names.iter().cloned().collect::<BTreeSet<_>>();
    let fate = Fate { down: named(asked.down), drained: named(asked.drained) };
    let controls = Controls::of(reach, &look.place).await?;
    known(&controls, &fate).await?;
    if let Some(both) = fate.down.intersection(&fate.drained).next() {
        bail!(
            "{both} cannot be both down and drained: when it is down its own clients are gone, when it is drained not"
        );
    }
    let is_down = |name: &str| fate.down.iter().any(|down| down.as_str() == name);
    if controls.0.iter().all(|control| is_down(&control.name)) {
        bail!("with {} down no cluster is left that could be asked; leave one out", names(&fate.down));
    }
    let path = format!("/api/simulate?down={}&drained={}", names(&fate.down), names(&fate.drained));
    let answers = controls.ask::<Vec<Simulated>>(&path).await?;
    let all: Vec<_> = answers.said.into_iter().flat_map(|(_, rows)| rows).collect();
    let outcome = Outcome::of(fate, &all, answers.silent);
    if look.output.output == Form::Json {
        out::line(serde_json::to_string_pretty(&outcome)?);
    } else {
        out::raw(&told(&outcome.silent));
        out::raw(&words::drawn(&outcome));
    }
    match outcome.loss() {
        Some(loss) if asked.fail_on_loss => bail!("if {} {loss}", outcome.premise()),
        _ => Ok(()),
    }
}

fn names(clusters: &BTreeSet<ClusterName>) -> String {
    clusters.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(",")
}

/// A name that nobody has would simulate nothing, and look well.
async fn known(controls: &Controls, fate: &Fate) -> Result<()> {
    let answers = controls.ask::<Vec<Value>>("/api/clusters").await?;
    let rows = answers.said.iter().flat_map(|(_, rows)| rows);
    let known: BTreeSet<_> = rows.map(|row| table::field(row, "name")).collect();
    match fate.down.union(&fate.drained).find(|name| !known.contains(name.as_str())) {
        Some(name) => {
            bail!("no cluster {name} in this mesh; there are {}", known.into_iter().collect::<Vec<_>>().join(", "))
        }
        None => Ok(()),
    }
}
