//! Clusters, applications and machines that die, and come back.

use std::time::Duration;

use isthmus_scenarios::{layout, operator};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    row::Figures,
    stage::{FIRST, HERE, NEXT, PATIENCE, Stage},
    support::eventually,
    watch::{LEFT_WITHIN, Watch},
};

pub async fn every_process(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let died = watch.now();
    stage.mesh.kill(FIRST, &[]).await;
    stage.mesh.wait_standing(HERE, FIRST, "dead", PATIENCE).await;
    watch.goes_on(1).await;
    let returned = watch.now();
    stage.mesh.start(FIRST, &[]);
    stage.until_served_by(FIRST, 1.0).await;
    let whole = watch.now();
    watch.goes_on(1).await;
    let seen = watch.finish().await.unharmed();
    let figures = seen.left_in_time(FIRST, died, Some(returned));
    let returning = seen.returned_to_unasked(FIRST, died, returned);
    let fifth = seen.part(FIRST, returning, returning + Duration::from_secs(4));
    assert!(fifth <= 0.25, "at most a fifth in the first 5 s of the ramp: {fifth:.2}");
    Figures {
        note: format!(
            "ramp began {:.1} s after its start, whole {:.1} s after that; {:.0} % in its first 4 s",
            (returning - returned).as_secs_f64(),
            (whole - returning).as_secs_f64(),
            fifth * 100.0
        ),
        ..figures
    }
}

pub async fn own_applications(stage: &Stage) -> Figures {
    let watch = Watch::on(stage, "reviews").await;
    let own = stage.applications(HERE, "reviews");
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    let one_died = watch.now();
    if let [one, _, ..] = own.as_slice() {
        stage.mesh.kill(HERE, &[one]).await;
        watch.goes_on(3).await;
    }
    let died = watch.now();
    stage.mesh.kill(HERE, &own).await;
    eventually("all are known to be dead", PATIENCE, || async {
        let place = stage.place("bookinfo/reviews", HERE).await?;
        anyhow::ensure!(place["part"].as_f64() == Some(0.0), "{place}");
        Ok(())
    })
    .await;
    let decided = watch.now() - died;
    watch.goes_on(1).await;
    let returned = watch.now();
    stage.mesh.start(HERE, &own);
    eventually("the own cluster answers again", PATIENCE, || async {
        let place = stage.place("bookinfo/reviews", HERE).await?;
        anyhow::ensure!(place["part"].as_f64() == Some(1.0), "{place}");
        Ok(())
    })
    .await;
    watch.goes_on(1).await;
    let seen = watch.finish().await.unharmed();
    let kept = seen.part(HERE, one_died, died);
    // Half of them healthy is half ÷ 0.7 of the tier; the rest goes on to the next.
    assert!(
        own.len() == 1 || kept > 0.5 / 0.7 - 0.05,
        "another endpoint of the own cluster takes it: {kept:.3} of the requests stayed"
    );
    // Its own endpoints are not behind a gateway, which counts what goes there.
    Figures { left: None, decided: Some(decided), ..seen.left(HERE, died, Some(returned)) }
}

pub async fn a_survivor(stage: &Stage) -> Figures {
    let own = stage.applications(HERE, "reviews");
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    let watch = Watch::on(stage, "reviews").await;
    stage.mesh.kill(HERE, &own).await;
    stage.mesh.kill(FIRST, &["reviews-v3-a.app"]).await;
    eventually("the survivor carries it", PATIENCE, || async {
        let place = stage.place("bookinfo/reviews", NEXT).await?;
        anyhow::ensure!(place["part"].as_f64() == Some(1.0), "{place}");
        Ok(())
    })
    .await;
    // The first one serves again, and then the survivor dies under the whole load.
    stage.mesh.start(FIRST, &["reviews-v3-a.app"]);
    eventually("the first is ready again", PATIENCE, || async {
        let place = stage.place("bookinfo/reviews", FIRST).await?;
        anyhow::ensure!(place["healthy"] == 1, "{place}");
        Ok(())
    })
    .await;
    let died = watch.now();
    stage.mesh.kill(NEXT, &[]).await;
    stage.mesh.wait_standing(HERE, NEXT, "dead", PATIENCE).await;
    watch.goes_on(2).await;
    let seen = watch.finish().await.unharmed();
    let figures = seen.left_in_time(NEXT, died, None);
    stage.mesh.start(NEXT, &[]);
    stage.mesh.start(HERE, &own);
    figures
}

