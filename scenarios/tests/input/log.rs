//! The Raft log of a member is cut while it is down: it does not begin, and says so with file, reason and remedy where
//! a person looks. Either remedy brings it back.

use isthmus_scenarios::operator;

use crate::{
    ground::{Ground, PATIENCE},
    support::eventually,
};

const CLUSTER: &str = "us-west";

pub async fn a_cut_log_is_refused_with_file_reason_and_remedy_and_both_remedies_help(ground: &Ground) {
    let folder = ground.folder(CLUSTER, "federation");
    let file = folder.join("log.redb");
    ground.raised.kill(CLUSTER, &["federation"]).await;
    let whole = std::fs::read(&file).expect("the member has a log");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("the log is cut");
    ground.raised.start(CLUSTER, &["federation"]);
    eventually("the member says why it does not begin", PATIENCE, || async {
        let told = ground.process(CLUSTER, "federation").last_exit.unwrap_or_default();
        for words in
            ["log.redb", "damaged", "move the member's folder away", "join again with a token", "restore the file"]
        {
            anyhow::ensure!(told.contains(words), "{words:?} is not in {told:?}");
        }
        Ok(())
    })
    .await;
    println!("told: {}", ground.process(CLUSTER, "federation").last_exit.unwrap_or_default());

    // The file as it was: it goes on where it stopped.
    ground.raised.kill(CLUSTER, &["federation"]).await;
    std::fs::write(&file, &whole).expect("the log is restored");
    ground.raised.start(CLUSTER, &["federation"]);
    catches_up(ground).await;

    // Or the folder moved away, and a token.
    ground.raised.kill(CLUSTER, &["federation"]).await;
    std::fs::rename(&folder, folder.with_extension("damaged")).expect("the folder is moved away");
    std::fs::create_dir_all(&folder).expect("an empty folder");
    ground.raised.start(CLUSTER, &["federation"]);
    let member = ground.raised.member(CLUSTER);
    let hour = std::time::Duration::from_secs(3600);
    eventually("it joins again with a token", PATIENCE, || async {
        let standing = operator::standing(member).await?;
        if standing["joined"] != true {
            let token = operator::create_token(ground.raised.member("us-east"), CLUSTER, hour).await?;
            operator::join(member, &token, &[]).await?;
        }
        Ok(())
    })
    .await;
    catches_up(ground).await;
}

/// The member has all that the others have, and hears them all.
pub async fn catches_up(ground: &Ground) {
    let (own, other) = (ground.raised.member(CLUSTER), ground.raised.member("us-east"));
    eventually("the member has caught up", PATIENCE, || async {
        let (own, other) = (operator::standing(own).await?, operator::standing(other).await?);
        anyhow::ensure!(own["joined"] == true, "{own}");
        anyhow::ensure!(
            own["applied"].as_u64() >= other["applied"].as_u64(),
            "{} {}",
            own["applied"],
            other["applied"]
        );
        anyhow::ensure!(own["sessions"].as_array().is_some_and(|all| all.len() >= 2), "{own}");
        // One that joined again votes under its new id only once the old one, which will never answer, is out.
        anyhow::ensure!(other["voters"].as_array().is_some_and(|all| all.len() == 3), "{other}");
        anyhow::ensure!(other["learners"].as_array().is_some_and(Vec::is_empty), "{other}");
        Ok(())
    })
    .await;
}
