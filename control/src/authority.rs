//! Control contains the cluster's certificate authority: it opens it, serves it beside the feed, and is its own first
//! customer.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use isthmus_ca::{Ca, CaError, Plugged, Reviewer, Settings};
use isthmus_runtime::{drain::Drain, enrolment::system_identity, identity::Identity};
use isthmus_wire::identity::certificate_authority_server::CertificateAuthorityServer;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::{
    config::Config,
    error::Error,
    handle::{Handle, Message},
    plugged::{Source, Watcher},
    webhook,
};

/// The certificate authority of the cluster.
pub struct Authority(Ca);

/// What signs: a root of the cluster's own, or what somebody brought along.
fn open(config: &Config, plugged: Option<Plugged>) -> Result<Ca, CaError> {
    let settings = Settings { leaf_ttl: config.leaf_ttl(), ..Settings::default() };
    let (dir, mesh, cluster) = (config.ca_dir(), &config.common.mesh, &config.common.cluster);
    match plugged {
        Some(plugged) => Ca::open_plugged(&dir, mesh, cluster, plugged, settings),
        None => Ca::open_or_create(&dir, mesh, cluster, settings),
    }
}

impl Authority {
    /// Opens it, or makes it with a root of its own where nobody brought one along.
    ///
    /// # Errors
    /// [`Error::Ca`].
    pub fn open(config: &Config, plugged: Option<Plugged>) -> Result<Self, Error> {
        open(config, plugged).map(Self).map_err(|source| Error::Ca { dir: config.ca_dir(), source })
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

    /// Tells the desk, and whoever has them as PEM, when they change; ends with the authority or the desk.
    #[must_use]
    pub fn tell_roots(&self, desk: Handle) -> (watch::Receiver<String>, impl Future<Output = ()> + Send + use<>) {
        let mut roots = self.0.watch_roots();
        let (told, texts) = watch::channel(self.roots_pem());
        let telling = async move {
            while roots.changed().await.is_ok() {
                let now = roots.borrow_and_update().clone();
                told.send_replace(pem(&now));
                desk.tell(Message::Roots(encoded(&now))).await;
            }
        };
        (texts, telling)
    }

    /// One who looks for another authority to sign with.
    #[must_use]
    pub fn watcher(&self, source: Source, seen: Option<isthmus_ca::plugged::Entries>) -> Watcher {
        Watcher::new(source, self.0.clone(), seen)
    }

    /// Tells when the certificate that signs ends.
    #[must_use]
    pub fn ends(&self) -> impl Fn() -> (SystemTime, SystemTime) + Send + Sync + use<> {
        let ca = self.0.clone();
        move || ca.validity()
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

fn encoded(roots: &[CertificateDer<'_>]) -> Vec<String> {
    roots.iter().map(|root| STANDARD.encode(root)).collect()
}

fn pem(roots: &[CertificateDer<'_>]) -> String {
    roots.iter().map(|root| isthmus_ca::enrol::pem(root)).collect()
}