pub async fn comes_back_empty_handed(stage: &Stage) -> Figures {
    let applications: Vec<_> =
        ["ratings", "reviews", "echo"].iter().flat_map(|app| stage.applications(FIRST, app)).collect();
    let watch = Watch::ratings(stage).await;
    let died = watch.now();
    stage.mesh.kill(FIRST, &[]).await;
    stage.mesh.wait_standing(HERE, FIRST, "dead", PATIENCE).await;
    let all = stage.mesh.mesh.supervisor.processes();
    let others: Vec<_> = all
        .iter()
        .filter(|one| one.cluster.as_str() == FIRST && !applications.contains(&format!("{}.app", one.name)))
        .map(|one| one.name.as_str())
        .collect();
    stage.mesh.start(FIRST, &others);
    // The cluster is back, its endpoints are not: nothing may go there.
    stage.mesh.wait_standing(HERE, FIRST, "alive", PATIENCE).await;
    let empty = watch.now();
    let place = stage.place("bookinfo/ratings", FIRST).await.expect("it still exports ratings");
    assert_eq!(place["part"].as_f64(), Some(0.0), "{place}");
    let applications: Vec<_> = applications.iter().map(String::as_str).collect();
    stage.mesh.start(FIRST, &applications);
    stage.until_served_by(FIRST, 1.0).await;
    watch.goes_on(1).await;
    let seen = watch.finish().await.unharmed();
    let early = seen.part(FIRST, died + LEFT_WITHIN, empty);
    assert!(early.abs() < f64::EPSILON, "it got {early:.3} of the requests before it could serve");
    seen.left(FIRST, died, Some(empty))
}

pub async fn the_machine_stalls(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let all = stage.mesh.mesh.supervisor.processes();
    let pids: Vec<_> = all.iter().filter_map(|one| Pid::from_raw(i32::try_from(one.pid?).ok()?)).collect();
    assert!(pids.len() > 20, "{all:?}");
    let send = |signal| {
        pids.iter().for_each(|pid| {
            let _ = kill_process(*pid, signal);
        })
    };
    let stalled = watch.now();
    send(Signal::STOP);
    // This second is the event itself.
    tokio::time::sleep(Duration::from_secs(1)).await;
    send(Signal::CONT);
    watch.goes_on(10).await;
    let seen = watch.finish().await;
    let figures = seen.left(FIRST, stalled, None);
    assert_eq!(figures.failed, 0, "{:?}", seen.samples.iter().find(|sample| sample.failed()));
    let limit = Duration::from_secs(1) + figures.control.max(Duration::from_secs(3));
    assert!(figures.slowest < limit, "slowest {:?}, of the control {:?}", figures.slowest, figures.control);
    for other in [FIRST, NEXT] {
        let view = stage.mesh.view(HERE, other).await.expect("control answers");
        assert_eq!(view["standing"], "alive", "nobody is dead: {view}");
    }
    Figures { left: None, note: "nobody was left".into(), ..figures }
}

pub async fn is_reinstalled(stage: &Stage) -> Figures {
    let mesh = &stage.mesh;
    let watch = Watch::ratings(stage).await;
    let died = watch.now();
    mesh.kill(FIRST, &[]).await;
    mesh.wait_standing(HERE, FIRST, "dead", PATIENCE).await;
    // Keys, roots and state are gone with the old machines.
    let folder = mesh.mesh.state.cluster(&mesh.cluster(FIRST).name);
    std::fs::remove_dir_all(&folder).expect("the old installation goes");
    layout::write(&mesh.mesh.plan, &mesh.mesh.state).expect("a new one is written");
    let started = watch.now();
    mesh.start(FIRST, &[]);
    let member = mesh.member(FIRST);
    eventually("the new member answers", PATIENCE, || async { operator::standing(member).await.map(drop) }).await;
    let ttl = Duration::from_secs(600);
    // A cluster that operates nothing cannot give the name away; an operator can.
    let stranger = operator::create_token(mesh.member(HERE), FIRST, ttl).await.expect("whoever is a member invites");
    let refused = operator::join(member, &stranger, &[]).await.expect_err("only operators let a known name in anew");
    let refused = format!("{refused:#}");
    let reason =
        format!("{FIRST} is a member's name already and {HERE} is no operator of this mesh; take a token of one");
    assert!(refused.contains(&reason), "{refused}");
    let token = operator::create_token(mesh.member(NEXT), FIRST, ttl).await.expect("an operator issues a token");
    operator::join(member, &token, &[]).await.expect("it joins under its old name");
    stage.until_served_by(FIRST, 1.0).await;
    watch.goes_on(1).await;
    let seen = watch.finish().await.unharmed();
    seen.left(FIRST, died, Some(started))
}
