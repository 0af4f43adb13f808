//! What a running member does by itself: dials the others, batches statements into the log, keeps the voters.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_runtime::{
    backoff::Backoff,
    enrolment::system_identity,
    grpc,
    tls::{self, Accept},
};
use isthmus_wire::{
    WIRE_VERSIONS,
    federation::{MemberRecord, SessionFrame, SessionHello, member_client::MemberClient, session_frame::Body},
};
use openraft::ChangeMembers;
use prost::Message;
use tokio::{sync::mpsc, time::Instant};

use super::Member;
use crate::{
    config::{ALPN, BATCH},
    raft::{Node, machine::News},
    state::{Blob, Command},
    voters::{self, Contact, Step},
};

/// Statements of one batch.
const BATCH_MOST: usize = 512;
/// How often the leader looks at the membership, and everyone at who is to be dialled and who is heard.
const LOOK: Duration = Duration::from_millis(200);
/// How often watchers are told how the federation stands, and the others who is heard.
const TELL: Duration = Duration::from_secs(1);

pub(super) fn spawn(member: &Arc<Member>, changes: mpsc::UnboundedReceiver<News>) {
    tokio::spawn(heed(Arc::clone(member), changes));
    tokio::spawn(batch(Arc::clone(member)));
    tokio::spawn(dial_all(Arc::clone(member)));
    tokio::spawn(keep_voters(Arc::clone(member)));
    tokio::spawn(tell(Arc::clone(member)));
    tokio::spawn(say_reach(Arc::clone(member)));
    tokio::spawn(write_ejections(Arc::clone(member)));
}

async fn heed(member: Arc<Member>, mut changes: mpsc::UnboundedReceiver<News>) {
    while let Some(news) = changes.recv().await {
        member.heed(news);
    }
}

async fn write_ejections(member: Arc<Member>) {
    while member.drain.unless(tokio::time::sleep(LOOK)).await.is_some() {
        member.write_ejections().await;
    }
}

/// Puts what was published into the log, together. What is not in it after a try is tried again.
async fn batch(member: Arc<Member>) {
    while member.drain.unless(tokio::time::sleep(BATCH)).await.is_some() {
        let waiting: Vec<_> = member.pending.lock().values().take(BATCH_MOST).cloned().collect();
        if waiting.is_empty() {
            continue;
        }
        let statements = waiting.iter().map(|statement| Blob(statement.encode_to_vec())).collect();
        match member.write(Command::Statements { statements }).await {
            Ok(()) => member.pending.lock().retain(|_, statement| !waiting.contains(statement)),
            Err(refusal) => tracing::debug!(%refusal, waiting = waiting.len(), "statements wait for the log"),
        }
    }
}

/// Whoever there is a session with knows whom else this member hears.
async fn say_reach(member: Arc<Member>) {
    let mut changes = member.sessions.changes();
    changes.mark_changed();
    let (mut said, mut at) = (vec![], Instant::now());
    loop {
        // A new session is told at once, a silent one is found by looking, and what was lost with a session comes again.
        let opened = tokio::select! {
            changed = changes.changed() => if changed.is_ok() { true } else { return },
            () = tokio::time::sleep(LOOK) => false,
            () = member.drain.draining() => return,
        };
        let heard = member.sessions.heard();
        if opened || heard != said || at.elapsed() >= TELL {
            member.sessions.say_reach(heard.clone());
            (said, at) = (heard, Instant::now());
        }
    }
}

async fn tell(member: Arc<Member>) {
    while member.drain.unless(tokio::time::sleep(TELL)).await.is_some() {
        member.view.standing(member.standing());
    }
}

/// Dials every member there is no session with.
async fn dial_all(member: Arc<Member>) {
    let mut dialling = BTreeMap::<String, tokio::task::JoinHandle<()>>::new();
    loop {
        dialling.retain(|_, task| !task.is_finished());
        let others = member.view.members();
        for record in others.into_iter().filter(|record| !record.ejected && record.cluster != member.cluster()) {
            if member.sessions.has(&record.cluster) || dialling.contains_key(&record.cluster) {
                continue;
            }
            dialling.insert(record.cluster.clone(), tokio::spawn(dial(Arc::clone(&member), record)));
        }
        if member.drain.unless(tokio::time::sleep(LOOK)).await.is_none() {
            dialling.values().for_each(tokio::task::JoinHandle::abort);
            return;
        }
    }
}

