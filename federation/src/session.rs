//! Sessions: one bidirectional stream between two members, opened by whichever can dial (DESIGN.md decision 13). Both
//! ends send requests on it; each numbers its own. Each end says whom it hears, so that the other relays to it what
//! clusters say that it cannot hear itself.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use isthmus_wire::federation::{
    ProposeAnswer, RaftAnswer, RaftCall, Reach, SessionFrame, SignedStatement, session_frame::Body,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

/// A session on which nothing comes for so long is not heard on: a lease comes each second. What its cluster says is
/// then relayed by others long before the connection is found dead, and before the lease counts as lost.
const SILENT: Duration = Duration::from_millis(1500);
/// Frames that wait for a slow session; deltas beyond it are lost and come again by the log.
const QUEUE: usize = 4096;

/// Why a call over a session brought no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// There is no session.
    #[error("no session with the member of {0}")]
    NoSession(String),
    /// It did not answer.
    #[error("the member of {0} did not answer in time")]
    Timeout(String),
    /// It answered with an error.
    #[error("the member of {cluster} refuses: {reason}")]
    Refused {
        /// Who.
        cluster: String,
        /// Why.
        reason: String,
    },
}

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Body>>>>;

#[derive(Clone)]
struct Live {
    id: u64,
    out: mpsc::Sender<SessionFrame>,
    pending: Pending,
    ended: Arc<tokio::sync::Notify>,
    /// When anything came last.
    heard: Arc<Mutex<Instant>>,
}

/// The member of another cluster. Both ends may dial at once, so there may be several sessions with it, and each end
/// may send on another one: what it says on any of them is said by the member.
#[derive(Default)]
struct Peer {
    sessions: Vec<Live>,
    /// Whom it hears, once it said so.
    reach: Option<BTreeSet<String>>,
}

impl Peer {
    /// The session that was heard on last: another one may hang on a path that is gone.
    fn best(&self) -> Option<&Live> {
        self.sessions.iter().max_by_key(|live| (*live.heard.lock(), live.id))
    }

    fn is_heard(&self) -> bool {
        self.sessions.iter().any(|live| live.heard.lock().elapsed() < SILENT)
    }

    fn hears(&self, cluster: &str) -> bool {
        self.reach.as_ref().is_none_or(|reach| reach.contains(cluster))
    }
}

/// All sessions of a member; clones share them.
#[derive(Clone)]
pub struct Sessions {
    peers: Arc<Mutex<BTreeMap<String, Peer>>>,
    next: Arc<AtomicU64>,
    changed: watch::Sender<u64>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { peers: Arc::default(), next: Arc::default(), changed: watch::Sender::new(0) }
    }
}

/// One session's end here: what comes in is matched to what was asked.
pub(crate) struct End {
    cluster: String,
    live: Live,
    sessions: Sessions,
}

/// A session that is being opened: not used before the other side answered.
pub(crate) struct Prepared(End);

impl Prepared {
    /// It is open.
    pub(crate) fn open(self) -> End {
        let Self(end) = self;
        end.sessions.peers.lock().entry(end.cluster.clone()).or_default().sessions.push(end.live.clone());
        end.sessions.changed.send_modify(|count| *count += 1);
        end
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut peers = self.sessions.peers.lock();
        if let Some(peer) = peers.get_mut(&self.cluster) {
            peer.sessions.retain(|one| one.id != self.live.id);
            if peer.sessions.is_empty() {
                peers.remove(&self.cluster);
            }
        }
        drop(peers);
        self.live.pending.lock().clear();
        self.sessions.changed.send_modify(|count| *count += 1);
    }
}

impl End {
    /// Takes a frame: an answer goes to who asked, the other end's reach is kept; anything else comes back to be answered.
    pub(crate) fn take(&self, frame: SessionFrame) -> Option<(u64, Body)> {
        *self.live.heard.lock() = Instant::now();
        match frame.body? {
            answer @ (Body::RaftAnswer(_) | Body::ProposeAnswer(_)) => {
                if let Some(asker) = self.live.pending.lock().remove(&frame.id) {
                    let _ = asker.send(answer);
                }
                None
            }
            Body::Reach(reach) => {
                if let Some(peer) = self.sessions.peers.lock().get_mut(&self.cluster) {
                    peer.reach = Some(reach.clusters.into_iter().collect());
                }
                None
            }
            request => Some((frame.id, request)),
        }
    }

    /// Comes when the session is to end from this side.
    pub(crate) async fn ended(&self) {
        self.live.ended.notified().await;
    }

    pub(crate) fn reply(&self) -> mpsc::Sender<SessionFrame> {
        self.live.out.clone()
    }
}

impl Sessions {
    /// A session with the member of `cluster` may open; what is to be sent comes out of the receiver.
    pub(crate) fn prepare(&self, cluster: &str) -> (Prepared, mpsc::Receiver<SessionFrame>) {
        let (out, frames) = mpsc::channel(QUEUE);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (pending, ended) = Default::default();
        let live = Live { id, out, pending, ended, heard: Arc::new(Mutex::new(Instant::now())) };
        (Prepared(End { cluster: cluster.to_owned(), live, sessions: self.clone() }), frames)
    }

    /// Clusters whose members there is a session with.
    #[must_use]
    pub fn clusters(&self) -> Vec<String> {
        self.peers.lock().keys().cloned().collect()
    }

