//! The network between clusters that live.

use std::time::Duration;

use isthmus_scenarios::{observe::Observer, wan::settings::Change};

use crate::{
    row::Figures,
    stage::{HERE, PATIENCE, Stage},
    watch::Watch,
};

/// The nearer one answers first: 30 ms from us-west, and the other 140 ms.
pub const FIRST: &str = "us-east";
const NEXT: &str = "eu-west";

/// Requests are disturbed for less than that in all.
const DISTURBED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 8_000 } else { 600 });

/// Everything to and from the cluster is lost for 35 s: nothing says goodbye.
pub async fn silent(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let event = watch.now();
    stage.mesh.links_of(FIRST, Change::cut());
    stage.mesh.wait_standing(HERE, FIRST, "dead", PATIENCE).await;
    let long = if cfg!(debug_assertions) { 3 } else { 35 };
    watch.goes_on(long).await;
    let end = watch.now();
    stage.mesh.heal();
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await.unharmed();
    let figures = seen.left_in_time(FIRST, event, Some(end));
    seen.returned_to_unasked(FIRST, event, end);
    let (disturbed, control) = (figures.disturbed, figures.control);
    assert!(disturbed < DISTURBED + control, "disturbed for {disturbed:?}, slowest of the control {control:?}");
    figures
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
    let why = names_the_path(stage).await;
    let end = watch.now();
    stage.mesh.heal();
    stage.until_served_by(FIRST, 1.0).await;
    let seen = watch.finish().await.unharmed();
    Figures { note: format!("status of both says {why:?}"), ..seen.left_in_time(FIRST, event, Some(end)) }
}

/// What status says: each of the two has lost the path to the other, and its control is heard by way of the third, which
/// sees both; what is said of the path.
async fn names_the_path(stage: &Stage) -> String {
    let mesh = &stage.mesh.mesh;
    let status = Observer::default().look(&mesh.plan, mesh.supervisor.processes()).await;
    let link = |from: &str, to: &str| {
        let view = status.iter().find(|one| one.name.as_str() == from).expect("it is in the status");
        view.links.iter().find(|link| link.to == to).expect("it sees the other").clone()
    };
    let why = "no path to it, but its control is heard by way of others";
    for (from, to) in [(HERE, FIRST), (FIRST, HERE)] {
        let seen = link(from, to);
        assert_eq!((seen.standing.as_str(), seen.why.as_str()), ("cutOff", why), "{to} from {from}: {seen:?}");
        let view = stage.mesh.view(from, to).await.expect("control answers");
        assert_eq!(view["paths"][0]["state"], "lost", "the path to {to} from {from}: {view}");
    }
    for pair in [(NEXT, HERE), (NEXT, FIRST), (HERE, NEXT), (FIRST, NEXT)] {
        let seen = link(pair.0, pair.1);
        assert_eq!(seen.standing, "alive", "nobody else is called dead: {pair:?}: {seen:?}");
    }
    let place = stage.place("bookinfo/ratings", FIRST).await.expect("a place");
    assert_eq!(place["why"], why, "{place}");
    why.to_owned()
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
    watch.finish().await.unharmed().left_in_time(FIRST, event, Some(end))
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
    let seen = watch.finish().await.unharmed();
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
