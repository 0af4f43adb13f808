//! Clusters that answer, but not well.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::{
    row::Figures,
    stage::{FIRST, NEXT, PATIENCE, Stage},
    support::eventually,
    watch::{RATE, Watch},
};

const SECOND: Duration = Duration::from_secs(1);

/// Traffic leaves in proportion, and the limit on the survivor holds: what is beyond stays where it was.
pub async fn unready_in_part(stage: &Stage) -> Figures {
    let limit = f64::from(RATE) * 0.3;
    stage.policy(NEXT, &format!("  caps: [{{clusters: [{NEXT}], requestsPerSecond: {limit}}}]\n")).await;
    let watch = Watch::ratings(stage).await;
    let two = ["ratings-more-1.app", "ratings-more-2.app"];
    stage.mesh.kill(FIRST, &two).await;
    let share = 1.0 / 3.0 / 0.7;
    stage.until_served_by(FIRST, share).await;
    // The importers' demand settles the parts of the limit.
    eventually("the limit is this cluster's alone", PATIENCE, || async {
        let place = stage.place("bookinfo/ratings", NEXT).await?;
        ensure!(place["limit"].as_f64().is_some_and(|part| part > limit * 0.95), "{place}");
        Ok(())
    })
    .await;
    let steady = watch.now();
    watch.goes_on(6).await;
    let end = watch.now();
    stage.mesh.start(FIRST, &two);
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await.unharmed();
    let to_next = seen.rate(NEXT, steady, end.min(steady + 5 * SECOND));
    assert!(to_next <= limit * 1.1, "the survivor got {to_next:.0} a second of {limit:.0}");
    // What a bucket is given while the machine itself stands still is lost beyond its depth.
    let stood_still = seen.figures().control.as_secs_f64() / 5.0;
    let least = limit * (0.9 - stood_still);
    assert!(to_next >= least, "and no less than it may: {to_next:.0} a second of {limit:.0}, {least:.0} at least");
    Figures {
        note: format!("the survivor got {to_next:.0}/s of a limit of {limit:.0}/s; {share:.2} stayed by health"),
        ..seen.figures()
    }
}

/// Errors leave a cluster only if the policy says so, and noise between the two limits moves nothing.
pub async fn errors(stage: &Stage) -> Figures {
    stage.fault(FIRST, "ratings", json!({ "errorShare": 0.5 })).await;
    let watch = Watch::ratings(stage).await;
    watch.goes_on(4).await;
    let place = stage.place("bookinfo/ratings", FIRST).await.expect("a place");
    assert_eq!(place["share"].as_f64(), Some(1.0), "no policy says to leave: {place}");
    assert!(place["error_rate"].as_f64() > Some(0.4), "{place}");
    stage.policy(NEXT, "  leave: {errorRate: {above: 0.3, below: 0.1, over: 4s}}\n").await;
    let event = watch.now();
    eventually("it is left", PATIENCE, || async {
        let place = stage.place("bookinfo/ratings", FIRST).await?;
        ensure!(place["share"].as_f64() == Some(0.0), "{place}");
        Ok(())
    })
    .await;
    let left = watch.now();
    // Errors below the upper limit and above the lower one: it is tried again, and then nothing moves.
    stage.fault(FIRST, "ratings", json!({ "errorShare": 0.05 })).await;
    stage.until_served_by(FIRST, 1.0).await;
    stage.fault(FIRST, "ratings", json!({ "errorShare": 0.2 })).await;
    let noise = watch.now();
    watch.goes_on(8).await;
    let end = watch.now();
    stage.fault(FIRST, "ratings", json!({})).await;
    let seen = watch.finish().await;
    let kept = seen.samples.iter().filter(|one| one.due > noise + SECOND && one.due < end);
    let elsewhere = kept.filter(|one| one.cluster == NEXT).count();
    assert_eq!(elsewhere, 0, "noise between the limits moved requests");
    let during = seen.samples.iter().filter(|one| one.due > left && one.due < left + SECOND && one.failed()).count();
    assert_eq!(during, 0, "once it was left no request failed");
    let note = "failures are its own 500s; left by policy alone".into();
    Figures { note, left: Some(left - event), ..seen.figures() }
}

/// Ten times slower leaves a cluster only if the policy says so.
pub async fn slow(stage: &Stage) -> Figures {
    let slow = if cfg!(debug_assertions) { 900 } else { 150 };
    stage.fault(FIRST, "ratings", json!({ "delayMs": slow })).await;
    let watch = Watch::ratings(stage).await;
    watch.goes_on(4).await;
    let place = stage.place("bookinfo/ratings", FIRST).await.expect("a place");
    assert_eq!(place["share"].as_f64(), Some(1.0), "no policy says to leave: {place}");
    stage.policy(NEXT, &format!("  leave: {{latency: {{above: {}ms, percentile: 50, over: 4s}}}}\n", slow / 2)).await;
    let event = watch.now();
    eventually("it is left", PATIENCE, || async {
        let place = stage.place("bookinfo/ratings", FIRST).await?;
        ensure!(place["share"].as_f64() == Some(0.0), "{place}");
        Ok(())
    })
    .await;
    stage.until_served_by(NEXT, 1.0).await;
    let left = watch.now();
    stage.fault(FIRST, "ratings", json!({})).await;
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await;
    assert_eq!(seen.figures().failed, 0, "slow is no failure");
    let place = stage.place("bookinfo/ratings", FIRST).await.expect("a place");
    Figures {
        note: format!("left by policy alone; then p90 {} ms", place["p90_ms"]),
        ..seen.left(FIRST, event, Some(left))
    }
}
