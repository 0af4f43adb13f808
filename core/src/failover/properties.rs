//! What must always hold of the whole decision: from what operators wrote and what is seen, over the order, the shares and
//! the parts, to the rungs that a request is tried on.

mod cases;
mod chain;

use std::{collections::BTreeSet, time::Duration};

use proptest::{collection::vec, prelude::*};

use self::{
    cases::{history, leave, written},
    chain::{Chain, Decided, NAMES, REQUESTS, Shown, TOTAL, name, region},
};
use super::{
    BEAT,
    breaker::{Breaker, Verdict},
    policy::{Constraints, Failback, FailoverPolicy, WhenNothingHealthy},
    window::{Tally, Window},
};
use crate::{
    ladder::{Ladder, Place},
    name::ClusterName,
};

/// Whether a policy lets anything go to a cluster, told another way than [`order::order`] does.
fn may(policy: &FailoverPolicy, index: usize) -> bool {
    let Constraints { regions, never } = &policy.constraints;
    let same = region(index) == region(0) && regions.iter().any(|one| one == "@SameAsImporter@");
    !never.contains(&name(index)) && (regions.is_empty() || same || regions.iter().any(|one| one == region(index)))
}

/// The clusters that a request may be tried in, whatever is drawn.
fn tried(ladder: &Ladder) -> BTreeSet<ClusterName> {
    let at = |index: usize| match &ladder.tiers()[index].place {
        Place::Remote(cluster) => cluster.clone(),
        _ => name(0),
    };
    let draws = (0..64u64).map(|nth| nth << 58 | u64::from(u32::MAX));
    let chosen: BTreeSet<usize> = draws.filter_map(|draw| ladder.choose(draw)).collect();
    chosen.into_iter().flat_map(|chosen| std::iter::once(chosen).chain(ladder.fallbacks(chosen))).map(at).collect()
}

