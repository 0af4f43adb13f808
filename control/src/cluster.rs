//! What control is to a cluster of Kubernetes beside reading its objects: its key material is a Secret's, so that each
//! replica has the same; pods are who the API server says they are; every namespace has the roots.

mod injecting;
mod refusals;

use std::{path::Path, sync::Arc};

use isthmus_ca::{Account, NotReviewed, Plugged, Reviewer, plugged::Entries, shared};
use isthmus_core::name::TrustDomain;
use isthmus_kubernetes::{
    Access, Client, bundle,
    events::{self, Event},
    namespaces::Namespaces,
    review::{self, AUDIENCE, ReviewError},
    roots,
    vault::{self, Vault, VaultError},
};
use isthmus_runtime::{certificate::Certificates, drain::Drain, key};
use prometheus::Registry;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    authority::Authority,
    config::Config,
    error::Error,
    plugged::{self, Source, the_four},
};

/// The CA's Secret.
const CA: &str = "isthmus-ca";
/// Its entries.
const FILES: (&[&str], &[&str]) = (&[shared::PASSES], &[shared::ANCHORS, shared::OWN, shared::SIGNING]);
/// One of them signs; where there is none yet, Secret `cacerts` does.
const SIGN: &[&str] = &[shared::OWN, shared::SIGNING];
/// The federation key's; the member mounts it.
const KEY: (&str, &[&str]) = ("isthmus-federation-key", &["key.der"]);

/// The cluster of Kubernetes that control runs for.
pub struct Cluster {
    client: Client,
    namespace: String,
    brought: Option<Entries>,
}

/// Where a process shows how it is.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// Its metrics.
    pub registry: &'a Registry,
    /// Its certificates.
    pub certificates: &'a Certificates,
}

impl Cluster {
    /// Fetches what all replicas have the same, or makes it.
    ///
    /// # Errors
    /// [`Error::Kubernetes`], [`Error::Vault`].
    pub async fn open(access: &Access, config: &Config, drain: &Drain) -> Result<Self, Error> {
        let cluster = Self { client: access.client().await?, namespace: access.namespace.clone(), brought: None };
        let brought = cluster.look(config, drain).await?;
        let ca = if brought.is_some() { cluster.vault() } else { cluster.vault().with_one_of(SIGN) };
        let cluster = Self { brought, ..cluster };
        let make = || cluster.brought(config).and_then(|brought| Authority::open(config, brought).map(drop));
        ca.open(&config.ca_dir(), || make().map_err(|error| innermost(&error)), drain).await?;
        let file = config.federation_key();
        let key = Vault::new(&cluster.client, &cluster.namespace, KEY.0, KEY.1);
        let dir = file.parent().unwrap_or_else(|| Path::new("."));
        key.open(dir, || key::federation_key(&file).map(drop).map_err(|error| error.to_string()), drain).await?;
        Ok(cluster)
    }

    /// What somebody brings along to sign with, where it is any good. What is not is told by who looks at it again, but nothing
    /// begins with it.
    async fn look(&self, config: &Config, drain: &Drain) -> Result<Option<Entries>, Error> {
        // Without an API server what signed before signs on; who looks at the Secret again sees it then.
        let is_kept = self.vault().with_one_of(SIGN).is_kept(&config.ca_dir());
        let find = |name| vault::wait_for(&self.client, (&self.namespace, name), is_kept, drain);
        let Some(held) = find(plugged::SECRET).await? else { return Ok(None) };
        let entries = the_four(held.entries);
        match plugged::read(&self.source(), &entries, &domain(config)) {
            Ok(_) => Ok(Some(entries)),
            Err(error) => match find(CA).await? {
                Some(held) if SIGN.iter().any(|file| held.entries.contains_key(*file)) => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    /// The Secret that replicas share.
    #[must_use]
    pub fn vault(&self) -> Vault {
        Vault::new(&self.client, &self.namespace, CA, FILES.0).with(FILES.1).merging(shared::merged)
    }

    /// What was brought along to sign with when this began.
    ///
    /// # Errors
    /// [`Error::Plugged`].
    pub fn brought(&self, config: &Config) -> Result<Option<Plugged>, Error> {
        let read = |entries| plugged::read(&self.source(), entries, &domain(config));
        Ok(self.brought.as_ref().map(read).transpose()?)
    }

    /// Where that may be.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::Secret(self.client.clone(), self.namespace.clone())
    }

    /// Writes Events until the drain, as this replica.
    #[must_use]
    pub fn events(&self, config: &Config, (tasks, drain): (&mut JoinSet<()>, &Drain)) -> mpsc::Sender<Event> {
        events::start(&self.client, &config.common.name, tasks, drain)
    }

    /// Who says whom a token is of.
    #[must_use]
    pub fn reviewer(&self) -> Arc<dyn Reviewer> {
        Arc::new(ApiServer(self.client.clone()))
    }

    /// Keeps the roots where they have to be, and serves the webhooks, until the drain.
    ///
    /// # Errors
    /// [`Error`], when the webhooks cannot be served.
    pub fn start(
        self,
        config: &Config,
        authority: &Authority,
        shown: Shown<'_>,
        roots: watch::Receiver<String>,
        (tasks, drain): (&mut JoinSet<()>, &Drain),
    ) -> Result<(), Error> {
        let Self { client, .. } = self;
        let namespaces = Namespaces::follow(&client, tasks, drain);
        if let Some(file) = &config.injection {
            let refused = refusals::tell(&client, &config.common.name, tasks, drain);
            injecting::start(config, file, (namespaces.clone(), refused), authority, shown, (tasks, drain))?;
        }
        tasks.spawn(roots::keep(client.clone(), namespaces, roots.clone(), drain.clone()));
        tasks.spawn(bundle::keep(client, roots, drain.clone()));
        Ok(())
    }
}

/// The cause that says which file it is; what is around it says that the authority cannot begin, which goes without saying.
fn innermost(error: &Error) -> String {
    match error {
        Error::Ca { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

fn domain(config: &Config) -> TrustDomain {
    config.common.cluster.trust_domain(&config.common.mesh)
}

/// Asks the API server whose a token is.
struct ApiServer(Client);

#[tonic::async_trait]
impl Reviewer for ApiServer {
    async fn review(&self, token: &str) -> Result<Account, NotReviewed> {
        match review::review(&self.0, token, AUDIENCE).await {
            Ok(reviewed) => {
                tracing::debug!(pod = reviewed.pod, namespace = reviewed.namespace, "a pod proves who it is");
                Ok(Account { namespace: reviewed.namespace, name: reviewed.service_account })
            }
            Err(error @ (ReviewError::Unanswered(_) | ReviewError::Forbidden(_))) => {
                tracing::warn!(%error, "a token cannot be reviewed");
                Err(NotReviewed::Unavailable(error.to_string()))
            }
            Err(error) => Err(NotReviewed::Refused(error.to_string())),
        }
    }
}

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        Self::Vault(Box::new(error))
    }
}
