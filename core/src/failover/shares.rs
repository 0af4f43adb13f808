//! From shares to parts: a tier takes its share of the requests that reach it, divides it among its clusters by weight,
//! and the rest goes on to the next tier. What no tier took goes to those that took something: the last living place
//! is never left for nothing.

/// A cluster in a tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Its weight inside the tier, its own share already in it.
    pub weight: f64,
    /// Whether there is anything to send to.
    pub usable: bool,
}

/// What a cluster adds to its tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    /// Its share, 0 to 1.
    pub share: f64,
    /// Endpoints that may be used.
    pub healthy: u32,
    /// Endpoints in any state.
    pub total: u32,
}

/// A tier's share: min(1, healthy part ÷ trigger part) over all its clusters. A cluster whose share is below one counts
/// as if so much of it were healthy as would give it that share alone.
#[must_use]
pub fn tier_share(members: &[Strength], trigger: f64) -> f64 {
    let total: f64 = members.iter().map(|one| f64::from(one.total)).sum();
    if total <= 0.0 || trigger <= 0.0 {
        return 0.0;
    }
    let healthy = |one: &Strength| {
        let part = if one.total == 0 { 0.0 } else { f64::from(one.healthy) / f64::from(one.total) };
        let part = if one.share < 1.0 { part.min(one.share.max(0.0) * trigger) } else { part };
        part * f64::from(one.total)
    };
    (members.iter().map(healthy).sum::<f64>() / total / trigger).clamp(0.0, 1.0)
}

/// The part of all requests of each cluster, tier by tier. They sum to one if anything is usable at all; without any
/// share the first usable place takes all when `try_left`, else nobody takes anything.
#[must_use]
pub fn parts(tiers: &[(f64, Vec<Place>)], try_left: bool) -> Vec<Vec<f64>> {
    let mut rest = 1.0f64;
    let mut parts: Vec<Vec<f64>> = vec![];
    for (share, places) in tiers {
        let weight = |place: &Place| if place.usable { place.weight.max(0.0) } else { 0.0 };
        let sum: f64 = places.iter().map(weight).sum();
        let taken = if sum > 0.0 { rest * share.clamp(0.0, 1.0) } else { 0.0 };
        rest -= taken;
        parts.push(places.iter().map(|place| if sum > 0.0 { taken * weight(place) / sum } else { 0.0 }).collect());
    }
    let taken = 1.0 - rest;
    if taken > 1e-9 {
        parts.iter_mut().flatten().for_each(|part| *part /= taken);
    } else if try_left {
        let first = tiers.iter().flat_map(|(_, places)| places).zip(parts.iter_mut().flatten());
        if let Some((_, part)) = first.into_iter().find(|(place, _)| place.usable) {
            *part = 1.0;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strength(share: f64, healthy: u32, total: u32) -> Strength {
        Strength { share, healthy, total }
    }

    fn place(weight: f64) -> Place {
        Place { weight, usable: true }
    }

    #[test]
    fn a_tier_gives_on_what_its_health_does_not_carry() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
        close(tier_share(&[strength(1.0, 3, 3)], 0.7), 1.0);
        close(tier_share(&[strength(1.0 / 3.0 / 0.7, 1, 3)], 0.7), 1.0 / 3.0 / 0.7);
        close(tier_share(&[strength(0.2, 3, 3)], 0.7), 0.2);
        close(tier_share(&[strength(1.0, 2, 2), strength(0.0, 2, 2)], 0.7), 0.5 / 0.7);
        close(tier_share(&[strength(0.0, 0, 0)], 0.7), 0.0);
    }

    #[test]
    fn parts_follow_shares_and_weights() {
        let parts = parts(&[(0.5, vec![place(3.0), place(1.0)]), (1.0, vec![place(1.0)])], true);
        assert_eq!(parts, [vec![0.375, 0.125], vec![0.5]]);
    }

    #[test]
    fn the_last_living_place_is_never_left_for_nothing() {
        let gone = Place { weight: 1.0, usable: false };
        let left = |try_left| parts(&[(1.0, vec![gone]), (0.0, vec![place(0.0)]), (0.0, vec![place(0.0)])], try_left);
        assert_eq!(left(true), [[0.0], [1.0], [0.0]]);
        assert_eq!(left(false), [[0.0], [0.0], [0.0]]);
        let little = parts(&[(0.1, vec![place(1.0)]), (0.0, vec![place(1.0)])], true);
        assert!((little[0][0] - 1.0).abs() < 1e-9, "a small share of all there is, is all");
    }

    proptest! {
        #[test]
        fn parts_sum_to_one_where_anything_is_usable(
            tiers in proptest::collection::vec(
                (0.0f64..=1.0, proptest::collection::vec((0.0f64..5.0, any::<bool>()), 0..4)), 0..5),
        ) {
            let tiers: Vec<_> = tiers.into_iter().map(|(share, places)| {
                let places = places.into_iter().map(|(weight, usable)| Place { weight, usable }).collect::<Vec<_>>();
                (share, places)
            }).collect();
            let any = tiers.iter().flat_map(|(_, places)| places).any(|place| place.usable);
            let parts = parts(&tiers, true);
            let sum: f64 = parts.iter().flatten().sum();
            prop_assert!((sum - f64::from(u8::from(any))).abs() < 1e-6, "{sum}");
            for (place, part) in tiers.iter().flat_map(|(_, places)| places).zip(parts.iter().flatten()) {
                prop_assert!(place.usable || *part == 0.0);
            }
        }

        #[test]
        fn worse_health_never_draws_more_to_a_tier(
            shares in proptest::collection::vec((0.0f64..=1.0, 0.0f64..=1.0, 0u32..9, 0u32..9, 1u32..9), 1..5),
            trigger in 0.1f64..=1.0,
        ) {
            let of = |better: bool| shares.iter().map(|(a, b, x, y, spare)| {
                let total = x.max(y) + spare;
                let pick = |a: f64, b: f64| if better { a.max(b) } else { a.min(b) };
                let healthy = if better { *x.max(y) } else { *x.min(y) };
                strength(pick(*a, *b), healthy, total)
            }).collect::<Vec<_>>();
            prop_assert!(tier_share(&of(false), trigger) <= tier_share(&of(true), trigger) + 1e-9);
        }
    }
}
