//! The serving certificate: issued by the cluster's CA, renewed at half its life, taken by each handshake as it is then.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use isthmus_ca::{Ca, CaError, ServerLeaf};
use isthmus_runtime::drain::Drain;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

/// What connections agree on; the API server speaks HTTP/2, `curl` of an operator either.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Life of a certificate, unless leaves of the cluster live shorter.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);
/// After a failure it is tried again in so long; half a life remains for it.
const AGAIN: Duration = Duration::from_secs(10);

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The CA does not issue it.
    #[error("the CA issues no certificate for the webhooks")]
    Ca(#[from] CaError),
    /// What it issued cannot be used.
    #[error("the webhooks' certificate cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The serving certificate. Cheap to clone; all clones see a renewal at once.
#[derive(Clone)]
pub struct Certificate(Arc<Shared>);

struct Shared {
    ca: Ca,
    names: Vec<&'static str>,
    life: Duration,
    current: ArcSwap<Current>,
    renewals: watch::Sender<u64>,
}

struct Current {
    certified: Arc<CertifiedKey>,
    not_before: SystemTime,
    not_after: SystemTime,
    half_life: Duration,
}

impl Current {
    fn issue(ca: &Ca, names: &[&str], life: Duration) -> Result<Self, CertificateError> {
        let ServerLeaf { chain, key, not_before, not_after } = ca.server_leaf(names, life)?;
        let key = aws_lc_rs::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(key))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match()?;
        let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
        Ok(Self { certified: Arc::new(certified), not_before, not_after, half_life: left / 2 })
    }
}

impl Certificate {
    /// Issues the first one.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn issue(ca: Ca, names: &[&'static str], life: Duration) -> Result<Self, CertificateError> {
        let current = ArcSwap::from_pointee(Current::issue(&ca, names, life)?);
        let renewals = watch::Sender::new(0);
        Ok(Self(Arc::new(Shared { ca, names: names.to_vec(), life, current, renewals })))
    }

    /// Issues the next one: when the CA has a new root, and at half life.
    ///
    /// # Errors
    /// [`CertificateError`]; the old one stays.
    pub fn renew(&self) -> Result<(), CertificateError> {
        let current = Current::issue(&self.0.ca, &self.0.names, self.0.life)?;
        self.0.current.store(Arc::new(current));
        self.0.renewals.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Renews it at half its life, again and again, until the drain.
    pub async fn keep_fresh(self, drain: Drain) {
        loop {
            let half = self.0.current.load().half_life;
            if drain.unless(tokio::time::sleep(half)).await.is_none() {
                return;
            }
            while let Err(error) = self.renew() {
                tracing::error!(%error, "the webhooks' certificate is not renewed");
                if drain.unless(tokio::time::sleep(AGAIN)).await.is_none() {
                    return;
                }
            }
        }
    }

    /// Wakes at each renewal.
    #[must_use]
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.0.renewals.subscribe()
    }

    /// From when and until when what handshakes get now is valid.
    #[must_use]
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        let current = self.0.current.load();
        (current.not_before, current.not_after)
    }

    /// What handshakes get now, leaf first.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.current.load().certified.cert.clone()
    }

    /// TLS 1.3 of a server that shows this certificate and asks for none: the API server shows one only where it was
    /// told to, and what it says changes nothing that others could not read.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        #[allow(clippy::expect_used, reason = "the provider has TLS 1.3 suites and groups: this cannot fail")]
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider speaks TLS 1.3");
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load().certified.clone())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.0.names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use isthmus_ca::Settings;

    use super::*;

    fn ca(dir: &tempfile::TempDir, leaf_ttl: Duration) -> Ca {
        let (mesh, cluster) = ("mesh.local".parse().unwrap(), "east".parse().unwrap());
        let settings = Settings { leaf_ttl, ..Settings::default() };
        Ca::open_or_create(dir.path(), &mesh, &cluster, settings).unwrap()
    }

    #[tokio::test]
    async fn it_is_renewed_again_and_again_and_handshakes_take_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let short = Certificate::issue(ca(&dir, Duration::from_secs(1)), &["webhook.east.svc"], LIFE).unwrap();
        let (mut renewals, mut before) = (short.renewals(), short.chain());
        let keeping = tokio::spawn(short.clone().keep_fresh(Drain::new()));
        for _ in 0..2 {
            tokio::time::timeout(Duration::from_secs(60), renewals.changed()).await.unwrap().unwrap();
            let now = short.chain();
            assert_ne!(before, now);
            before = now;
        }
        keeping.abort();
    }

    #[test]
    fn half_of_its_life_is_left_for_what_may_fail() {
        let dir = tempfile::tempdir().unwrap();
        let half = Certificate::issue(ca(&dir, LIFE), &["webhook.east.svc"], LIFE).unwrap().0.current.load().half_life;
        assert!(half <= LIFE / 2 && half > LIFE / 2 - Duration::from_secs(60), "{half:?}");
    }

    #[tokio::test]
    async fn the_drain_ends_its_care() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = Certificate::issue(ca(&dir, LIFE), &["webhook.east.svc"], LIFE).unwrap();
        let (trigger, drain) = Drain::pair();
        let keeping = tokio::spawn(certificate.keep_fresh(drain));
        trigger.drain("the test says so");
        tokio::time::timeout(Duration::from_secs(60), keeping).await.unwrap().unwrap();
    }
}
