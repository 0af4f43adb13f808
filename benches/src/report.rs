//! Medians and ratios of a run, as a table and as JSON.

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{
    contender::{Case, Contender},
    measure::Sample,
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

    /// Our median divided by that of `contender`; `None` when one of us was not measured.
    #[must_use]
    pub fn ours_to(&self, contender: Contender) -> Option<f64> {
        self.lines.iter().find(|line| line.contender == contender)?.ours_to_this
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
