//! What a member of a story does by itself: batches statements into the log, and as the leader keeps the voters.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_federation::{
    raft::Node,
    voters::{self, Contact, Step},
};
use openraft::ChangeMembers;

use crate::{
    member::Member,
    network::Ear,
    types::{self, millis},
    words,
};

/// Begins both.
pub fn spawn(member: &Arc<Member>) {
    types::spawn(batch(Arc::clone(member)));
    types::spawn(keep_voters(Arc::clone(member)));
}

async fn batch(member: Arc<Member>) {
    while member.is_up() {
        millis(200).await;
        let waiting: Vec<_> = member.pending.lock().values().cloned().collect();
        if !waiting.is_empty() && member.write(&words::statements(&waiting)).await.is_ok() {
            member.pending.lock().retain(|_, statement| !waiting.contains(statement));
        }
    }
    // The power is cut; what is left of the process goes.
    let _ = member.raft().shutdown().await;
}

async fn keep_voters(member: Arc<Member>) {
    while member.is_up() {
        millis(200).await;
        if !member.raft().is_leader() {
            continue;
        }
        let members = member.view.members().into_iter().filter(|record| !record.ejected);
        let wanted: BTreeMap<u64, Node> =
            members.map(|record| (record.raft_id, Node { cluster: record.cluster })).collect();
        if !wanted.is_empty() {
            step(&member, &wanted).await;
        }
    }
}

async fn step(member: &Member, wanted: &BTreeMap<u64, Node>) {
    let raft = member.raft();
    let metrics = member.metrics();
    let contact = |node: &Node| Contact {
        reachable: node.cluster == member.cluster() || member.place.network.has(member.cluster(), &node.cluster),
        // A story is told in less than the ten minutes after which it would count.
        silent: Duration::ZERO,
        named: true,
    };
    let step = voters::next(metrics.membership_config.membership(), metrics.id, wanted, contact);
    if let Some(step) = &step {
        member.place.witness.note(&format!("{} changes the membership: {step:?}", member.cluster()));
    }
    let _ = match step {
        Some(Step::Learner(id, node)) => raft.add_learner(id, node, false).await,
        Some(Step::Voters(next)) => raft.change_membership(next, true).await,
        Some(Step::Gone(gone)) => raft.change_membership(ChangeMembers::RemoveNodes(gone), false).await,
        None => return,
    };
}
