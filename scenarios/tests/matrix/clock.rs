//! A cluster whose clock is wrong, by libfaketime.

use std::{path::PathBuf, process::Child};

use isthmus_scenarios::{admin, plan::Process};
use serde_json::Value;

use crate::{
    row::Figures,
    stage::{FIRST, HERE, PATIENCE, Stage},
    support::{binary, eventually},
    watch::{LEFT_WITHIN, Watch},
};

/// It comes back with its clock an hour ahead, then an hour behind: certificates say so, and nothing is sent there. With
/// the clock right all is well, and stays so when the clock of the running cluster is set wrong: leases do not depend on it.
pub async fn is_wrong(stage: &Stage) -> Figures {
    let watch = Watch::ratings(stage).await;
    let died = watch.now();
    stage.mesh.kill(FIRST, &[]).await;
    stage.mesh.wait_standing(HERE, FIRST, "dead", PATIENCE).await;
    comes_back_wrong(stage, &watch, "+1h", HERE).await;
    // An hour behind it is the other one's certificates that it cannot believe.
    comes_back_wrong(stage, &watch, "-1h", FIRST).await;
    let right = watch.now();
    let clock = Skewed::start(stage, "+0");
    stage.until_served_by(FIRST, 1.0).await;
    for wrong in ["+1h", "-1h"] {
        clock.set(wrong);
        watch.goes_on(8).await;
        let view = stage.mesh.view(HERE, FIRST).await.expect("control answers");
        assert_eq!(view["standing"], "alive", "leases do not depend on the clock, {wrong}: {view}");
        assert!(view["lease_age_ms"].as_u64() < Some(4_000), "{wrong}: {view}");
    }
    let seen = watch.finish().await.unharmed();
    drop(clock);
    stage.mesh.start(FIRST, &[]);
    let early = seen.part(FIRST, died + LEFT_WITHIN, right);
    assert!(early.abs() < f64::EPSILON, "it got {early:.3} of the requests with its clock wrong");
    let note =
        "certificates said so, an hour ahead and an hour behind; leases of the running cluster went on with either"
            .into();
    Figures { note, ..seen.left_in_time(FIRST, died, Some(right)) }
}

/// It runs for a while with its clock wrong: a gateway says why it lets nobody in, each of the two clusters why it has no path
/// to the other, and it is not returned to.
async fn comes_back_wrong(stage: &Stage, watch: &Watch<'_>, wrong: &str, who: &str) {
    let log = stage.mesh.mesh.state.log(&stage.mesh.cluster(who).name, "gateway");
    let before = std::fs::read_to_string(&log).map_or(0, |text| text.len());
    let clock = Skewed::start(stage, wrong);
    eventually(&format!("the gateway of {who} says that a clock is wrong, {wrong}"), PATIENCE, || async {
        let text = std::fs::read_to_string(&log)?;
        let said = text.get(before..).unwrap_or_default();
        let says = |line: &str| line.contains("is not valid yet, for another") && line.contains("is a clock wrong?");
        anyhow::ensure!(said.lines().any(says), "{}", said.lines().last().unwrap_or_default());
        Ok(())
    })
    .await;
    says_why(stage, wrong, HERE, FIRST).await;
    says_why(stage, wrong, FIRST, HERE).await;
    watch.goes_on(3).await;
    let view = stage.mesh.view(HERE, FIRST).await.expect("control answers");
    assert!(["dead", "cutOff"].contains(&view["standing"].as_str().unwrap()), "{wrong}: {view}");
    drop(clock);
}

/// What `isthmus clusters` prints says it, and so does `isthmus failover status` of a service that is sent elsewhere.
async fn says_why(stage: &Stage, wrong: &str, from: &str, of: &str) {
    eventually(&format!("{from} says of {of} that a clock is wrong, {wrong}"), PATIENCE, || async {
        let view = stage.mesh.view(from, of).await?;
        let rows = admin::read(stage.mesh.control(from), "/api/failover").await?;
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut places = rows.iter().flat_map(|row| row["places"].as_array().into_iter().flatten());
        let says = |why: &Value| why.as_str().is_some_and(|why| why.contains("is a clock wrong?"));
        anyhow::ensure!(says(&view["why"]), "{view}");
        anyhow::ensure!(places.any(|place| place["cluster"] == of && says(&place["why"])), "{rows:?}");
        Ok(())
    })
    .await;
}

/// The first cluster's processes with a clock that is wrong.
struct Skewed {
    processes: Vec<Child>,
    offset: PathBuf,
}

impl Skewed {
    /// Begins them; leaves that were kept are good for hours yet, so they ask for new ones.
    fn start(stage: &Stage, offset: &str) -> Self {
        let library = ["x86_64", "aarch64"].map(|arch| format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1"));
        let library = library.into_iter().find(|path| std::path::Path::new(path).exists());
        let library = library.expect("this row needs libfaketime (Debian package libfaketime)");
        let mut skewed = Self { processes: vec![], offset: stage.mesh.folder.path().join("clock") };
        skewed.set(offset);
        let all = stage.mesh.mesh.plan.processes().into_iter();
        let processes = all.filter(|one| one.cluster.as_str() == FIRST);
        skewed.processes = processes.map(|process| skewed.spawn(stage, &library, &process)).collect();
        skewed
    }

    fn spawn(&self, stage: &Stage, library: &str, process: &Process) -> Child {
        let state = &stage.mesh.mesh.state;
        let _ = std::fs::remove_file(state.role(&process.cluster, &process.name).join("identity.json"));
        let log = state.log(&process.cluster, &process.name);
        let log = std::fs::OpenOptions::new().append(true).create(true).open(log).expect("its log opens");
        std::process::Command::new(binary())
            .arg(process.role.subcommand())
            .arg("--config")
            .arg(state.run(&process.cluster, &process.name))
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .stdout(log.try_clone().expect("its log opens"))
            .stderr(log)
            .spawn()
            .expect("it starts")
    }

    /// Sets the clock of all of them, which they see within a second.
    fn set(&self, offset: &str) {
        std::fs::write(&self.offset, offset).expect("the clock is set");
    }
}

impl Drop for Skewed {
    fn drop(&mut self) {
        for child in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
