//! Clusters that answer, but not well.

use std::time::Duration;

use anyhow::ensure;
use isthmus_core::failover::STABLE;
use serde_json::json;

use crate::{
    row::Figures,
    stage::{FIRST, NEXT, PATIENCE, Stage},
    support::eventually,
    watch::{RATE, Watch},
};

const SECOND: Duration = Duration::from_secs(1);

/// Traffic leaves in proportion; with a limit on the survivor, what is beyond stays where it was.
pub async fn unready_in_part(stage: &Stage) -> Figures {
    let limit = f64::from(RATE) * 0.3;
    let watch = Watch::ratings(stage).await;
    let two = ["ratings-more-1.app", "ratings-more-2.app"];
    stage.mesh.kill(FIRST, &two).await;
    // A third is healthy, and seven tenths are enough.
    let share = 1.0 / 3.0 / 0.7;
    stage.until_served_by(FIRST, share).await;
    // Its sidecar has heard of it by then.
    watch.goes_on(2).await;
    let proportion = watch.now();
    watch.goes_on(3).await;
    stage.policy(NEXT, &format!("  caps: [{{clusters: [{NEXT}], requestsPerSecond: {limit}}}]\n")).await;
    // The importers' demand settles the parts of the limit.
    eventually("the limit is this cluster's alone", PATIENCE, || async {
        let place = stage.place("bookinfo/ratings", NEXT).await?;
        ensure!(place["limit"].as_f64().is_some_and(|part| part > limit * 0.95), "{place}");
        Ok(())
    })
    .await;
    let capped = watch.now();
    watch.goes_on(6).await;
    stage.mesh.start(FIRST, &two);
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await.unharmed();
    let kept = seen.part(FIRST, proportion, proportion + 2 * SECOND);
    // Chance adds its own: four standard deviations.
    let chance = 4.0 * (share * (1.0 - share) / f64::from(2 * RATE)).sqrt();
    let passed_by = seen.passed_by() as f64 / f64::from(2 * RATE);
    let tolerance = chance + passed_by + 0.02;
    assert!((kept - share).abs() < tolerance, "{kept:.2} stayed of {share:.2}, and there was no limit");
    let to_next = seen.rate(NEXT, capped, capped + 5 * SECOND);
    assert!(to_next <= limit * 1.1, "the survivor got {to_next:.0} a second of {limit:.0}");
    // What a bucket is given while the machine itself stands still is lost beyond its depth.
    let stood_still = seen.figures().control.as_secs_f64() / 5.0;
    let least = limit * (0.9 - stood_still);
    assert!(to_next >= least, "and no less than it may: {to_next:.0} a second of {limit:.0}, {least:.0} at least");
    let note = format!(
        "{kept:.2} stayed by health of {share:.2}; then the survivor got {to_next:.0}/s of a limit of {limit:.0}/s"
    );
    Figures { note, ..seen.figures() }
}

/// Waits until nothing is sent to the first cluster; since when.
async fn left(stage: &Stage, watch: &Watch<'_>) -> Duration {
    eventually("it is left", PATIENCE, || async {
        let place = stage.place("bookinfo/ratings", FIRST).await?;
        ensure!(place["share"].as_f64() == Some(0.0), "{place}");
        Ok(())
    })
    .await;
    watch.now()
}

/// Waits until requests show how the first cluster does without a policy, and a while longer: it keeps its share.
async fn is_kept_without_a_policy(stage: &Stage, watch: &Watch<'_>, shows: impl Fn(&serde_json::Value) -> bool) {
    eventually("requests show it", PATIENCE, || async {
        let place = stage.place("bookinfo/ratings", FIRST).await?;
        ensure!(shows(&place), "{place}");
        Ok(())
    })
    .await;
    watch.goes_on(2).await;
    let place = stage.place("bookinfo/ratings", FIRST).await.expect("a place");
    assert_eq!((place["share"].as_f64(), shows(&place)), (Some(1.0), true), "no policy says to leave: {place}");
}

