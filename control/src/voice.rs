//! The speaker's async shell: one Publish stream to the own member, opened again whenever it ends.
//!
//! What must hold: nothing of an epoch leaves this process before that epoch is on disk; what the member has not
//! taken is sent again on the next stream; a lease is signed every second whether or not the member is there, and
//! says which; a replica whose turn it is not says nothing.

use std::time::Duration;

use futures_util::future::BoxFuture;
use isthmus_core::statement::{Content, Lease, Version};
use isthmus_kubernetes::leader::Candidacy;
use isthmus_runtime::{
    backoff::Backoff,
    disk::{self, Keeper},
    drain::Drain,
    grpc,
};
use isthmus_wire::federation::{PublishAnswer, SignedStatement, member_client::MemberClient, publish_answer::Outcome};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    handle::{Handle, Message, SpeakerView},
    metrics::Metrics,
    speaker::Speaker,
    turn::Turn,
};

/// A lease is said once in so long (DESIGN.md decision 25).
pub const LEASE: Duration = Duration::from_secs(1);
/// Statements on their way to the member.
const IN_FLIGHT: usize = 1024;
/// Version of the epoch's file.
const DISK_VERSION: u32 = 1;

/// What is kept on disk of the speaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochOnDisk {
    /// The last epoch in use.
    pub epoch: u64,
    /// Whether this replica was the one that speaks.
    #[serde(default)]
    pub speaks: bool,
}

/// What the listener found under the own name.
#[derive(Debug)]
pub enum Found {
    /// A statement of this version.
    Met(Version),
    /// All that the member holds.
    Held(BTreeMap<String, Version>),
}

/// What the voice is made of.
pub struct Voice {
    /// The state machine.
    pub speaker: Speaker,
    /// Where the epoch is kept.
    pub file: Keeper,
    /// What is known to be there.
    pub on_disk: EpochOnDisk,
    /// Whether this replica leads.
    pub candidacy: watch::Receiver<Candidacy>,
    /// To the own member.
    pub channel: Channel,
    /// What there is to say; `None` until the first compilation.
    pub contents: watch::Receiver<Option<Vec<Content>>>,
    /// What goes with each lease.
    pub lease: watch::Receiver<Lease>,
    /// What is found under the own name.
    pub found: mpsc::Receiver<Found>,
    /// The desk.
    pub desk: Handle,
    /// Counters.
    pub metrics: Metrics,
}

type Opening = BoxFuture<'static, Result<Session, Status>>;

struct Session {
    out: mpsc::Sender<SignedStatement>,
    answers: Streaming<PublishAnswer>,
    /// The highest number sent on it.
    sent: u64,
}

/// The last epoch on disk; 0: none.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn last_epoch(file: &std::path::Path) -> Result<EpochOnDisk, disk::DiskError> {
    Ok(disk::load_versioned(file, DISK_VERSION)?.unwrap_or_default())
}

impl Voice {
    /// Speaks until the drain.
    pub async fn run(mut self, drain: Drain) {
        let mut lease = tokio::time::interval(LEASE);
        lease.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut session: Option<Session> = None;
        let mut opening: Option<Opening> = None;
        let mut shown = SpeakerView::default();
        let mut turn = Turn::new(self.on_disk.speaks);
        loop {
            turn.stands(*self.candidacy.borrow_and_update());
            if self.takes(turn) {
                opening = Some(open(self.channel.clone(), Duration::ZERO));
            } else if !turn.speaks() {
                (session, opening) = (None, None);
            }
            self.keep_epoch();
            self.flush(&mut session);
            self.show(session.is_some(), &mut shown).await;
            tokio::select! {
                () = drain.draining() => return,
                Ok(()) = self.candidacy.changed() => {}
                _ = lease.tick(), if turn.speaks() => self.lease(&mut session).await,
                changed = self.contents.changed() => match changed {
                    Ok(()) => self.say(),
                    Err(_) => return,
                },
                Some(found) = self.found.recv() => self.found(found, &mut turn, &mut session),
                opened = async { match &mut opening { Some(future) => future.await, None => std::future::pending().await } } => {
                    opening = None;
                    match opened {
                        Ok(opened) => {
                            tracing::info!("the own member takes statements");
                            session = Some(opened);
                        }
                        Err(status) => {
                            tracing::debug!(%status, "the own member is not reached");
                            opening = Some(open(self.channel.clone(), backoff.next()));
                        }
                    }
                },
                answer = next_answer(&mut session) => match answer {
                    Ok(Some(answer)) => {
                        backoff.reset();
                        self.answered(&answer, &mut turn, &mut session);
                    }
                    ended => {
                        let reason = ended.err().map(|status| grpc::reason(&status));
                        tracing::warn!(reason, "the own member takes no statements any more");
                        session = None;
                        opening = Some(open(self.channel.clone(), backoff.next()));
                    }
                },
            }
        }
    }

