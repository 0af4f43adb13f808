//! Writes: any member takes one and finds the leader, wherever it is.

use std::time::Duration;

use isthmus_wire::federation::ProposeAnswer;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::Instant;

use super::Member;
use crate::{
    config::WRITE_LIMIT,
    error::Refusal,
    state::{Answer, Command},
};

/// Between two tries of a write.
const TRY_AGAIN: Duration = Duration::from_millis(50);

enum Tried {
    Done(Answer),
    NoLeader,
}

impl Member {
    /// Proposes a command, wherever the leader is.
    ///
    /// # Errors
    /// [`Refusal`]: the state machine's own, or that there is no quorum.
    pub async fn write(&self, command: Command) -> Result<(), Refusal> {
        let until = Instant::now() + WRITE_LIMIT;
        while Instant::now() < until {
            let left = until - Instant::now();
            match tokio::time::timeout(left, self.try_write(command.clone(), left)).await {
                Ok(Tried::Done(Answer::Done)) => return Ok(()),
                Ok(Tried::Done(Answer::Refused(reason))) => {
                    return Err(Refusal::new(reason, "look at `isthmus clusters` for the members as they are"));
                }
                Ok(Tried::NoLeader) => tokio::time::sleep(TRY_AGAIN).await,
                Err(_) => break,
            }
        }
        Err(self.unwritten())
    }

    async fn try_write(&self, command: Command, limit: Duration) -> Tried {
        let Some(raft) = self.raft() else { return Tried::NoLeader };
        match raft.client_write(command.clone()).await {
            Ok(written) => Tried::Done(written.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                let Some(leader) = to.leader_node.filter(|node| node.cluster != self.cluster()) else {
                    return Tried::NoLeader;
                };
                let bytes = serde_json::to_vec(&command).unwrap_or_default();
                match self.sessions.propose(&leader.cluster, bytes, limit).await {
                    Ok(ProposeAnswer { error, .. }) if error.is_empty() => Tried::Done(Answer::Done),
                    Ok(ProposeAnswer { error, leader, .. }) if leader.is_empty() => Tried::Done(Answer::Refused(error)),
                    _ => Tried::NoLeader,
                }
            }
            Err(_) => Tried::NoLeader,
        }
    }
}