proptest! {
    #[test]
    fn shares_sum_to_one_wherever_anything_may_be_sent(written in written(), history in history()) {
        let mut chain = Chain::new(&written);
        for shown in history {
            let decided = chain.beat(&shown);
            let members = || decided.tiers.iter().flat_map(|tier| &tier.members);
            let any = match written.0.when_nothing_healthy {
                None => members().any(|one| one.member.healthy > 0),
                Some(WhenNothingHealthy::TryAll) => members().any(|one| one.member.total > 0),
                Some(WhenNothingHealthy::Fail) => decided.tiers.iter().any(|tier| {
                    let has_part = tier.members.iter().any(|one| one.member.weight > 0 && one.share > 0.0);
                    tier.share > 0.0 && has_part
                }),
            };
            let sum: f64 = decided.parts.values().sum();
            prop_assert!((sum - f64::from(u8::from(any))).abs() < 1e-6, "{sum}: {decided:?}");
            prop_assert!(decided.parts.values().all(|part| (0.0..=1.0 + 1e-9).contains(part)));
            let rungs = decided.ladder.tiers().len();
            let sum: f64 = (0..rungs).map(|index| decided.ladder.part(index)).sum();
            prop_assert!(!any || (sum - 1.0).abs() < 1e-6, "{sum}: {decided:?}");
        }
    }

    #[test]
    fn a_constraint_is_never_violated_by_no_pin_and_no_fallback(written in written(), history in history()) {
        let mut chain = Chain::new(&written);
        for shown in history {
            let decided = chain.beat(&shown);
            let forbidden: BTreeSet<_> =
                (0..NAMES.len()).filter(|index| !may(&written.0, *index)).map(name).collect();
            prop_assert_eq!(&decided.order.excluded.keys().cloned().collect::<BTreeSet<_>>(), &forbidden);
            prop_assert!(decided.parts.keys().all(|name| !forbidden.contains(name)), "{:?}", decided);
            prop_assert!(tried(&decided.ladder).is_disjoint(&forbidden), "{:?}", decided);
        }
    }

    #[test]
    fn worse_health_never_draws_more_traffic(
        written in written(), history in history(), index in 0..NAMES.len(),
        worse in vec((0..=TOTAL, any::<bool>(), 0.0f64..=1.0), 60), fails in any::<bool>(), errors in 0..=REQUESTS,
        millis in 1u64..4000,
    ) {
        // Health changes as it likes. How requests fare is the same for both, or bad for one alone, throughout: of two that
        // are left for it at different times, the one that was left first is back first.
        let (mut better, mut bad) = (Chain::new(&written), Chain::new(&written));
        // Both were in use: what never was is used wholly as soon as it can serve.
        let fine = vec![Shown { healthy: TOTAL, errors: 0, millis: 1, left: false, verbs: 1.0 }; NAMES.len()];
        for chain in [&mut better, &mut bad] {
            chain.beat(&fine);
            chain.windows.fill(Window::default());
        }
        for (mut shown, (healthy, left, verbs)) in history.into_iter().zip(worse) {
            (shown[index].errors, shown[index].millis) = if fails { (0, 1) } else { (errors, millis) };
            let good = better.beat(&shown);
            let of = &mut shown[index];
            (of.errors, of.millis) = (errors, millis);
            (of.healthy, of.left, of.verbs) = (of.healthy.min(healthy), of.left || left, of.verbs.min(verbs));
            let bad = bad.beat(&shown);
            let share = |decided: &Decided| {
                let mut members = decided.tiers.iter().flat_map(|tier| &tier.members);
                members.find(|one| one.member.cluster == name(index)).map(|one| one.share)
            };
            let (Some(good_share), Some(bad_share)) = (share(&good), share(&bad)) else { return Ok(()) };
            prop_assert!(bad_share <= good_share + 2e-3, "{bad_share} above {good_share}");
            let part = |decided: &Decided| decided.parts[&name(index)];
            // A thousandth that comes of rounding may be much of very little.
            prop_assert!(bad_share > good_share || part(&bad) <= part(&good) + 1e-9, "{bad:?} above {good:?}");
        }
    }

    #[test]
    fn more_errors_and_slower_answers_are_never_judged_milder(
        leave in leave(), errors in (0..=REQUESTS, 0..=REQUESTS), millis in (1u64..4000, 1u64..4000),
    ) {
        let judged = |errors: u64, millis: u64| {
            let (mut window, mut tally) = (Window::default(), Tally::default());
            (0..REQUESTS).for_each(|nth| tally.count(nth < errors, Duration::from_millis(millis)));
            window.add(BEAT, &tally);
            match Breaker::default().judge(BEAT, &window, &leave, &Failback::default()) {
                Verdict::Fine => 0,
                Verdict::Hold(_) => 1,
                Verdict::Leave(_) => 2,
            }
        };
        let (good, bad) = ((errors.0.min(errors.1), millis.0.min(millis.1)), (errors.0.max(errors.1), millis.0.max(millis.1)));
        prop_assert!(judged(good.0, good.1) <= judged(bad.0, bad.1), "{good:?} {bad:?}");
    }

    #[test]
    fn equal_inputs_give_equal_outputs(written in written(), history in history()) {
        let (mut one, mut other) = (Chain::new(&written), Chain::new(&written));
        for shown in history {
            prop_assert_eq!(one.beat(&shown), other.beat(&shown));
        }
    }

    #[test]
    fn noise_under_the_hysteresis_moves_nothing(written in written(), history in history()) {
        let leave = &written.0.leave;
        let least = ((f64::from(TOTAL) * leave.healthy_share).ceil() as u32).max(leave.healthy_at_least);
        let most_errors = leave.error_rate.as_ref().map_or(REQUESTS, |rate| (rate.above * REQUESTS as f64) as u64);
        let slowest = leave.latency.as_ref().map_or(4000, |latency| latency.above.as_millis() as u64);
        let mut chain = Chain::new(&written);
        let mut first: Option<Decided> = None;
        for mut shown in history {
            for of in &mut shown {
                *of = Shown {
                    healthy: of.healthy.max(least),
                    errors: of.errors.min(most_errors),
                    millis: of.millis.min(slowest),
                    left: false,
                    verbs: 1.0,
                };
            }
            let decided = chain.beat(&shown);
            prop_assert!(decided.tiers.iter().flat_map(|tier| &tier.members).all(|one| one.share == 1.0), "{:?}", decided);
            let first = first.get_or_insert_with(|| decided.clone());
            prop_assert_eq!(&decided.parts, &first.parts);
        }
    }
}
