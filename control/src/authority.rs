//! Control contains the cluster's certificate authority: it opens it, serves it beside the feed, and is its own first
//! customer.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use isthmus_ca::{Ca, CaError, Plugged, Reviewer, Settings};
use isthmus_runtime::{drain::Drain, enrolment::system_identity, identity::Identity};
use isthmus_wire::identity::certificate_authority_server::CertificateAuthorityServer;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    config::Config,
    error::Error,
    handle::{Handle, Message},
    keeping::{Keeping, Places},
    plugged::{Standing, Watcher},
    webhook,
};

/// The certificate authority of the cluster.
pub struct Authority(Ca);

/// What signs: what did before, else what somebody brings along, else a root of the cluster's own.
fn open(config: &Config, brought: Option<Plugged>) -> Result<Ca, CaError> {
    let replicated = config.kubernetes.is_some();
    let settings = Settings { leaf_ttl: config.leaf_ttl(), replicated, ..Settings::default() };
    let (dir, mesh, cluster) = (config.ca_dir(), &config.common.mesh, &config.common.cluster);
    let plugged = match (Plugged::kept(&dir, &cluster.trust_domain(mesh), SystemTime::now()), brought) {
        (Ok(Some(kept)), _) => Some(kept),
        // What is brought along only now is announced first.
        (Ok(None), brought) => brought.filter(|_| !Ca::is_in(&dir)),
        // What signed can sign no more.
        (Err(_), Some(brought)) => Some(brought),
        (Err(error), None) => return Err(error),
    };
    match plugged {
        Some(plugged) => Ca::open_plugged(&dir, mesh, cluster, plugged, settings),
        None => Ca::open_or_create(&dir, mesh, cluster, settings),
    }
}

impl Authority {
    /// Opens it, or makes it, with a root of its own where nobody brings one along.
    ///
    /// # Errors
    /// [`Error::Ca`].
    pub fn open(config: &Config, brought: Option<Plugged>) -> Result<Self, Error> {
        open(config, brought).map(Self).map_err(|source| Error::Ca { dir: config.ca_dir(), source })
    }

    /// Control's own identity, renewed until the drain closes.
    ///
    /// # Errors
    /// [`Error::Ca`].
    pub fn identity(&self, config: &Config, drain: &Drain) -> Result<Identity, Error> {
        let id = system_identity(self.0.trust_domain(), "control")?;
        self.0.local_identity(&id, drain.clone()).map_err(|source| Error::Ca { dir: config.ca_dir(), source })
    }

    /// Its roots, DER in base64.
    #[must_use]
    pub fn roots(&self) -> Vec<String> {
        encoded(&self.0.roots())
    }

    /// The same, PEM.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        pem(&self.0.roots())
    }

    /// Tells the desk of each change of the roots, and whoever has them as PEM; looks at what replicas share and for another
    /// authority to sign with, and shows how that stands.
    pub fn follow(
        &self,
        config: &Config,
        places: Places,
        desk: Handle,
        (tasks, drain): (&mut JoinSet<()>, &Drain),
    ) -> (watch::Receiver<String>, Option<Arc<Mutex<Standing>>>) {
        let (told, texts) = watch::channel(self.roots_pem());
        let (telling, ending) = (tell(self.0.watch_roots(), told, desk), drain.clone());
        tasks.spawn(async move {
            let _ = ending.unless(telling).await;
        });
        let Places { source, vault, events } = places;
        let watcher = source.map(|source| Watcher::new(source, self.0.clone(), config.announced(), events));
        let standing = watcher.as_ref().map(Watcher::standing);
        tasks.spawn(Keeping::new(self.0.clone(), vault, watcher).run(drain.clone()));
        (texts, standing)
    }

    /// Tells when the certificate that signs ends.
    pub fn ends(&self) -> impl Fn() -> (SystemTime, SystemTime) + Send + Sync + use<> {
        let ca = self.0.clone();
        move || ca.validity()
    }

    /// It as replicas tell each other of it.
    #[must_use]
    pub fn ca(&self) -> Ca {
        self.0.clone()
    }

    /// The certificate of the webhooks.
    ///
    /// # Errors
    /// [`Error::Webhook`].
    pub fn webhooks(&self) -> Result<webhook::Certificate, Error> {
        Ok(webhook::Certificate::issue(self.0.clone(), &webhook::DNS_NAMES, webhook::certificate::LIFE)?)
    }

    /// The gRPC service; with a reviewer, pods prove who they are by their service account's tokens.
    #[must_use]
    pub fn service(
        &self,
        reviewer: Option<Arc<dyn Reviewer>>,
    ) -> CertificateAuthorityServer<isthmus_ca::service::Service> {
        isthmus_ca::service(self.0.clone(), reviewer)
    }
}

async fn tell(mut roots: watch::Receiver<Vec<CertificateDer<'static>>>, told: watch::Sender<String>, desk: Handle) {
    while roots.changed().await.is_ok() {
        let now = roots.borrow_and_update().clone();
        told.send_replace(pem(&now));
        desk.tell(Message::Roots(encoded(&now))).await;
    }
}

fn encoded(roots: &[CertificateDer<'_>]) -> Vec<String> {
    roots.iter().map(|root| STANDARD.encode(root)).collect()
}

fn pem(roots: &[CertificateDer<'_>]) -> String {
    roots.iter().map(|root| isthmus_ca::enrol::pem(root)).collect()
}