/// Tries a member's addresses in turn until there is a session, by whoever opened it.
async fn dial(member: Arc<Member>, record: MemberRecord) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let Ok(domain) = record.trust_domain.parse() else { return };
    let Ok(peer) = system_identity(&domain, "federation") else { return };
    let addresses = member.dialled(&record);
    for address in addresses.iter().cycle().take(addresses.len() * 8) {
        if member.sessions.has(&record.cluster) {
            return;
        }
        let config = tls::client_config(&member.identity, Accept::one(peer.clone()), &[ALPN]);
        let mut client = MemberClient::new(grpc::channel_with(config, address)).max_decoding_message_size(64 << 20);
        let (end, frames) = member.sessions.prepare(&record.cluster);
        let hello = SessionFrame { id: 0, body: Some(Body::Hello(hello(&member))) };
        let outgoing = tokio_stream::StreamExt::chain(
            tokio_stream::once(hello),
            tokio_stream::wrappers::ReceiverStream::new(frames),
        );
        match client.session(outgoing).await {
            Ok(answered) => {
                let end = end.open();
                member.converse(&record.cluster, end, answered.into_inner()).await;
                return;
            }
            Err(status) => {
                tracing::debug!(cluster = record.cluster, address, reason = grpc::reason(&status), "no session")
            }
        }
        if member.drain.unless(tokio::time::sleep(backoff.next())).await.is_none() {
            return;
        }
    }
}

pub(crate) fn hello(member: &Member) -> SessionHello {
    SessionHello {
        wire_min: *WIRE_VERSIONS.start(),
        wire_max: *WIRE_VERSIONS.end(),
        mesh: member.mesh(),
        cluster: member.cluster().to_owned(),
        raft_id: member.raft.get().map_or(0, |(_, _, itself)| itself.raft_id),
        applies: vec![1],
    }
}

/// When a session with each cluster's member was there last, or when it was first missed.
type Seen = BTreeMap<String, Instant>;

fn see(member: &Member, seen: &mut Seen) {
    let now = Instant::now();
    for record in member.view.members() {
        let last = seen.entry(record.cluster.clone()).or_insert(now);
        if member.sessions.has(&record.cluster) {
            *last = now;
        }
    }
}

/// The leader's work: every member is at least a learner, the right number votes, nobody who is out is in.
async fn keep_voters(member: Arc<Member>) {
    let mut seen = Seen::new();
    while member.drain.unless(tokio::time::sleep(LOOK)).await.is_some() {
        see(&member, &mut seen);
        let Some(raft) = member.raft().filter(|raft| raft.is_leader()) else { continue };
        let wanted: BTreeMap<u64, Node> = member
            .view
            .members()
            .into_iter()
            .filter(|record| !record.ejected)
            .map(|record| (record.raft_id, Node { cluster: record.cluster }))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        if let Err(error) = step(raft, &wanted, &member, &seen).await {
            tracing::debug!(error, "the membership is not changed yet");
        }
    }
}

async fn step(
    raft: &crate::raft::Raft,
    wanted: &BTreeMap<u64, Node>,
    member: &Member,
    seen: &Seen,
) -> Result<(), String> {
    let _alone = member.changing.lock().await;
    let metrics = super::metrics_of(raft);
    let records = member.view.members();
    let named = |cluster: &str| {
        let entered = |record: &MemberRecord| record.cluster == cluster && !record.addresses.is_empty();
        !member.view.reached(cluster).is_empty() || records.iter().any(entered)
    };
    let contact = |node: &Node| Contact {
        reachable: node.cluster == member.cluster() || member.sessions.has(&node.cluster),
        silent: seen.get(&node.cluster).map_or(Duration::ZERO, |seen| seen.elapsed()),
        named: named(&node.cluster),
    };
    let changed = match voters::next(metrics.membership_config.membership(), metrics.id, wanted, contact) {
        Some(Step::Learner(id, node)) => {
            tracing::info!(cluster = node.cluster, id, "a learner is added");
            raft.add_learner(id, node, false).await
        }
        Some(Step::Voters(next)) => {
            tracing::info!(?next, "voters change");
            raft.change_membership(next, true).await
        }
        Some(Step::Gone(gone)) => raft.change_membership(ChangeMembers::RemoveNodes(gone), false).await,
        None => return Ok(()),
    };
    changed.map(drop).map_err(|error| error.to_string())
}
