//! The certificate of a server whose clients know it by its name: the API server, calling a webhook, knows nothing of
//! SPIFFE ids.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, DnsName, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::Ca;
use crate::{CaError, leaf};

/// Longest common name (RFC 5280, upper bound ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// A server's certificate with its key.
#[derive(Debug)]
pub struct ServerLeaf {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key, PKCS#8.
    pub key: PrivatePkcs8KeyDer<'static>,
    /// Not valid before.
    pub not_before: SystemTime,
    /// Not valid after.
    pub not_after: SystemTime,
}

impl Ca {
    /// Issues a certificate of a server with these DNS names, key included: for servers of control's own process. It
    /// proves no identity of the mesh, and no role accepts it as one. `ttl` is cut to the setting, as in [`Ca::issue`].
    ///
    /// # Errors
    /// [`CaError`]: no name, a name that is none of DNS.
    pub fn server_leaf(&self, dns_names: &[&str], ttl: Duration) -> Result<ServerLeaf, CaError> {
        let first = dns_names.first().ok_or_else(|| CaError::Request("it has no DNS name".into()))?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::now_utc();
        params.not_before = now - leaf::BACKDATED;
        let issuing = self.issuing();
        // A leaf's longest life is a server's too, and bounds a sum that could overflow.
        let not_after = now + ttl.min(self.0.settings.leaf_ttl).max(leaf::SHORTEST);
        params.not_after = not_after.min(issuing.not_after.into());
        params.serial_number = Some(leaf::serial()?);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, first.chars().take(MAX_COMMON_NAME).collect::<String>());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let name = |name: &&str| {
            let wrong = |_| CaError::Request(format!("{name:?} is no DNS name"));
            DnsName::try_from(*name).map_err(wrong)?;
            Ok::<_, CaError>(SanType::DnsName((*name).try_into()?))
        };
        params.subject_alt_names = dns_names.iter().map(name).collect::<Result<_, _>>()?;
        params.use_authority_key_identifier_extension = true;
        let (not_before, not_after) = (params.not_before.into(), params.not_after.into());
        let certificate = params.signed_by(&key, &issuing.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(ServerLeaf { chain: issuing.chain(certificate.der()), key, not_before, not_after })
    }
}