    /// Clusters whose members are heard now.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.peers.lock().iter().filter(|(_, peer)| peer.is_heard()).map(|(cluster, _)| cluster.clone()).collect()
    }

    /// Ends the sessions with a cluster's member.
    pub(crate) fn close(&self, cluster: &str) {
        for live in self.peers.lock().remove(cluster).unwrap_or_default().sessions {
            live.ended.notify_one();
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Counts sessions that open and close.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether there is one.
    #[must_use]
    pub fn has(&self, cluster: &str) -> bool {
        self.peers.lock().contains_key(cluster)
    }

    async fn call(&self, cluster: &str, body: Body, limit: Duration) -> Result<Body, CallError> {
        let live = self.peers.lock().get(cluster).and_then(Peer::best).cloned();
        let live = live.ok_or_else(|| CallError::NoSession(cluster.to_owned()))?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = oneshot::channel();
        live.pending.lock().insert(id, asker);
        let sent = live.out.try_send(SessionFrame { id, body: Some(body) });
        let outcome = match sent {
            Ok(()) => tokio::time::timeout(limit, answer).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        live.pending.lock().remove(&id);
        outcome.ok_or_else(|| CallError::Timeout(cluster.to_owned()))
    }

    /// A call of Raft.
    pub(crate) async fn raft(
        &self,
        cluster: &str,
        method: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let call = Body::Raft(RaftCall { method: method.to_owned(), body });
        match self.call(cluster, call, limit).await? {
            Body::RaftAnswer(RaftAnswer { body, error }) if error.is_empty() => Ok(body),
            Body::RaftAnswer(RaftAnswer { error, .. }) => {
                Err(CallError::Refused { cluster: cluster.to_owned(), reason: error })
            }
            _ => Err(CallError::Timeout(cluster.to_owned())),
        }
    }

    /// A write to be proposed by the leader.
    pub(crate) async fn propose(
        &self,
        cluster: &str,
        command: Vec<u8>,
        limit: Duration,
    ) -> Result<ProposeAnswer, CallError> {
        match self.call(cluster, Body::Propose(command), limit).await? {
            Body::ProposeAnswer(answer) => Ok(answer),
            _ => Err(CallError::Timeout(cluster.to_owned())),
        }
    }

    /// Sends a delta to every member there is a session with.
    pub(crate) fn broadcast(&self, statement: &SignedStatement) {
        self.send_all(|_, _| true, &Body::Delta(statement.clone()));
    }

    /// Passes on a delta that was new here to those who cannot hear its cluster themselves.
    pub(crate) fn relay(&self, from: &str, statement: &SignedStatement) {
        let origin = &statement.cluster;
        let to = |to: &str, peer: &Peer| to != from && to != origin && !peer.hears(origin);
        self.send_all(to, &Body::Delta(statement.clone()));
    }

    /// Tells every other end who is heard.
    pub(crate) fn say_reach(&self, heard: Vec<String>) {
        self.send_all(|_, _| true, &Body::Reach(Reach { clusters: heard }));
    }

    fn send_all(&self, to: impl Fn(&str, &Peer) -> bool, body: &Body) {
        for (_, peer) in self.peers.lock().iter().filter(|(cluster, peer)| to(cluster, peer)) {
            if let Some(live) = peer.best() {
                let _ = live.out.try_send(SessionFrame { id: 0, body: Some(body.clone()) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_is_relayed_to_those_who_cannot_hear_its_cluster_and_to_nobody_else() {
        let sessions = Sessions::default();
        let mut ends: Vec<_> = ["deaf", "hearing", "silent", "origin", "from"]
            .into_iter()
            .map(|cluster| {
                let (prepared, frames) = sessions.prepare(cluster);
                (cluster, prepared.open(), frames)
            })
            .collect();
        for (cluster, clusters) in [("deaf", vec!["own"]), ("hearing", vec!["own", "origin"]), ("from", vec![])] {
            let clusters = clusters.into_iter().map(str::to_owned).collect();
            let (_, end, _) = ends.iter().find(|(name, ..)| *name == cluster).unwrap();
            assert!(end.take(SessionFrame { id: 0, body: Some(Body::Reach(Reach { clusters })) }).is_none());
        }
        let delta = SignedStatement { cluster: "origin".into(), ..SignedStatement::default() };
        sessions.relay("from", &delta);
        let got = ends.iter_mut().filter_map(|(cluster, _, frames)| frames.try_recv().ok().map(|_| *cluster));
        assert_eq!(got.collect::<Vec<_>>(), ["deaf"]);
    }

    #[test]
    fn what_a_member_says_on_one_session_counts_for_what_it_is_sent_on_another() {
        let sessions = Sessions::default();
        let open = || {
            let (prepared, frames) = sessions.prepare("deaf");
            (prepared.open(), frames)
        };
        // Both dialled at once: each end opened the two in another order.
        let ((theirs, mut on_theirs), (ours, mut on_ours)) = (open(), open());
        let reach = Body::Reach(Reach { clusters: vec!["own".into()] });
        assert!(theirs.take(SessionFrame { id: 0, body: Some(reach) }).is_none());
        assert!(ours.take(SessionFrame { id: 9, body: Some(Body::Propose(vec![])) }).is_some(), "heard on last");
        let delta = SignedStatement { cluster: "origin".into(), ..SignedStatement::default() };
        sessions.relay("from", &delta);
        assert!(on_ours.try_recv().is_ok() && on_theirs.try_recv().is_err());
        drop(ours);
        sessions.relay("from", &delta);
        assert!(on_theirs.try_recv().is_ok(), "and on the one that is left");
    }
}
