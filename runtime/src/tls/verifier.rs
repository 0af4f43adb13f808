//! The check of a peer's chain: the roots of its own trust domain, and no others.

use std::sync::Arc;

use isthmus_core::name::SpiffeId;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::{Accept, ClientAuth, PeerRefused};
use crate::{identity::Identity, trust::TrustRoots};

/// id-kp-serverAuth, id-kp-clientAuth (RFC 5280, 4.2.1.12): demanded, not only honoured when there.
const SERVER_AUTH: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 2];

/// Where the roots come from.
#[derive(Debug)]
pub(super) enum Roots {
    /// Those in force at the moment of the handshake.
    Of(Identity),
    /// Always these.
    Fixed(Arc<TrustRoots>),
}

/// Which side of TLS the peer is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Server,
    Client,
}

#[derive(Debug)]
pub(super) struct PeerVerifier {
    roots: Roots,
    accept: Accept,
    client_auth: ClientAuth,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(super) fn new(roots: Roots, accept: Accept, client_auth: ClientAuth) -> Self {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Self { roots, accept, client_auth, algorithms }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
        side: Side,
    ) -> Result<(), Error> {
        let roots = match &self.roots {
            Roots::Of(identity) => identity.trust(),
            Roots::Fixed(roots) => roots.clone(),
        };
        let id = verify(&roots, leaf, rest, now, side).map_err(refusal)?;
        if self.accept.accepts(&id) {
            Ok(())
        } else {
            Err(refusal(PeerRefused::NotExpected { id, expected: self.accept.to_string() }))
        }
    }
}

fn refusal(reason: PeerRefused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// The one SPIFFE id a certificate claims.
pub(super) fn claimed(certificate: &EndEntityCert<'_>) -> Result<SpiffeId, PeerRefused> {
    let mut names = certificate.valid_uri_names();
    match (names.next(), names.count()) {
        (Some(name), 0) => name
            .parse()
            .map_err(|error: isthmus_core::name::InvalidName| PeerRefused::NotASpiffeId { reason: error.to_string() }),
        (None, _) => Err(PeerRefused::Names { count: 0 }),
        (Some(_), more) => Err(PeerRefused::Names { count: more + 1 }),
    }
}

/// Everything but the question whom we mean to talk to.
pub(super) fn verify(
    roots: &TrustRoots,
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    now: UnixTime,
    side: Side,
) -> Result<SpiffeId, PeerRefused> {
    let certificate =
        EndEntityCert::try_from(leaf).map_err(|error| PeerRefused::NotACertificate { reason: error.to_string() })?;
    let id = claimed(&certificate)?;
    let domain = id.trust_domain().clone();
    let anchors = roots.anchors(&domain);
    if anchors.is_empty() {
        return Err(PeerRefused::UnknownDomain { id, domain });
    }
    let usage = KeyUsage::required(match side {
        Side::Server => SERVER_AUTH,
        Side::Client => CLIENT_AUTH,
    });
    let verified = certificate.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, anchors, rest, now, usage, None, None);
    match verified {
        Ok(_) => Ok(id),
        Err(error) => Err(explain(id, anchors.len(), error)),
    }
}

fn explain(id: SpiffeId, roots: usize, error: webpki::Error) -> PeerRefused {
    let domain = id.trust_domain().clone();
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            PeerRefused::Expired { id, seconds: time.as_secs().saturating_sub(not_after.as_secs()) }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            PeerRefused::NotYet { id, seconds: not_before.as_secs().saturating_sub(time.as_secs()) }
        }
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            PeerRefused::ForeignRoot { id, domain, roots, reason: error.to_string() }
        }
        other => PeerRefused::Unusable { id, reason: other.to_string() },
    }
}

fn tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".into())
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, rest, now, Side::Server).map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, rest, now, Side::Client).map(|()| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
