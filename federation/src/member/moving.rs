//! The only vote of a mesh of two clusters, moved to the other one (DESIGN.md decision 14). Where three or five vote there
//! is nothing to move: the leader keeps that number itself.

use std::{collections::BTreeSet, time::Duration};

use openraft::async_runtime::WatchReceiver;

use super::{Member, metrics_of};
use crate::{error::Refusal, raft::Raft};

/// Who leads finishes a move that it finds half done at its next look.
const SETTLES: Duration = Duration::from_secs(10);

impl Member {
    /// Gives the only vote to the member of `cluster`; only the member that has it can.
    ///
    /// # Errors
    /// When more than one votes, another member leads, or the other one is no member or cannot be reached.
    pub(crate) async fn move_vote(&self, cluster: &str) -> Result<(), Refusal> {
        let raft = self.raft().ok_or_else(Refusal::of_no_mesh)?;
        let voters = self.voters();
        let [(_, holder)] = voters.as_slice() else {
            let error = format!("{} members vote, and the leader keeps that number", voters.len());
            return Err(Refusal::new(error, "a vote is moved only where one alone votes: in a mesh of two clusters"));
        };
        if holder != self.cluster() {
            return Err(Refusal::new(format!("{holder} has the vote"), format!("ask its member: --at {holder}")));
        }
        let metrics = metrics_of(raft);
        let mut nodes = metrics.membership_config.membership().nodes();
        let to = nodes.find(|(id, node)| node.cluster == cluster && self.reaches(**id, cluster));
        let (to, _) = to.ok_or_else(|| {
            let error = format!("{cluster} is no member that can be reached from {holder}");
            Refusal::new(error, "see `isthmus clusters`, and bring its member up")
        })?;
        let moved = {
            let _alone = self.changing.lock().await;
            raft.change_membership(BTreeSet::from([*to]), true).await
        };
        let Err(error) = moved else { return Ok(()) };
        // Both vote while it moves. Where the other one came to lead by that, it keeps the vote, and the move is done.
        let votes_alone = tokio::time::timeout(SETTLES, votes_alone(raft)).await.ok().flatten();
        if votes_alone == Some(*to) {
            return Ok(());
        }
        Err(Refusal::new(
            format!("the vote did not move: {error}"),
            "see who votes with `isthmus clusters`, and try again",
        ))
    }
}

/// Waits until one votes alone; `None`: Raft stopped.
async fn votes_alone(raft: &Raft) -> Option<u64> {
    let mut metrics = raft.metrics();
    loop {
        let voters: Vec<u64> = metrics.borrow_watched().membership_config.membership().voter_ids().collect();
        if let [alone] = voters.as_slice() {
            return Some(*alone);
        }
        metrics.changed().await.ok()?;
    }
}
