//! The check of a peer's chain: the roots of its own trust domain, and no others.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use isthmus_core::name::SpiffeId;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Accept, ClientAuth, PeerRefused};
use crate::{certificate, identity::Identity, trust::TrustRoots};

/// id-kp-serverAuth, id-kp-clientAuth (RFC 5280, 4.2.1.12). Of a leaf they are demanded; what signs leaves seldom names any,
/// and is held to what it names.
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
    let entity =
        EndEntityCert::try_from(leaf).map_err(|error| PeerRefused::NotACertificate { reason: error.to_string() })?;
    let id = claimed(&entity)?;
    let domain = id.trust_domain().clone();
    let anchors = roots.anchors(&domain);
    if anchors.is_empty() {
        return Err(PeerRefused::UnknownDomain { id, domain });
    }
    let usage = KeyUsage::required_if_present(match side {
        Side::Server => SERVER_AUTH,
        Side::Client => CLIENT_AUTH,
    });
    let in_force = |path: &VerifiedPath<'_>| match roots.end(&domain, path.anchor()) {
        Some(not_after) if now > not_after => Err(webpki::Error::CertExpired { time: now, not_after }),
        _ => Ok(()),
    };
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let verified = entity.verify_for_usage(algorithms, anchors, rest, now, usage, None, Some(&in_force));
    match verified {
        Ok(_) if is_meant_for(leaf, side) => Ok(id),
        Ok(_) => Err(PeerRefused::Unusable { id, reason: format!("it is not meant for a {side:?} of TLS") }),
        Err(error) => Err(explain(id, leaf, anchors.len(), error)),
    }
}

/// Whether a certificate names this side of TLS among its uses.
fn is_meant_for(leaf: &CertificateDer<'_>, side: Side) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return false };
    let uses = parsed.extended_key_usage().ok().flatten().map(|uses| match side {
        Side::Server => uses.value.server_auth,
        Side::Client => uses.value.client_auth,
    });
    uses == Some(true)
}

fn explain(id: SpiffeId, leaf: &CertificateDer<'_>, roots: usize, error: webpki::Error) -> PeerRefused {
    let domain = id.trust_domain().clone();
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            let seconds = time.as_secs().saturating_sub(not_after.as_secs());
            let is_over = certificate::validity(leaf)
                .is_ok_and(|(_, end)| end <= UNIX_EPOCH + Duration::from_secs(time.as_secs()));
            if is_over {
                PeerRefused::Expired { id, seconds }
            } else {
                PeerRefused::AuthorityExpired { id, domain, seconds }
            }
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
