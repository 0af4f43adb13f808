//! What operators do, while things go wrong.

use std::time::Duration;

use serde_json::json;

use crate::{
    row::Figures,
    stage::{FIRST, HERE, NEXT, PATIENCE, Stage},
    watch::{Seen, Watch},
};

/// A drain of the first cluster by the operator, and its death in the middle of it: traffic leaves, and stays away until
/// the drain is taken back.
pub async fn drained_and_dies(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let begun = watch.now();
    let done = stage.wish(NEXT, json!({ "verb": "drain", "cluster": FIRST, "over": "8s" })).await;
    assert!(done["binds"].as_array().is_some_and(|all| all.contains(&json!(HERE))), "{done}");
    crate::support::eventually("half of it is gone", PATIENCE, || async {
        let place = stage.place("bookinfo/ratings", FIRST).await?;
        anyhow::ensure!(place["share"].as_f64() < Some(0.6), "{place}");
        Ok(())
    })
    .await;
    let died = watch.now();
    stage.mesh.kill(FIRST, &[]).await;
    stage.mesh.wait_standing(HERE, FIRST, "dead", PATIENCE).await;
    let gone = watch.now();
    stage.mesh.start(FIRST, &[]);
    stage.mesh.wait_standing(HERE, FIRST, "alive", PATIENCE).await;
    watch.goes_on(2).await;
    let undrained = watch.now();
    stage.take_back(NEXT, &format!("drain-{FIRST}")).await;
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await.unharmed();
    let back = seen.part(FIRST, gone, undrained);
    assert!(back.abs() < f64::EPSILON, "{back:.3} went back to a cluster that is drained");
    let second = Duration::from_secs(1);
    falls_only(&seen, begun, died);
    let (early, late) = (seen.part(FIRST, begun, begun + second), seen.part(FIRST, died - second, died));
    Figures {
        note: format!(
            "in the drain's first second it got {early:.2}, in its last before it died {late:.2}; nothing went back"
        ),
        ..seen.left(FIRST, died, Some(undrained))
    }
}

/// While it drains its part falls from second to second; what chance adds to a second is less than the tolerance.
fn falls_only(seen: &Seen, from: Duration, to: Duration) {
    let second = Duration::from_secs(1);
    let begins = (0..).map(|count| from + second * count).take_while(|begin| *begin + second <= to);
    let parts: Vec<_> = begins.map(|begin| seen.part(FIRST, begin, begin + second)).collect();
    let rises = |pair: &[f64]| pair[1] > pair[0] + if cfg!(debug_assertions) { 0.25 } else { 0.1 };
    assert!(
        parts.len() > 2 && !parts.windows(2).any(rises),
        "requests moved back in the middle of the drain: {parts:?}"
    );
}
