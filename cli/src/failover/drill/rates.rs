//! Pure: rates of requests, as the rows of importing clusters tell them.

use isthmus_control::failover::rows::FailoverRow;
use isthmus_core::failover::drill::Shown;

/// Requests a second, and those of them that fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// All of them.
    pub requests: f64,
    /// Those that fail, or are refused because no place may take them.
    pub failed: f64,
}

impl Rate {
    /// The part that fails, 0 to 1.
    pub fn part(self) -> f64 {
        if self.requests > 0.0 { self.failed / self.requests } else { 0.0 }
    }

    /// What it counts to in so many seconds.
    pub fn shown(self, seconds: f64) -> Shown {
        let count = |rate: f64| (rate * seconds).round() as u64;
        Shown { requests: count(self.requests), failed: count(self.failed) }
    }
}

/// Requests a second of an importing cluster's clients, and the part of them that fails.
pub fn rates(importer: &str, said: &[(String, Vec<FailoverRow>)]) -> (f64, f64) {
    let rows = said.iter().flat_map(|(_, rows)| rows).filter(|row| row.importer == importer);
    let all = rows.map(rate_of).fold(Rate::default(), |sum, one| Rate {
        requests: sum.requests + one.requests,
        failed: sum.failed + one.failed,
    });
    (all.requests, all.part())
}

/// Of one service. What is refused because no place may take it failed too.
pub fn rate_of(row: &FailoverRow) -> Rate {
    let refused = row.refused_per_second;
    row.places.iter().fold(Rate { requests: refused, failed: refused }, |sum, place| Rate {
        requests: sum.requests + place.requests_per_second,
        failed: sum.failed + place.requests_per_second * place.error_rate,
    })
}

/// Tries a second that limits keep back.
pub fn kept_back(importer: &str, said: &[(String, Vec<FailoverRow>)]) -> f64 {
    let rows = said.iter().flat_map(|(_, rows)| rows).filter(|row| row.importer == importer);
    rows.flat_map(|row| &row.places).fold(0.0, |sum, place| sum + place.kept_back_per_second)
}
