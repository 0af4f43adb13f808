//! One of several replicas leads: by a Lease (`coordination.k8s.io/v1`), as Kubernetes' own components elect theirs. What only
//! one may write, the leader writes. Where the API server is away nobody leads, and nobody could write.
//!
//! Who led then is not told that another one does: what leads for something else than writing there goes on ([`Candidacy::Adrift`]).

pub mod candidate;

use std::time::Duration;

use isthmus_runtime::drain::Drain;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time::Instant};

use crate::client::causes;
use candidate::{Candidate, LASTS, Said, Step};

/// The Lease of who leads among the replicas of control.
pub const CONTROL: &str = "isthmus-control";
/// Between the name of a process and what no other one has.
const MARK: char = '_';
/// Between two looks at the Lease.
const AGAIN: Duration = Duration::from_secs(2);
/// An API server that has not answered in so long is asked anew.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// How a candidate stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidacy {
    /// It has not asked yet.
    #[default]
    Unasked,
    /// It leads.
    Leads,
    /// Another one does.
    Follows,
    /// The API server does not answer: it does not lead, and whether another one does cannot be known.
    Adrift,
}

impl Candidacy {
    /// Whether it leads.
    #[must_use]
    pub fn leads(self) -> bool {
        self == Self::Leads
    }
}

/// An election.
pub struct Election {
    api: Api<Lease>,
    lease: String,
    candidate: Candidate,
    began: Instant,
    failing: bool,
}

impl Election {
    /// For a Lease of a namespace. `name` says which process this is; something that no other process has is put behind it.
    #[must_use]
    pub fn new(client: Client, namespace: &str, lease: &str, name: &str) -> Self {
        let candidate = Candidate::new(format!("{name}{MARK}{:016x}", fastrand::u64(..)));
        let (api, lease) = (Api::namespaced(client, namespace), lease.to_owned());
        Self { api, lease, candidate, began: Instant::now(), failing: false }
    }

    /// Stands until the drain, and tells whether this process leads. Who drains gives the Lease back, so that another one leads
    /// at once.
    pub async fn run(mut self, place: watch::Sender<Candidacy>, drain: Drain) {
        loop {
            let until = self.candidate.leads_until(self.now());
            let patience = until.map_or(ANSWERS_WITHIN, |until| ANSWERS_WITHIN.min(until.saturating_sub(self.now())));
            let looked = tokio::select! {
                () = drain.draining() => break,
                looked = tokio::time::timeout(patience, self.look()) => looked,
            };
            let answered = matches!(&looked, Ok(looked) if looked.as_ref().err().is_none_or(was_faster));
            self.outcome(looked.unwrap_or(Ok(())));
            let until = self.candidate.leads_until(self.now());
            self.tell(
                &place,
                match (until, answered) {
                    (Some(_), _) => Candidacy::Leads,
                    (None, true) => Candidacy::Follows,
                    (None, false) => Candidacy::Adrift,
                },
            );
            let wait = until.map_or(AGAIN, |until| AGAIN.min(until.saturating_sub(self.now())));
            tokio::select! {
                () = drain.draining() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        let led = self.candidate.leads_until(self.now()).is_some();
        self.tell(&place, Candidacy::Follows);
        if led {
            let _ = tokio::time::timeout(ANSWERS_WITHIN, self.give_back()).await;
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn tell(&self, place: &watch::Sender<Candidacy>, now: Candidacy) {
        let changed = place.send_if_modified(|before| std::mem::replace(before, now) != now);
        if changed {
            let (lease, name) = (&self.lease, self.candidate.name());
            tracing::info!(lease, name, place = ?now, "this process' place in an election has changed");
        }
    }

    fn outcome(&mut self, looked: Result<(), kube::Error>) {
        let failing = match looked {
            Ok(()) => None,
            Err(error) if was_faster(&error) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = failing.as_ref().filter(|_| !self.failing) {
            let (lease, reason) = (&self.lease, explain(error));
            tracing::warn!(lease, reason, "this process cannot stand for election now; it tries again");
        }
        self.failing = failing.is_some();
    }

    async fn look(&mut self) -> Result<(), kube::Error> {
        let found = self.api.get_opt(&self.lease).await?;
        let asked = self.now();
        let Step::Write(transitions) = self.candidate.see(found.as_ref().map(said), asked) else { return Ok(()) };
        let name = self.candidate.name().to_owned();
        self.write(found, name, transitions).await?;
        self.candidate.wrote(asked);
        Ok(())
    }

    /// Onto what was read: the API server refuses it when another one wrote meanwhile.
    async fn write(&self, found: Option<Lease>, holder: String, transitions: i32) -> Result<(), kube::Error> {
        let now = Some(MicroTime(Timestamp::now()));
        let before = found.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let same = before.holder_identity.as_ref() == Some(&holder);
        let spec = LeaseSpec {
            acquire_time: if same { before.acquire_time } else { now.clone() },
            renew_time: now,
            holder_identity: Some(holder),
            lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(self.lease.clone()), ..ObjectMeta::default() };
        let sent = PostParams::default();
        match found {
            None => self.api.create(&sent, &Lease { metadata, spec: Some(spec) }).await?,
            Some(lease) => self.api.replace(&self.lease, &sent, &Lease { spec: Some(spec), ..lease }).await?,
        };
        Ok(())
    }

    async fn give_back(&mut self) -> Result<(), kube::Error> {
        self.candidate.gave_up();
        let found = self.api.get_opt(&self.lease).await?;
        match found.as_ref().map(said) {
            Some(said) if said.holder == self.candidate.name() => {
                self.write(found, String::new(), said.transitions).await
            }
            _ => Ok(()),
        }
    }
}

/// The process that holds a Lease, by its name; `None`: nobody does, or it cannot be read.
pub async fn holder(client: &Client, namespace: &str, lease: &str) -> Option<String> {
    let found = Api::<Lease>::namespaced(client.clone(), namespace).get_opt(lease).await;
    let held =
        found.map_err(|error| tracing::debug!(reason = explain(&error), lease, "a Lease cannot be read")).ok()??;
    said(&held).holder.rsplit_once(MARK).map(|(name, _)| name.to_owned())
}

/// Another one wrote meanwhile.
fn was_faster(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("{}; the role needs `get`, `create` and `update` of leases", status.message)
        }
        kube::Error::Api(status) => status.message.clone(),
        error => causes(error),
    }
}

fn said(lease: &Lease) -> Said {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Said {
        holder: spec.holder_identity.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        lasts: seconds.map_or(LASTS, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}
