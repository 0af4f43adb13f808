//! What may be typed about the emulated network: its ends, its faults, and their units.

use clap::{Args, Subcommand};
use isthmus_core::name::ClusterName;
use isthmus_scenarios::wan::{
    links::Scope,
    settings::{Change, Udp},
};

use super::{Output, names::cluster};

#[derive(Debug, Subcommand)]
pub enum Link {
    /// Every direction between two clusters: how it is, and what became of its packets.
    List(Output),
    /// Change the links of a cluster, or that between two; what is not named stays.
    Set(Box<Set>),
    /// Cut the links of a cluster, or that between two: nothing arrives any more.
    Cut {
        #[command(flatten)]
        ends: Ends,
        #[command(flatten)]
        output: Output,
    },
    /// Make links what they were when the mesh was raised: of a cluster, between two, or all.
    Heal {
        /// A cluster; none: all links.
        #[arg(add = cluster())]
        cluster: Option<ClusterName>,
        /// The other end; none: every other cluster.
        #[arg(add = cluster())]
        other: Option<ClusterName>,
        /// Only from the first cluster to the other, not back.
        #[arg(long, requires = "cluster")]
        one_way: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub struct Ends {
    /// A cluster.
    #[arg(add = cluster())]
    pub cluster: ClusterName,
    /// The other end; none: every other cluster.
    #[arg(add = cluster())]
    pub other: Option<ClusterName>,
    /// Only from the first cluster to the other, not back.
    #[arg(long)]
    pub one_way: bool,
}

impl From<Ends> for Scope {
    fn from(ends: Ends) -> Self {
        Self { one: Some(ends.cluster), other: ends.other, one_way: ends.one_way }
    }
}

#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    pub ends: Ends,
    #[command(flatten)]
    pub faults: Faults,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Faults {
    /// From one end to the other; a round trip takes it twice: 200ms, 1.5s, 300us.
    #[arg(long, value_parser = micros)]
    delay: Option<u64>,
    /// Delays differ by at most this, either way.
    #[arg(long, value_parser = micros)]
    jitter: Option<u64>,
    /// How many packets of a hundred are lost each way: 2, 0.5.
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    loss: Option<f64>,
    /// So many are lost in a row on average; 0: each by itself.
    #[arg(long, value_name = "PACKETS", value_parser = count)]
    burst: Option<f64>,
    /// Bits a second: 10mbit, 500kbit, 1gbit; 0: without a limit.
    #[arg(long, value_parser = bits)]
    rate: Option<u64>,
    /// What may wait for the rate: 64k, 1m; 0: what the rate carries in one round trip.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    queue: Option<u64>,
    /// How many packets of a hundred are held back so that later ones overtake them.
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    reorder: Option<f64>,
    /// The largest packet, at most 1500; 0: that.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u16>,
    /// open, blocked, or at most so many bits a second: 100kbit.
    #[arg(long, value_parser = udp)]
    udp: Option<Udp>,
}

impl From<Faults> for Change {
    fn from(faults: Faults) -> Self {
        Self {
            delay_us: faults.delay,
            jitter_us: faults.jitter,
            loss: faults.loss,
            burst: faults.burst,
            rate: faults.rate,
            queue: faults.queue,
            reorder: faults.reorder,
            mtu: faults.mtu,
            cut: None,
            udp: faults.udp,
        }
    }
}

/// A number and one of these units, in what the unit's factor makes of it.
fn measure(text: &str, what: &str, units: &[(&str, f64)], example: &str) -> Result<f64, String> {
    let malformed = || format!("{text:?} is no {what}; write a number and a unit, such as {example}");
    let text = text.trim().to_ascii_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split).ok_or_else(malformed)?;
    let number = number.parse::<f64>().map_err(|_| malformed())?;
    if number == 0.0 && unit.is_empty() {
        return Ok(0.0);
    }
    let factor = units.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(malformed)?.1;
    Some(number * factor).filter(|value| *value < 1e15).ok_or_else(malformed)
}

fn micros(text: &str) -> Result<u64, String> {
    measure(text, "time", &[("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)], "200ms").map(whole)
}

fn bits(text: &str) -> Result<u64, String> {
    measure(text, "rate", &[("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)], "10mbit").map(whole)
}

fn bytes(text: &str) -> Result<u64, String> {
    measure(text, "size", &[("", 1.0), ("b", 1.0), ("k", 1e3), ("kb", 1e3), ("m", 1e6), ("mb", 1e6)], "64k").map(whole)
}

fn share(text: &str) -> Result<f64, String> {
    measure(text, "percentage", &[("", 0.01), ("%", 0.01)], "2 or 0.5%")
}

/// What is no finite number would be none at all where it is sent as JSON.
fn count(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("{text:?} is no finite number; write one such as 8"))
}

fn udp(text: &str) -> Result<Udp, String> {
    match text {
        "open" => Ok(Udp::Open),
        "blocked" => Ok(Udp::Blocked),
        rate => match bits(rate) {
            Ok(0) => Ok(Udp::Blocked),
            Ok(rate) => Ok(Udp::Throttled(rate)),
            Err(_) => Err(format!("{rate:?} is neither open nor blocked nor a rate such as 100kbit")),
        },
    }
}

/// Cut to a whole number; [`measure`] has seen to its size and sign.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1e15")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_zero_needs_none() {
        assert_eq!(["200ms", "1.5s", "300us", "0"].map(micros), [200_000, 1_500_000, 300, 0].map(Ok));
        assert_eq!(["10mbit", "500kbit", "1Gbit"].map(bits), [10_000_000, 500_000, 1_000_000_000].map(Ok));
        assert_eq!(["64k", "1500", "1mb"].map(bytes), [64_000, 1_500, 1_000_000].map(Ok));
        assert_eq!(["2", "0.5%"].map(share), [0.02, 0.005].map(Ok));
        assert_eq!(
            ["open", "blocked", "0", "8kbit"].map(udp),
            [Ok(Udp::Open), Ok(Udp::Blocked), Ok(Udp::Blocked), Ok(Udp::Throttled(8_000))]
        );
    }

    #[test]
    fn what_is_no_measure_is_refused_with_an_example() {
        for bad in ["", "ms", "-1ms", "5", "1h", "1e9s", "..s", "ü", "99999999999999999999s"] {
            assert!(micros(bad).is_err_and(|reason| reason.contains("such as 200ms")), "{bad}");
        }
        for bad in ["nan", "inf", "-inf", "1e999", "many"] {
            assert!(count(bad).is_err_and(|reason| reason.contains("no finite number")), "{bad}");
        }
        assert_eq!(count("8"), Ok(8.0));
        assert!(udp("closed").is_err_and(|reason| reason.contains("neither open nor blocked")));
    }
}
