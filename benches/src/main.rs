//! `cargo run --release -p isthmus-benches -- hop|pair|all`: measures, prints, and with `--write` keeps the numbers.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use isthmus_benches::{
    contender::{Case, Contender},
    measure::{self, Plan},
    page,
    report::Report,
    tools::Tools,
    yard::Yard,
};

/// What Isthmus costs, side by side with Envoy and nginx.
#[derive(Parser)]
#[command(name = "isthmus-benches", version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    what: What,
    /// How to print it.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Turns of each contender.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Counted seconds of a turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Only these contenders.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contender>,
    /// Measure this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Write benches/RESULTS.md.
    #[arg(long)]
    write: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// One plaintext hop.
    Hop,
    /// A sidecar pair with mTLS.
    Pair,
    /// Both.
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: medians and every sample.
    Json,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("isthmus-benches: {reason:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let contenders = if arguments.only.is_empty() { Contender::ALL.to_vec() } else { arguments.only };
    let cases = match arguments.what {
        What::Hop => vec![Case::Hop],
        What::Pair => vec![Case::Pair],
        What::All => vec![Case::Hop, Case::Pair],
    };
    let yard = Yard::raise(Tools::find(&contenders, arguments.binary)?)?;
    let plan = Plan { contenders, rounds: arguments.rounds, seconds: arguments.seconds };
    let mut reports = Vec::new();
    for case in cases {
        reports.push(Report::new(case, measure::run(case, &plan, &yard)?));
    }
    match arguments.output {
        Output::Table => reports.iter().for_each(|report| println!("{}\n", report.table())),
        Output::Json => println!("{}", serde_json::to_string_pretty(&reports)?),
    }
    if arguments.write {
        page::write(&reports, &plan, &yard.tools)?;
    }
    Ok(())
}
