//! The rounds: contenders take the load in turn, and each turn is one sample.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    contender::{self, Case, Contender, Running},
    counters,
    load::Load,
    yard::Yard,
};

/// How a case is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who takes part, in the order of a round.
    pub contenders: Vec<Contender>,
    /// Turns of each.
    pub rounds: u32,
    /// Counted seconds of a turn.
    pub seconds: u32,
}

/// What one turn showed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Whose turn.
    pub contender: Contender,
    /// Counted requests.
    pub requests: u64,
    /// CPU of the proxy's processes a request, microseconds.
    pub cpu_micros: f64,
    /// Requests a second, with load, proxy and backend sharing the machine.
    pub rate: f64,
    /// Median answer time, microseconds.
    pub p50: u64,
    /// 99th percentile, microseconds.
    pub p99: u64,
}

/// Measures `case`; progress goes to standard error.
///
/// # Errors
/// A contender does not start or fails a request.
pub fn run(case: Case, plan: &Plan, yard: &Yard) -> Result<Vec<Sample>> {
    let load = Load::new(&yard.tools.wrk, &yard.directory(case.name())?)?;
    let mut field = Vec::new();
    for contender in &plan.contenders {
        let running = contender::start(*contender, case, yard)
            .with_context(|| format!("{} as a {}", contender.name(), case.name()))?;
        field.push((*contender, running));
    }
    for (_, running) in &field {
        load.run(&running.target, 1)?;
    }
    let mut samples = Vec::new();
    for round in 1..=plan.rounds {
        for (contender, running) in &field {
            let sample = turn(*contender, running, &load, plan.seconds).with_context(|| contender.name())?;
            eprintln!(
                "{} round {round} of {}: {:8} {:6.1} µs CPU a request, {:7.0} a second",
                case.name(),
                plan.rounds,
                contender.name(),
                sample.cpu_micros,
                sample.rate
            );
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// One turn; the counters are asked outside of what is measured.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn turn(contender: Contender, running: &Running, load: &Load, seconds: u32) -> Result<Sample> {
    let counted = counters::all(&running.counters)?;
    let before = running.cpu()?;
    let outcome = load.run(&running.target, seconds)?;
    let used = running.cpu()? - before;
    counters::check(&running.counters, &counted, outcome.requests)?;
    let requests = outcome.requests as f64;
    Ok(Sample {
        contender,
        requests: outcome.requests,
        cpu_micros: used * 1e6 / requests,
        rate: requests * 1e6 / outcome.micros as f64,
        p50: outcome.p50,
        p99: outcome.p99,
    })
}
