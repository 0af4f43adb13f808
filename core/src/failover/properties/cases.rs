//! What operators may write, and what may be seen.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::chain::{NAMES, REGIONS, REQUESTS, Shown, TOTAL, name};
use crate::{
    failover::policy::{
        Constraints, ErrorRate, Failback, FailoverPolicy, Latency, Leave, TierSpec, WhenNothingHealthy,
    },
    name::ClusterName,
};

/// Those whose bit is set.
pub(super) fn some<T: std::str::FromStr<Err: std::fmt::Debug>>(of: &[&str], bits: u8) -> Vec<T> {
    of.iter().enumerate().filter(|(nth, _)| bits & (1 << nth) != 0).map(|(_, one)| one.parse().unwrap()).collect()
}

pub(super) fn tier_spec() -> impl Strategy<Value = TierSpec> {
    (0u8..4, 1u8..32, 1u8..8, vec(0u32..4, NAMES.len())).prop_map(|(kind, clusters, regions, weights)| TierSpec {
        clusters: some(&NAMES, if kind < 2 { clusters } else { 0 }),
        regions: some(&REGIONS, if kind == 2 { regions } else { 0 }),
        nearest: kind == 3,
        weights: weights.into_iter().enumerate().map(|(index, weight)| (name(index), weight)).collect(),
        ..TierSpec::default()
    })
}

pub(super) fn leave() -> impl Strategy<Value = Leave> {
    let over = Duration::from_secs(5);
    let errors = proptest::option::of(0.1f64..0.9);
    (0.2f64..=1.0, 0u32..3, errors, proptest::option::of(2u64..2000)).prop_map(move |(share, least, errors, millis)| {
        Leave {
            healthy_share: share,
            healthy_at_least: least,
            error_rate: errors.map(|above| ErrorRate { above, below: None, over }),
            latency: millis.map(|above| Latency {
                above: Duration::from_millis(above),
                below: None,
                percentile: 90.0,
                over,
            }),
        }
    })
}

/// A policy that has no fault, and pins.
pub(super) fn written() -> impl Strategy<Value = (FailoverPolicy, Vec<ClusterName>)> {
    let when = prop_oneof![Just(None), Just(Some(WhenNothingHealthy::Fail)), Just(Some(WhenNothingHealthy::TryAll))];
    let constraints = (prop_oneof![Just(0u8), 0u8..8], prop_oneof![Just(0u8), 0u8..32]);
    let pins = prop_oneof![Just(0u8), 0u8..32];
    (vec(tier_spec(), 0..4), leave(), 0u64..8, 0u64..20, constraints, when, pins).prop_map(
        |(tiers, leave, after, ramp, (regions, never), when_nothing_healthy, pins)| {
            let seconds = Duration::from_secs;
            let policy = FailoverPolicy {
                tiers,
                leave,
                failback: Failback { after: seconds(after), ramp: seconds(ramp) },
                constraints: Constraints { regions: some(&REGIONS, regions), never: some(&NAMES, never) },
                when_nothing_healthy,
                ..FailoverPolicy::default()
            };
            assert_eq!(policy.faults("isthmus-system"), []);
            (policy, some(&NAMES, pins))
        },
    )
}

pub(super) fn shown() -> impl Strategy<Value = Shown> {
    let verbs = prop_oneof![3 => Just(1.0), 1 => 0.0f64..=1.0];
    (0..=TOTAL, 0..=REQUESTS, 1u64..4000, proptest::bool::weighted(0.2), verbs)
        .prop_map(|(healthy, errors, millis, left, verbs)| Shown { healthy, errors, millis, left, verbs })
}

pub(super) fn history() -> impl Strategy<Value = Vec<Vec<Shown>>> {
    // Each moment lasts for some beats.
    vec((vec(shown(), NAMES.len()), 1usize..12), 1..6)
        .prop_map(|moments| moments.into_iter().flat_map(|(shown, beats)| std::iter::repeat_n(shown, beats)).collect())
}
