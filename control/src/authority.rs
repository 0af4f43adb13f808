//! Control contains the cluster's certificate authority: it opens it, serves it beside the feed, and is its own first
//! customer.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use isthmus_ca::{Ca, Reviewer, Settings};
use isthmus_runtime::{drain::Drain, enrolment::system_identity, identity::Identity};
use isthmus_wire::identity::certificate_authority_server::CertificateAuthorityServer;

use crate::{config::Config, error::Error, webhook};

/// The certificate authority of the cluster.
pub struct Authority(Ca);

impl Authority {
    /// Opens it, or makes it with a root of its own.
    ///
    /// # Errors
    /// [`Error::Ca`].
    pub fn open(config: &Config) -> Result<Self, Error> {
        let settings = Settings { leaf_ttl: config.leaf_ttl(), ..Settings::default() };
        let ca = Ca::open_or_create(&config.ca_dir(), &config.common.mesh, &config.common.cluster, settings);
        ca.map(Self).map_err(|source| Error::Ca { dir: config.ca_dir(), source })
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
        self.0.roots().iter().map(|root| STANDARD.encode(root)).collect()
    }

    /// The same, PEM.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.0.roots().iter().map(|root| isthmus_ca::enrol::pem(root)).collect()
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
