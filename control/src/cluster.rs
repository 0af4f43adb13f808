//! What control is to a cluster of Kubernetes beside reading its objects: its key material is a Secret's, so that each
//! replica has the same; pods are who the API server says they are; every namespace has the roots.

mod injecting;
mod refusals;

use std::{path::Path, sync::Arc};

use isthmus_ca::{Account, Ca, NotReviewed, Reviewer, Settings};
use isthmus_kubernetes::{
    Access, Client, bundle,
    namespaces::Namespaces,
    review::{self, AUDIENCE, ReviewError},
    roots,
    vault::{Vault, VaultError},
};
use isthmus_runtime::{drain::Drain, key};
use prometheus::Registry;
use tokio::task::JoinSet;

use crate::{authority::Authority, config::Config, error::Error};

/// The CA's Secret and its entries.
const CA: (&str, &[&str]) = ("isthmus-ca", &["authority.json", "pass-roots.json"]);
/// The federation key's; the member mounts it.
const KEY: (&str, &[&str]) = ("isthmus-federation-key", &["key.der"]);

/// The cluster of Kubernetes that control runs for.
pub struct Cluster {
    client: Client,
    ca: Vault,
}

impl Cluster {
    /// Fetches what all replicas have the same, or makes it.
    ///
    /// # Errors
    /// [`Error::Kubernetes`], [`Error::Vault`].
    pub async fn open(access: &Access, config: &Config, drain: &Drain) -> Result<Self, Error> {
        let client = access.client().await?;
        let ca = Vault::new(&client, &access.namespace, CA.0, CA.1);
        ca.open(&config.ca_dir(), || make_ca(config), drain).await?;
        let file = config.federation_key();
        let key = Vault::new(&client, &access.namespace, KEY.0, KEY.1);
        let dir = file.parent().unwrap_or_else(|| Path::new("."));
        key.open(dir, || key::federation_key(&file).map(drop).map_err(|error| error.to_string()), drain).await?;
        Ok(Self { client, ca })
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
        registry: &Registry,
        (tasks, drain): (&mut JoinSet<()>, &Drain),
    ) -> Result<(), Error> {
        let Self { client, ca } = self;
        if let Some(file) = &config.injection {
            let namespaces = Namespaces::follow(&client, tasks, drain);
            let refused = refusals::tell(&client, &config.common.name, tasks, drain);
            injecting::start(config, file, (namespaces, refused), authority, registry, (tasks, drain))?;
        }
        tasks.spawn(roots::keep(client.clone(), authority.roots_pem(), drain.clone()));
        tasks.spawn(bundle::keep(client, authority.roots_pem(), drain.clone()));
        let (dir, drain) = (config.ca_dir(), drain.clone());
        tasks.spawn(async move { ca.follow(&dir, &drain).await });
        Ok(())
    }
}

fn make_ca(config: &Config) -> Result<(), String> {
    let settings = Settings { leaf_ttl: config.leaf_ttl(), ..Settings::default() };
    let made = Ca::open_or_create(&config.ca_dir(), &config.common.mesh, &config.common.cluster, settings);
    made.map(drop).map_err(|error| error.to_string())
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
