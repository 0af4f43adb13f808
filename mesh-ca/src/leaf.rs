//! The certificate of a workload: one SPIFFE id, both sides of TLS, a short life.

use std::time::{Duration, SystemTime};

use isthmus_core::name::SpiffeId;
use rcgen::{
    Certificate, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SubjectPublicKeyInfo,
};
use time::OffsetDateTime;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{CaError, issuing::Issuing, store};

/// A certificate is valid this long before it was made: clocks of a cluster differ a little.
pub(crate) const BACKDATED: time::Duration = time::Duration::seconds(60);
/// The shortest life of a leaf.
pub(crate) const SHORTEST: Duration = Duration::from_secs(1);
/// Longest CSR that is looked at, bytes: one with a P-256 key has some 200.
const MAX_CSR: usize = 16 * 1024;

/// The public key of a CSR, whose holder has proved that it has the private one. All else in it is ignored.
pub(crate) fn public_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    let refused = |reason: &str| CaError::Request(reason.to_owned());
    if csr.len() > MAX_CSR {
        return Err(refused("it is longer than 16 KiB"));
    }
    let (rest, request) = X509CertificationRequest::from_der(csr).map_err(|_| refused("it is no PKCS#10 in DER"))?;
    if !rest.is_empty() {
        return Err(refused("bytes follow it"));
    }
    request.verify_signature().map_err(|_| refused("it is not signed by the key it names"))?;
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| refused("its key is of an unknown kind"))?;
    if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
        return Err(refused("only P-256 keys are taken"));
    }
    Ok(key)
}

/// A leaf, and when it ends: not after what signs it does.
pub(crate) fn sign(
    id: &SpiffeId,
    key: &impl PublicKeyData,
    issuing: &Issuing,
    now: SystemTime,
    ttl: Duration,
) -> Result<(Certificate, SystemTime), CaError> {
    let mut params = CertificateParams::default();
    let begin = OffsetDateTime::from(now);
    // Certificates count whole seconds: the fraction goes up, so that a life of a second is at least one.
    let end =
        begin.replace_nanosecond(0).map_err(|error| CaError::Crypto(error.to_string()))? + time::Duration::SECOND + ttl;
    let end = end.min(issuing.not_after.into());
    params.not_before = begin - BACKDATED;
    params.not_after = end;
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    params.use_authority_key_identifier_extension = true;
    Ok((params.signed_by(key, &issuing.issuer)?, end.into()))
}

/// 127 random bits (RFC 5280, 4.1.2.2: positive, at most 20 bytes).
pub(crate) fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = store::random(16)?;
    if let Some(first) = bytes.first_mut() {
        *first &= 0x7f;
    }
    Ok(SerialNumber::from_slice(&bytes))
}