    /// Speaks or falls silent as its turn is; whether it began to speak.
    fn takes(&mut self, turn: Turn) -> bool {
        if turn.speaks() == self.speaker.speaks() {
            return false;
        }
        if turn.speaks() {
            self.speaker.take_over();
            tracing::info!(epoch = self.speaker.epoch(), "this replica speaks for the cluster");
        } else {
            self.speaker.fall_silent();
            tracing::info!("another replica speaks for the cluster");
        }
        turn.speaks()
    }

    /// Falls silent where a version above the own one stands under the own name and nobody can say who leads: another replica was
    /// made the leader since. Whether it did.
    fn yields(&mut self, is_above: bool, turn: &mut Turn) -> bool {
        let is_outdone = is_above && turn.outdone();
        if is_outdone {
            self.takes(*turn);
        }
        is_outdone
    }

    fn say(&mut self) {
        let contents = self.contents.borrow_and_update().clone();
        if let Some(contents) = contents {
            self.speaker.say(contents);
        }
    }

    fn found(&mut self, found: Found, turn: &mut Turn, session: &mut Option<Session>) {
        let is_above = match &found {
            Found::Met(version) => self.speaker.is_below(*version),
            Found::Held(held) => held.values().any(|version| self.speaker.is_below(*version)),
        };
        self.yields(is_above, turn);
        let again = match found {
            Found::Met(version) => self.speaker.met(version),
            Found::Held(held) => self.speaker.held_by_member(&held),
        };
        if let (true, Some(session)) = (again, session) {
            session.sent = 0;
        }
    }

    fn answered(&mut self, answer: &PublishAnswer, turn: &mut Turn, session: &mut Option<Session>) {
        let outcome = match &answer.outcome {
            Some(Outcome::Taken(_)) => "taken",
            Some(Outcome::Refused(reason)) => {
                tracing::error!(key = answer.key, reason, "the own member refuses a statement");
                "refused"
            }
            Some(Outcome::HigherEpoch(epoch)) => {
                let is_current = answer.epoch == self.speaker.epoch() && *epoch >= answer.epoch;
                if self.yields(is_current, turn) {
                    self.speaker.met(Version { epoch: *epoch, number: 0 });
                }
                "higher-epoch"
            }
            None => return,
        };
        self.metrics.said.with_label_values(&[outcome]).inc();
        if self.speaker.answered(answer) {
            tracing::info!(
                epoch = self.speaker.epoch(),
                "a higher version stands under the own name: a new epoch begins"
            );
            if let Some(session) = session {
                session.sent = 0;
            }
        }
    }

    /// Puts the epoch on disk; while that fails nothing of it is sent.
    fn keep_epoch(&mut self) {
        let speaks = self.speaker.speaks();
        let now = EpochOnDisk { epoch: self.speaker.epoch(), speaks };
        // Whoever is silent hears many epochs, and has to keep only that it is silent.
        let is_kept = self.on_disk == now || (!speaks && !self.on_disk.speaks);
        if !is_kept && self.file.keep(DISK_VERSION, &now) {
            self.on_disk = now;
        }
    }

    fn may_speak(&self) -> bool {
        self.speaker.speaks() && self.on_disk == EpochOnDisk { epoch: self.speaker.epoch(), speaks: true }
    }

    fn flush(&self, session: &mut Option<Session>) {
        let Some(session) = session.as_mut().filter(|_| self.may_speak()) else { return };
        for statement in self.speaker.outbox_after(session.sent) {
            let number = statement.number;
            if session.out.try_send(statement).is_err() {
                return;
            }
            session.sent = number;
        }
    }

    async fn lease(&mut self, session: &mut Option<Session>) {
        self.keep_epoch();
        if !self.may_speak() {
            return;
        }
        let said = self.lease.borrow().clone();
        let lease = self.speaker.lease(Lease { member: session.is_some(), ..said });
        if let Some(session) = session {
            let _ = session.out.try_send(lease.clone());
        }
        self.desk.tell(Message::OwnLease(lease)).await;
    }

    async fn show(&self, member: bool, shown: &mut SpeakerView) {
        let refused = self.speaker.refused();
        let now = SpeakerView {
            speaks: self.speaker.speaks(),
            member,
            epoch: self.speaker.epoch(),
            open: self.speaker.open(),
            refused: refused.clone(),
            verbs: self.speaker.verbs(),
        };
        if now != *shown {
            self.metrics.member_up.set(i64::from(member));
            shown.clone_from(&now);
            self.desk.tell(Message::Speaker(now)).await;
        }
    }
}

fn open(channel: Channel, after: Duration) -> Opening {
    let at = Instant::now() + after;
    Box::pin(async move {
        tokio::time::sleep_until(at).await;
        let (out, statements) = mpsc::channel(IN_FLIGHT);
        let answers = MemberClient::new(channel).publish(ReceiverStream::new(statements)).await?.into_inner();
        Ok(Session { out, answers, sent: 0 })
    })
}

async fn next_answer(session: &mut Option<Session>) -> Result<Option<PublishAnswer>, Status> {
    match session {
        Some(session) => session.answers.message().await,
        None => std::future::pending().await,
    }
}