/// Errors leave a cluster only if the policy says so, and noise between the two limits moves nothing.
pub async fn errors(stage: &Stage) -> Figures {
    let fails = |share: f64| stage.fault(FIRST, "ratings", json!({ "errorShare": share }));
    stage.policy(NEXT, "  leave: {errorRate: {above: 0.3, below: 0.1, over: 4s}}\n").await;
    let watch = Watch::ratings(stage).await;
    stage.until_served_by(FIRST, 1.0).await;
    let event = watch.now();
    fails(0.5).await;
    let left = left(stage, &watch).await;
    // Errors below the upper limit and above the lower one: it is tried again, and then nothing moves.
    fails(0.05).await;
    stage.until_served_by(FIRST, 1.0).await;
    fails(0.2).await;
    let noise = watch.now();
    watch.goes_on(7).await;
    let end = watch.now();
    stage.no_policy(NEXT).await;
    fails(0.5).await;
    is_kept_without_a_policy(stage, &watch, |place| place["error_rate"].as_f64() > Some(0.4)).await;
    stage.fault(FIRST, "ratings", json!({})).await;
    let seen = watch.finish().await;
    // Until then its sidecar may not have heard how it stands.
    let heard = |at: Duration| at + SECOND + seen.stall();
    let kept = seen.samples.iter().filter(|one| one.due > heard(noise));
    let moved = kept.filter(|one| one.cluster == NEXT).count();
    assert!(moved <= seen.passed_by(), "noise, or errors without a policy, moved {moved} requests");
    assert!(seen.samples.iter().any(|one| one.due > noise && one.due < end && one.failed()), "there was noise");
    // What is left is not tried again before.
    let end = (heard(left) + SECOND).min(left + STABLE);
    let during = seen.samples.iter().filter(|one| one.due > heard(left) && one.due < end && one.failed()).count();
    assert_eq!(during, 0, "once it was left no request failed");
    let figures = seen.left(FIRST, event, Some(left + SECOND));
    let seen = seen.within(Duration::ZERO, left + SECOND);
    let note = "failures are its own 500s, a half of what it answered; left by policy alone".into();
    Figures { left: figures.left, decided: Some(left - event), note, ..seen.figures() }
}

/// Ten times slower leaves a cluster only if the policy says so.
pub async fn slow(stage: &Stage) -> Figures {
    let slow = if cfg!(debug_assertions) { 900 } else { 150 };
    stage.policy(NEXT, &format!("  leave: {{latency: {{above: {}ms, percentile: 50, over: 4s}}}}\n", slow / 2)).await;
    let watch = Watch::ratings(stage).await;
    stage.until_served_by(FIRST, 1.0).await;
    let event = watch.now();
    stage.fault(FIRST, "ratings", json!({ "delayMs": slow })).await;
    let left = left(stage, &watch).await;
    stage.until_served_by(NEXT, 1.0).await;
    stage.fault(FIRST, "ratings", json!({})).await;
    let well = watch.now();
    stage.until_served_by(FIRST, 1.0).await;
    let place = stage.place("bookinfo/ratings", FIRST).await.expect("a place");
    stage.no_policy(NEXT).await;
    let unbound = watch.now();
    stage.fault(FIRST, "ratings", json!({ "delayMs": slow })).await;
    is_kept_without_a_policy(stage, &watch, |place| place["p90_ms"].as_u64() > Some(slow / 2)).await;
    stage.fault(FIRST, "ratings", json!({})).await;
    let seen = watch.finish().await;
    assert_eq!(seen.figures().failed, 0, "slow is no failure");
    let elsewhere = seen.samples.iter().filter(|one| one.due > unbound && one.cluster == NEXT).count();
    assert_eq!(elsewhere, 0, "requests left it without a policy");
    let figures = seen.left(FIRST, event, Some(well));
    let seen = seen.within(Duration::ZERO, unbound);
    Figures {
        left: figures.left,
        decided: Some(left - event),
        back: figures.back,
        note: format!("left by policy alone; then p90 {} ms", place["p90_ms"]),
        ..seen.figures()
    }
}
