//! What control is to a cluster of Kubernetes beside reading its objects: its key material is a Secret's, so that each
//! replica has the same; pods are who the API server says they are; every namespace has the roots.

mod injecting;
mod refusals;

use std::{path::Path, sync::Arc};

use isthmus_ca::{Account, NotReviewed, Plugged, Reviewer, plugged::Entries};
use isthmus_kubernetes::{
    Access, Client, bundle,
    namespaces::Namespaces,
    review::{self, AUDIENCE, ReviewError},
    roots,
    vault::{self, Vault, VaultError},
};
use isthmus_runtime::{certificate::Certificates, drain::Drain, key};
use prometheus::Registry;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    authority::Authority,
    config::Config,
    error::Error,
    plugged::{self, Source},
};

/// The CA's Secret.
const CA: &str = "isthmus-ca";
/// Its entries where the CA is the cluster's own.
const OWN: (&[&str], &[&str]) = (&["authority.json", "pass-roots.json"], &["anchors.json"]);
/// Its entries beside Secret `cacerts`; a root of the time before is remembered.
const BESIDE: (&[&str], &[&str]) = (&["pass-roots.json"], &["authority.json", "anchors.json"]);
/// The federation key's; the member mounts it.
const KEY: (&str, &[&str]) = ("isthmus-federation-key", &["key.der"]);

/// The cluster of Kubernetes that control runs for.
pub struct Cluster {
    client: Client,
    namespace: String,
    ca: Vault,
    plugged: Option<Entries>,
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
        let client = access.client().await?;
        let namespace = access.namespace.clone();
        let plugged = vault::wait_for(&client, &namespace, plugged::SECRET, drain).await?;
        let source = Source::Secret(client.clone(), namespace.clone());
        if let Some(entries) = &plugged {
            tracing::info!(place = source.place(), "the certificate authority is the one that was brought along");
            read(&source, entries, config)?;
        }
        let (files, maybe) = if plugged.is_some() { BESIDE } else { OWN };
        let ca = Vault::new(&client, &namespace, CA, files).with(maybe);
        let make = || make_ca(&source, plugged.as_ref(), config).map_err(|error| innermost(&error));
        ca.open(&config.ca_dir(), make, drain).await?;
        let file = config.federation_key();
        let key = Vault::new(&client, &access.namespace, KEY.0, KEY.1);
        let dir = file.parent().unwrap_or_else(|| Path::new("."));
        key.open(dir, || key::federation_key(&file).map(drop).map_err(|error| error.to_string()), drain).await?;
        Ok(Self { client, namespace, ca, plugged })
    }

    /// What was brought along to sign with.
    ///
    /// # Errors
    /// [`Error::Plugged`].
    pub fn plugged(&self, config: &Config) -> Result<Option<Plugged>, Error> {
        self.plugged.as_ref().map(|entries| read(&self.source(), entries, config)).transpose()
    }

    fn source(&self) -> Source {
        Source::Secret(self.client.clone(), self.namespace.clone())
    }

    /// Where that is, and what it was.
    #[must_use]
    pub fn seen(&self) -> (Source, Option<Entries>) {
        (self.source(), self.plugged.clone())
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
        let Self { client, ca, .. } = self;
        let namespaces = Namespaces::follow(&client, tasks, drain);
        if let Some(file) = &config.injection {
            let refused = refusals::tell(&client, &config.common.name, tasks, drain);
            injecting::start(config, file, (namespaces.clone(), refused), authority, shown, (tasks, drain))?;
        }
        tasks.spawn(roots::keep(client.clone(), namespaces, roots.clone(), drain.clone()));
        tasks.spawn(bundle::keep(client, roots, drain.clone()));
        let (dir, drain) = (config.ca_dir(), drain.clone());
        tasks.spawn(async move { ca.follow(&dir, &drain).await });
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

fn read(source: &Source, entries: &Entries, config: &Config) -> Result<Plugged, Error> {
    Ok(plugged::read(source, entries, &config.common.cluster.trust_domain(&config.common.mesh))?)
}

fn make_ca(source: &Source, plugged: Option<&Entries>, config: &Config) -> Result<(), Error> {
    let plugged = plugged.map(|entries| read(source, entries, config)).transpose()?;
    Authority::open(config, plugged).map(drop)
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
