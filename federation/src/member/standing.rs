//! Who votes, and whether those who can be reached suffice. While who votes changes there are two sets of voters, and each
//! must agree by its majority (Raft, section 6).

use isthmus_core::statement::Version;
use isthmus_wire::federation::Standing;
use openraft::Membership;

use super::{Member, metrics_of};
use crate::{error::Refusal, raft::Node, state::version};

/// Voters that have to agree, each with whether it can be reached.
type Voters = Vec<(String, bool)>;

impl Member {
    /// Who votes, by Raft id and cluster.
    pub(super) fn voters(&self) -> Vec<(u64, String)> {
        let Some(raft) = self.raft() else { return vec![] };
        let metrics = metrics_of(raft);
        let membership = metrics.membership_config.membership();
        membership.voter_ids().map(|id| (id, cluster(membership, id))).collect()
    }

    /// Whether there is a session with the member of this Raft id: a cluster that came back has another id than before.
    pub(super) fn reaches(&self, id: u64, cluster: &str) -> bool {
        let is_now = self.view.members().iter().any(|record| record.cluster == cluster && record.raft_id == id);
        is_now && (cluster == self.cluster() || self.sessions.has(cluster))
    }

    fn sets(&self, membership: &Membership<u64, Node>) -> Vec<Voters> {
        let voter = |id: &u64| {
            let cluster = cluster(membership, *id);
            let reached = self.reaches(*id, &cluster);
            (cluster, reached)
        };
        membership.get_joint_config().iter().map(|set| set.iter().map(voter).collect()).collect()
    }

    /// How the federation stands, as this member sees it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let Some(raft) = self.raft() else { return Standing::default() };
        let metrics = metrics_of(raft);
        let membership = metrics.membership_config.membership();
        let (sets, written) = (self.sets(membership), self.written());
        Standing {
            leader: metrics.current_leader.map(|id| cluster(membership, id)).unwrap_or_default(),
            term: metrics.current_term,
            voters: membership.voter_ids().map(|id| cluster(membership, id)).collect(),
            learners: membership.learner_ids().map(|id| cluster(membership, id)).collect(),
            quorum: metrics.current_leader.is_some() && without_majority(&sets).is_none(),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            sessions: self.sessions.clusters(),
            written_epoch: written.epoch,
            written_number: written.number,
            changing: sets.len() > 1,
        }
    }

    /// Up to which version all that the own cluster said is in the log: below what still waits for it.
    fn written(&self) -> Version {
        let logged =
            self.machine().map(|machine| machine.look(|state| state.highest(self.cluster()))).unwrap_or_default();
        let waiting = self.pending.lock().values().map(version).min();
        let below = |first: Version| Version { number: first.number.saturating_sub(1), ..first };
        waiting.map_or(logged, |first| below(first).min(logged))
    }

    /// Why nothing could be written.
    pub(super) fn unwritten(&self) -> Refusal {
        let Some(raft) = self.raft() else { return Refusal::of_no_mesh() };
        let metrics = metrics_of(raft);
        let membership = metrics.membership_config.membership();
        let leader = metrics.current_leader.map(|id| cluster(membership, id));
        unwritten(&self.sets(membership), leader.as_deref(), self.cluster())
    }
}

fn cluster(membership: &Membership<u64, Node>, id: u64) -> String {
    membership.get_node(&id).map(|node| node.cluster.clone()).unwrap_or_default()
}

fn reached(set: &Voters) -> usize {
    set.iter().filter(|(_, reached)| *reached).count()
}

fn without_majority(sets: &[Voters]) -> Option<&Voters> {
    sets.iter().find(|set| reached(set) * 2 <= set.len())
}

fn unwritten(sets: &[Voters], leader: Option<&str>, own: &str) -> Refusal {
    if let Some(set) = without_majority(sets) {
        let away: Vec<_> = set.iter().filter(|(_, reached)| !reached).map(|(cluster, _)| cluster.as_str()).collect();
        let when = if sets.len() > 1 { " while who votes is being changed" } else { "" };
        let (here, all, away) = (reached(set), set.len(), away.join(", "));
        return Refusal::new(
            format!("no quorum{when}: {here} of {all} voters can be reached from {own} ({away} cannot)"),
            "traffic goes on and endpoints still flow; bring a voter back, then write again",
        );
    }
    let error = leader.map_or_else(
        || format!("there is no leader yet: enough voters can be reached from {own}, and they have elected none"),
        |leader| format!("{leader}, which leads, did not write it in time"),
    );
    Refusal::new(error, "traffic goes on and endpoints still flow; write again in a moment")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(voters: &[(&str, bool)]) -> Voters {
        voters.iter().map(|(cluster, reached)| ((*cluster).to_owned(), *reached)).collect()
    }

    #[test]
    fn a_majority_of_each_set_is_needed_while_who_votes_changes() {
        let (before, after) = (set(&[("us", false)]), set(&[("us", false), ("eu", true), ("ap", true)]));
        assert_eq!(without_majority(std::slice::from_ref(&after)), None);
        let both = [before.clone(), after];
        assert_eq!(without_majority(&both), Some(&before));
        let told = unwritten(&both, None, "eu").error;
        assert_eq!(
            told,
            "no quorum while who votes is being changed: 0 of 1 voters can be reached from eu (us cannot)"
        );
    }

    #[test]
    fn what_is_not_written_says_whom_it_wants_for() {
        let told = |voters: &[(&str, bool)], leader| unwritten(&[set(voters)], leader, "eu").error;
        let one_of_three = [("us", false), ("eu", true), ("ap", false)];
        assert_eq!(told(&one_of_three, None), "no quorum: 1 of 3 voters can be reached from eu (us, ap cannot)");
        let half = [("us", false), ("eu", true)];
        assert!(told(&half, Some("us")).starts_with("no quorum: 1 of 2 "), "a half is no majority");
        let all = [("us", true), ("eu", true), ("ap", false)];
        assert!(told(&all, None).starts_with("there is no leader yet"));
        assert_eq!(told(&all, Some("us")), "us, which leads, did not write it in time");
    }
}
