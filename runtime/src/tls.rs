//! TLS 1.3 between identities.
//!
//! What is checked of a peer, in this order: its leaf has exactly one URI name and that is a SPIFFE id; the chain
//! leads to a root of *that id's* trust domain; it is valid now and meant for this side of TLS; and the id is one we
//! mean to talk to ([`Accept`]). Host names play no part. No tickets, no 0-RTT: every connection is a full handshake
//! under the roots of this moment. The own leaf is looked up at each handshake, so a renewal touches no connection.

mod refused;
mod verifier;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, LazyLock},
};

use isthmus_core::name::{SpiffeId, TrustDomain};
use rustls::{
    ClientConfig, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::CertificateDer;

pub use refused::PeerRefused;
use verifier::{PeerVerifier, Roots};

use crate::{identity::Identity, trust::TrustRoots};

/// What stands in front of a verifier's own error where rustls shows it; two brackets close it.
const OTHER_ERROR: &str = "Other(OtherError(";

/// Whom we mean to talk to, beyond what the roots vouch for.
#[derive(Clone)]
pub enum Accept {
    /// Anyone of any known trust domain.
    Any,
    /// These and nobody else.
    Exactly(BTreeSet<SpiffeId>),
    /// Whoever the function says yes to.
    OneOf(Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>),
    /// Anyone of one trust domain.
    TrustDomain(TrustDomain),
}

impl Accept {
    /// One identity.
    #[must_use]
    pub fn one(id: SpiffeId) -> Self {
        Self::Exactly(BTreeSet::from([id]))
    }

    fn accepts(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(ids) => ids.contains(id),
            Self::OneOf(function) => function(id),
            Self::TrustDomain(domain) => id.trust_domain() == domain,
        }
    }
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anyone"),
            Self::OneOf(_) => f.write_str("identities chosen by rule"),
            Self::TrustDomain(domain) => write!(f, "anyone of {domain}"),
            Self::Exactly(ids) => {
                let shown: Vec<_> = ids.iter().take(3).map(ToString::to_string).collect();
                let more = if ids.len() > shown.len() { ", ..." } else { "" };
                write!(f, "{}{more}", shown.join(", "))
            }
        }
    }
}

/// Whether a client must show who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without a valid certificate there is no connection.
    Required,
    /// It may come without one (enrolment, join); one that it shows must be valid.
    Optional,
}

/// How keys are agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyExchange {
    /// X25519 first; a peer that insists on the hybrid gets it.
    #[default]
    Classic,
    /// X25519MLKEM768 first: safe against a later quantum computer, 18 % fewer full handshakes.
    PostQuantum,
}

static CLASSIC: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| provider(KeyExchange::Classic));
static POST_QUANTUM: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| provider(KeyExchange::PostQuantum));

/// aws-lc-rs with TLS 1.3 only, AES-128 first: the fastest on machines with AES instructions, and QUIC needs it.
fn provider(exchange: KeyExchange) -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite as suite, kx_group as group};
    let kx_groups = match exchange {
        KeyExchange::Classic => vec![group::X25519, group::X25519MLKEM768, group::SECP256R1],
        KeyExchange::PostQuantum => vec![group::X25519MLKEM768, group::X25519, group::SECP256R1],
    };
    let cipher_suites =
        vec![suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() })
}

fn shared_provider(exchange: KeyExchange) -> Arc<CryptoProvider> {
    match exchange {
        KeyExchange::Classic => CLASSIC.clone(),
        KeyExchange::PostQuantum => POST_QUANTUM.clone(),
    }
}

/// TLS of a client that shows its own leaf.
#[must_use]
pub fn client_config(identity: &Identity, accept: Accept, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client_config_with(identity, accept, alpn, KeyExchange::default())
}

/// As [`client_config`], with a choice of key exchange.
#[must_use]
pub fn client_config_with(
    identity: &Identity,
    accept: Accept,
    alpn: &[&[u8]],
    exchange: KeyExchange,
) -> Arc<ClientConfig> {
    let verifier = PeerVerifier::new(Roots::Of(identity.clone()), accept, ClientAuth::Required);
    client(verifier, Some(OwnLeaf(identity.clone())), alpn, exchange)
}

