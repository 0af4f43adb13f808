//! Which endpoint: the less busy of two drawn by weight (power of two choices, Mitzenmacher 2001).

/// What is known of a candidate at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Relative weight; 0: not to be picked while another has more.
    pub weight: u32,
    /// Requests it has open from here.
    pub open: u32,
}

/// Picks one of `len` candidates; `None` when there is none. `random` decides the draws. No allocation; of two
/// candidates drawn by weight the one with fewer open requests for its weight wins.
#[must_use]
pub fn pick(len: usize, load: impl Fn(usize) -> Load, random: u64) -> Option<usize> {
    match len {
        0 => None,
        1 => Some(0),
        _ => {
            let total: u64 = (0..len).map(|index| u64::from(load(index).weight)).sum();
            let (high, low) = (random >> 32, random & u64::from(u32::MAX));
            let first = draw(len, &load, total, high, None);
            let rest = total - if total == 0 { 0 } else { u64::from(load(first).weight) };
            let second = draw(len, &load, rest, low, Some(first));
            Some(if busier(load(first), load(second)) { second } else { first })
        }
    }
}

/// `random` is a 32-bit draw, spread over the weights of all but `without`.
fn draw(len: usize, load: &impl Fn(usize) -> Load, total: u64, random: u64, without: Option<usize>) -> usize {
    let others = || (0..len).filter(|index| Some(*index) != without);
    let count = len - usize::from(without.is_some());
    if total == 0 {
        let nth = (random * count as u64) >> 32;
        return others().nth(usize::try_from(nth).unwrap_or_default()).unwrap_or_default();
    }
    let mut left = (random * total) >> 32;
    for index in others() {
        let weight = u64::from(load(index).weight);
        if left < weight {
            return index;
        }
        left -= weight;
    }
    without.map_or(0, |first| usize::from(first == 0))
}

/// Whether `a` has more open requests for its weight than `b`, counting the one to come.
fn busier(a: Load, b: Load) -> bool {
    u64::from(a.open) * u64::from(b.weight.max(1)) > u64::from(b.open) * u64::from(a.weight.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousand(weights: &[u32]) -> Vec<usize> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; weights.len()];
        for _ in 0..1000 {
            let load = |index: usize| Load { weight: weights[index], open: 0 };
            counts[pick(weights.len(), load, random.u64(..)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn a_thousand_sequential_requests_spread_over_three_equal_endpoints() {
        let counts = thousand(&[1, 1, 1]);
        assert!(counts.iter().all(|count| (250..=420).contains(count)), "{counts:?}");
    }

    #[test]
    fn weights_are_kept_and_a_weight_of_nothing_gets_nothing() {
        let counts = thousand(&[3, 1]);
        assert!(counts[0] > counts[1] * 2 || counts[0] > 600, "{counts:?}");
        assert_eq!(thousand(&[1, 1, 0])[2], 0);
        assert_eq!(thousand(&[0, 0]).iter().sum::<usize>(), 1000);
    }

    #[test]
    fn the_busier_of_two_is_passed_over() {
        let open = [5, 0];
        let load = |index: usize| Load { weight: 1, open: open[index] };
        assert!((0..100u64).all(|n| pick(2, load, n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) == Some(1)));
        assert_eq!(pick(0, load, 1), None);
    }
}
