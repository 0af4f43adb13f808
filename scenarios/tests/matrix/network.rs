//! The network between clusters that live.

use std::time::Duration;

use isthmus_scenarios::wan::settings::Change;

use crate::{
    row::Figures,
    stage::{HERE, PATIENCE, Stage},
    watch::Watch,
};

/// The nearer one answers first: 30 ms from us-west, and the other 140 ms.
pub const FIRST: &str = "us-east";
const NEXT: &str = "eu-west";

/// Everything to and from the cluster is lost for 35 s: nothing says goodbye.
pub async fn silent(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let event = watch.now();
    stage.mesh.links_of(FIRST, Change::cut());
    stage.mesh.wait_standing(HERE, FIRST, "dead", PATIENCE).await;
    let quick = if cfg!(debug_assertions) { 5 } else { 35 };
    watch.goes_on(quick).await;
    let end = watch.now();
    stage.mesh.heal();
    stage.until_served_by(FIRST, 1.0).await;
    watch.finish().await.unharmed().left(FIRST, event, Some(end))
}

/// Two cannot see each other, both see the third: each leaves the other, nobody is called dead by the third.
pub async fn cut_between(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let event = watch.now();
    stage.mesh.cut(HERE, FIRST);
    stage.mesh.wait_standing(HERE, FIRST, "cutOff", PATIENCE).await;
    stage.mesh.wait_standing(FIRST, HERE, "cutOff", PATIENCE).await;
    // Long enough for a lease to be lost that nobody relays.
    watch.goes_on(7).await;
    for (from, to) in [(HERE, FIRST), (FIRST, HERE)] {
        let view = stage.mesh.view(from, to).await.expect("control answers");
        assert_eq!(view["standing"], "cutOff", "its control is heard by way of the third: {view}");
    }
    for of in [HERE, FIRST] {
        let view = stage.mesh.view(NEXT, of).await.expect("control answers");
        assert_eq!(view["standing"], "alive", "the third calls nobody dead: {view}");
    }
    let why = stage.place("bookinfo/ratings", FIRST).await.expect("a place")["why"].to_string();
    let end = watch.now();
    stage.mesh.heal();
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await.unharmed();
    Figures { note: format!("status says {why}"), ..seen.left(FIRST, event, Some(end)) }
}

/// Packets pass one way only: both treat it as cut.
pub async fn cut_one_way(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let event = watch.now();
    stage.mesh.link(FIRST, HERE, Change::cut());
    stage.mesh.wait_standing(HERE, FIRST, "cutOff", PATIENCE).await;
    stage.mesh.wait_standing(FIRST, HERE, "cutOff", PATIENCE).await;
    watch.goes_on(2).await;
    let end = watch.now();
    stage.mesh.heal();
    stage.until_served_by(FIRST, 1.0).await;
    watch.finish().await.unharmed().left(FIRST, event, Some(end))
}

/// Down for 3 s, up for 3 s, five times: at most one move away, and one back, in each stable window.
pub async fn flaps(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let event = watch.now();
    let mut ups = vec![];
    for _ in 0..5 {
        stage.mesh.cut(HERE, FIRST);
        watch.goes_on(3).await;
        stage.mesh.heal();
        ups.push(watch.now());
        watch.goes_on(3).await;
    }
    let end = watch.now();
    stage.until_served_by(FIRST, 1.0).await;
    let whole = watch.now();
    let seen = watch.finish().await.answered();
    // Every share above nothing is a return; while it flaps each one takes longer than the last.
    let returns: Vec<_> =
        ups.iter().map(|up| seen.part(FIRST, *up, *up + Duration::from_secs(3))).filter(|part| *part > 0.01).collect();
    assert!(returns.len() <= 1, "it was returned to again and again while it flapped: {returns:?}");
    Figures {
        note: format!(
            "returned to {} times while it flapped, whole {:.0} s after",
            returns.len(),
            (whole - end).as_secs_f64()
        ),
        ..seen.left(FIRST, event, Some(end))
    }
}