/// TLS of a client that has no leaf yet (enrolment, join): it verifies the server under `roots` and shows nothing.
#[must_use]
pub fn anonymous_client_config(roots: TrustRoots, accept: Accept, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let verifier = PeerVerifier::new(Roots::Fixed(Arc::new(roots)), accept, ClientAuth::Required);
    client(verifier, None, alpn, KeyExchange::default())
}

/// TLS of a server that shows its own leaf.
#[must_use]
pub fn server_config(
    identity: &Identity,
    accept: Accept,
    alpn: &[&[u8]],
    client_auth: ClientAuth,
) -> Arc<ServerConfig> {
    server_config_with(identity, accept, alpn, client_auth, KeyExchange::default())
}

/// As [`server_config`], with a choice of key exchange.
#[must_use]
pub fn server_config_with(
    identity: &Identity,
    accept: Accept,
    alpn: &[&[u8]],
    client_auth: ClientAuth,
    exchange: KeyExchange,
) -> Arc<ServerConfig> {
    let verifier = PeerVerifier::new(Roots::Of(identity.clone()), accept, client_auth);
    #[allow(clippy::expect_used, reason = "the provider above has TLS 1.3 suites and groups: this cannot fail")]
    let builder = ServerConfig::builder_with_provider(shared_provider(exchange))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider speaks TLS 1.3");
    let mut config =
        builder.with_client_cert_verifier(Arc::new(verifier)).with_cert_resolver(Arc::new(OwnLeaf(identity.clone())));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

fn client(verifier: PeerVerifier, leaf: Option<OwnLeaf>, alpn: &[&[u8]], exchange: KeyExchange) -> Arc<ClientConfig> {
    #[allow(clippy::expect_used, reason = "the provider above has TLS 1.3 suites and groups: this cannot fail")]
    let builder = ClientConfig::builder_with_provider(shared_provider(exchange))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider speaks TLS 1.3");
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match leaf {
        Some(leaf) => builder.with_client_cert_resolver(Arc::new(leaf)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Why a handshake failed, in our words where the reason is ours: rustls shows a verifier's own errors as debug output.
#[must_use]
pub fn explain(error: &std::io::Error) -> String {
    refusal(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The same where only an error's text is left, as of QUIC, which also sends it to the peer.
#[must_use]
pub fn explain_text(error: &str) -> &str {
    error.split_once(OTHER_ERROR).and_then(|(_, own)| own.strip_suffix("))")).unwrap_or(error)
}

/// The refusal of a peer behind a failed handshake, if that is what it is.
#[must_use]
pub fn refusal(error: &std::io::Error) -> Option<&PeerRefused> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).and_then(refusal_of)
}

/// The refusal inside a rustls error, if that is what it is.
#[must_use]
pub fn refusal_of(error: &rustls::Error) -> Option<&PeerRefused> {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// The identity of a *verified* connection, from rustls' `peer_certificates()`.
#[must_use]
pub fn peer_spiffe(certificates: Option<&[CertificateDer<'_>]>) -> Option<SpiffeId> {
    spiffe_of(certificates?.first()?).ok()
}

/// The identity a certificate claims; whether the claim holds is the verifier's question.
///
/// # Errors
/// [`PeerRefused`] when it has not exactly one URI name or that is no SPIFFE id.
pub fn spiffe_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, PeerRefused> {
    let parsed = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| PeerRefused::NotACertificate { reason: error.to_string() })?;
    verifier::claimed(&parsed)
}

/// Checks a chain as the verifier does, without a connection.
///
/// # Errors
/// [`PeerRefused`], the reason in words.
pub fn verify_chain(
    roots: &TrustRoots,
    chain: &[CertificateDer<'_>],
    now: std::time::SystemTime,
) -> Result<SpiffeId, PeerRefused> {
    let Some((leaf, rest)) = chain.split_first() else {
        return Err(PeerRefused::NotACertificate { reason: "the chain is empty".into() });
    };
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = rustls_pki_types::UnixTime::since_unix_epoch(since);
    verifier::verify(roots, leaf, rest, now, verifier::Side::Server)
}

/// Looks the own leaf up at each handshake.
#[derive(Debug)]
struct OwnLeaf(Identity);

impl ResolvesServerCert for OwnLeaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.leaf().certified.clone())
    }
}

impl ResolvesClientCert for OwnLeaf {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.leaf().certified.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}
