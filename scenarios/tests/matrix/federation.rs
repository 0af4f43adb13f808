//! Controls and members that die while workloads live: nothing moves.

use std::time::Duration;

use isthmus_scenarios::admin;
use serde_json::json;

use crate::{
    row::Figures,
    stage::{FIRST, HERE, NEXT, PATIENCE, Stage, WITNESS},
    support::eventually,
    watch::{Seen, Watch},
};

/// Shown within so long; an unoptimised build is slower to notice that a feed ended.
const SHOWN_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 5 });

fn nothing_moved(seen: &Seen) {
    let moves = seen.moves(Duration::ZERO);
    assert!(!seen.looks.anybody_was_left(), "nobody may be left: {moves:?}");
    let elsewhere = seen.samples.iter().filter(|one| !one.failed() && one.cluster != moves[0].1).count();
    assert!(elsewhere <= seen.passed_by(), "nothing may move: {elsewhere} were answered elsewhere: {moves:?}");
}

async fn blind_for(stage: &Stage, seconds: u32) -> Figures {
    let watch = Watch::ratings(stage).await;
    let event = watch.now();
    stage.mesh.kill(FIRST, &["control", "federation"]).await;
    stage.mesh.wait_standing(HERE, FIRST, "blind", PATIENCE).await;
    let shown = watch.now() - event;
    watch.goes_on(seconds).await;
    let view = stage.mesh.view(HERE, FIRST).await.expect("control answers");
    assert_eq!(view["standing"], "blind", "{view}");
    let place = stage.place("bookinfo/ratings", FIRST).await.expect("a place");
    assert_eq!((place["healthy"].as_u64(), place["total"].as_u64()), (Some(3), Some(3)), "frozen: {place}");
    stage.mesh.start(FIRST, &["control", "federation"]);
    stage.mesh.wait_standing(HERE, FIRST, "alive", PATIENCE).await;
    let seen = watch.finish().await.unharmed();
    assert!(shown < SHOWN_WITHIN + seen.stall(), "shown as blind after {shown:?}");
    nothing_moved(&seen);
    Figures { note: format!("shown as blind after {:.1} s, nothing moved", shown.as_secs_f64()), ..seen.figures() }
}

pub async fn blind(stage: &Stage) -> Figures {
    blind_for(stage, 3).await
}

pub async fn blind_for_a_minute(stage: &Stage) -> Figures {
    blind_for(stage, 60).await
}

pub async fn member_down(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let event = watch.now();
    stage.mesh.kill(FIRST, &["federation"]).await;
    stage.mesh.wait_standing(HERE, FIRST, "memberDown", PATIENCE).await;
    let shown = watch.now() - event;
    watch.goes_on(2).await;
    stage.mesh.start(FIRST, &["federation"]);
    stage.mesh.wait_standing(HERE, FIRST, "alive", PATIENCE).await;
    let seen = watch.finish().await.unharmed();
    nothing_moved(&seen);
    Figures {
        note: format!("shown as member down after {:.1} s, nothing moved", shown.as_secs_f64()),
        ..seen.figures()
    }
}

/// With them the quorum is lost; the member of the cluster that answers first is a learner, and lives.
const VOTERS: [&str; 2] = [NEXT, WITNESS];

/// An endpoint becomes unready, and ready again: it is seen here, though nothing can be written.
async fn endpoints_go_on(stage: &Stage) {
    let sees = |healthy: u64| async move {
        eventually(&format!("{healthy} endpoints are seen without a quorum"), PATIENCE, || async {
            let place = stage.place("bookinfo/ratings", FIRST).await?;
            anyhow::ensure!(place["healthy"] == healthy, "{place}");
            Ok(())
        })
        .await;
    };
    sees(3).await;
    stage.mesh.kill(FIRST, &["ratings-more-1.app"]).await;
    sees(2).await;
    stage.mesh.start(FIRST, &["ratings-more-1.app"]);
    sees(3).await;
}

/// Two of three voters die: writes are refused, endpoints go on, and a drain works where it is done, marked local.
pub async fn no_quorum(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    for victim in VOTERS {
        stage.mesh.kill(victim, &["federation"]).await;
    }
    let token = json!({ "cluster": "ap-south", "ttl_seconds": 60 });
    let refused = admin::send(stage.mesh.member(HERE), "/tokens", &token, Duration::from_secs(20)).await;
    let refusal = format!("{:#}", refused.expect_err("a write needs a quorum"));
    assert!(refusal.contains("no quorum: 1 of 3 voters can be reached from us-west"), "{refusal}");
    assert!(refusal.contains("bring a voter back, then write again"), "the remedy: {refusal}");
    endpoints_go_on(stage).await;
    let drained = watch.now();
    let done = stage.wish(HERE, json!({ "verb": "drain", "cluster": FIRST, "over": "2s" })).await;
    assert_eq!(done["local"], true, "{done}");
    stage.until_served_by(NEXT, 1.0).await;
    let gone = watch.now();
    let verbs = stage.rows(HERE, "/api/verbs").await;
    assert_eq!((&verbs[0]["local"], &verbs[0]["binds"]), (&json!(true), &json!(true)), "{verbs:?}");
    watch.goes_on(1).await;
    for victim in VOTERS {
        stage.mesh.start(victim, &["federation"]);
    }
    eventually("the drain is written once there is a quorum", PATIENCE, || async {
        let verbs = stage.rows(HERE, "/api/verbs").await;
        anyhow::ensure!(verbs[0]["local"] == false, "{verbs:?}");
        Ok(())
    })
    .await;
    let undrained = watch.now();
    stage.take_back(HERE, &format!("drain-{FIRST}")).await;
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await.unharmed();
    Figures {
        note: "drain over 2 s worked without a quorum, marked local, and was written when there was one".into(),
        decided: Some(gone - drained),
        ..seen.left(FIRST, drained, Some(undrained))
    }
}

/// All members die; leases go by the tunnels, and a gateway that dies then is still left.
pub async fn no_members(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    for victim in [FIRST, NEXT, HERE, WITNESS] {
        stage.mesh.kill(victim, &["federation"]).await;
    }
    stage.mesh.wait_standing(HERE, FIRST, "memberDown", PATIENCE).await;
    watch.goes_on(5).await;
    let view = stage.mesh.view(HERE, FIRST).await.expect("control answers");
    assert_eq!((&view["standing"], &view["lease_by"]), (&json!("memberDown"), &json!("tunnel")), "{view}");
    let died = watch.now();
    stage.mesh.kill(FIRST, &["gateway"]).await;
    stage.until_served_by(NEXT, 1.0).await;
    watch.goes_on(1).await;
    let returned = watch.now();
    stage.mesh.start(FIRST, &["gateway"]);
    for victim in [FIRST, NEXT, HERE, WITNESS] {
        stage.mesh.start(victim, &["federation"]);
    }
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await.unharmed();
    let note = "without members a gateway that died was left".into();
    Figures { note, ..seen.left_in_time(FIRST, died, Some(returned)) }
}
