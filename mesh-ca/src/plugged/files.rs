//! The four files, each read and judged by itself.

use std::time::SystemTime;

use isthmus_runtime::{certificate, tls::PeerRefused};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::issuing::is_key_of;

use super::{CERTIFICATE, CHAIN, Entries, KEY, PluggedError, ROOT};

/// Most certificates between the one that signs and its root: webpki follows no longer way, and each goes into each handshake.
const MOST: usize = 4;

pub(super) const ANOTHER: &str = "have your certificate authority issue one that may sign (CA:TRUE, keyCertSign)";
const WHOLE: &str = "write all four as Istio's plug-in CA certificates are: ca-cert.pem, ca-key.pem, root-cert.pem and \
                     cert-chain.pem, in PEM";
const RENEW: &str = "renew it, and write all four anew";
const CLOCK: &str = "wait until then, or set the clock";
const CHAINED: &str = "cert-chain.pem has to hold each certificate from ca-cert.pem up to one of root-cert.pem";

type Validity = (SystemTime, SystemTime);

/// The four, and where they are from.
pub(super) struct Files<'a> {
    pub(super) place: &'a str,
    pub(super) entries: &'a Entries,
}

impl Files<'_> {
    pub(super) fn wrong(&self, entry: &'static str, reason: impl Into<String>, remedy: &'static str) -> PluggedError {
        PluggedError { place: self.place.to_owned(), entry, reason: reason.into(), remedy }
    }

    /// The four, and nothing that is beside them.
    pub(super) fn four(&self) -> Entries {
        let is_ours = |(name, _): &(&String, &Vec<u8>)| [CERTIFICATE, KEY, ROOT, CHAIN].contains(&name.as_str());
        self.entries.iter().filter(is_ours).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    }

    fn bytes(&self, entry: &'static str) -> Result<&[u8], PluggedError> {
        self.entries.get(entry).map(Vec::as_slice).ok_or_else(|| self.wrong(entry, "it is missing", WHOLE))
    }

    fn certificates(&self, entry: &'static str) -> Result<Vec<CertificateDer<'static>>, PluggedError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.bytes(entry)?).collect();
        all.map_err(|error| self.wrong(entry, format!("it is no PEM: {error}"), WHOLE))
    }

    /// The certificate that signs, and from when and until when.
    pub(super) fn certificate(&self, now: SystemTime) -> Result<(CertificateDer<'static>, Validity), PluggedError> {
        let first = self.certificates(CERTIFICATE)?.into_iter().next();
        let first = first.ok_or_else(|| self.wrong(CERTIFICATE, "it holds no certificate", WHOLE))?;
        let validity = self.may_sign(CERTIFICATE, &first, now)?;
        self.can_be_named(&first)?;
        Ok((first, validity))
    }

    /// From when and until when a certificate that may sign now is valid.
    fn may_sign(
        &self,
        entry: &'static str,
        der: &CertificateDer<'_>,
        now: SystemTime,
    ) -> Result<Validity, PluggedError> {
        let unread = |reason: String| self.wrong(entry, reason, WHOLE);
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| unread(format!("it is no certificate: {error}")))?;
        let (not_before, not_after) = certificate::validity(der).map_err(|error| unread(error.to_string()))?;
        let name = parsed.subject().to_string();
        if now > not_after {
            return Err(self.wrong(entry, format!("{name} expired at {}", parsed.validity().not_after), RENEW));
        }
        if now < not_before {
            let reason = format!("{name} is not valid before {}", parsed.validity().not_before);
            return Err(self.wrong(entry, reason, CLOCK));
        }
        if !parsed.is_ca() {
            return Err(self.wrong(entry, format!("{name} is no certificate authority (CA:FALSE)"), ANOTHER));
        }
        let usage = parsed.key_usage().map_err(|error| unread(error.to_string()))?;
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(self.wrong(entry, format!("{name} may sign no certificates (no keyCertSign)"), ANOTHER));
        }
        Ok((not_before, not_after))
    }

    /// rcgen copies the name into leaves attribute by attribute, and knows one a part.
    fn can_be_named(&self, der: &CertificateDer<'_>) -> Result<(), PluggedError> {
        let Ok((_, parsed)) = X509Certificate::from_der(der) else { return Ok(()) };
        if parsed.subject().iter().all(|part| part.iter().count() == 1) {
            return Ok(());
        }
        let reason = format!("{} has several attributes in one part of its subject", parsed.subject());
        let remedy = "have one issued that has one attribute a part, as O=…, CN=…";
        Err(self.wrong(CERTIFICATE, reason, remedy))
    }

    /// The key of `certificate`.
    pub(super) fn key(&self, certificate: &CertificateDer<'_>) -> Result<KeyPair, PluggedError> {
        let none = || {
            let reason =
                "it holds no private key that can be read: RSA or ECDSA, as PKCS#1, SEC1 or PKCS#8, not encrypted";
            self.wrong(KEY, reason, WHOLE)
        };
        let der = PrivateKeyDer::from_pem_slice(self.bytes(KEY)?).map_err(|_| none())?;
        let kinds = [
            &rcgen::PKCS_RSA_SHA256,
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
        ];
        let key =
            kinds.into_iter().find_map(|kind| KeyPair::from_der_and_sign_algo(&der, kind).ok()).ok_or_else(none)?;
        if !is_key_of(&key, certificate) {
            let remedy = "write the key that ca-cert.pem was issued for, and write both together";
            return Err(self.wrong(KEY, "it is not the key of ca-cert.pem", remedy));
        }
        Ok(key)
    }

    /// The roots that may sign now; one has to.
    pub(super) fn roots(&self, now: SystemTime) -> Result<Vec<CertificateDer<'static>>, PluggedError> {
        let all = self.certificates(ROOT)?;
        let mut first = None;
        let mut good = Vec::new();
        for root in all {
            match self.may_sign(ROOT, &root, now) {
                Ok(_) => good.push(root),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        if good.is_empty() {
            return Err(first.unwrap_or_else(|| self.wrong(ROOT, "it holds no certificate", WHOLE)));
        }
        Ok(good)
    }

    /// What goes out behind a leaf. A root is left out: who does not have it does not believe it either.
    pub(super) fn behind(
        &self,
        certificate: &CertificateDer<'static>,
        roots: &[CertificateDer<'static>],
    ) -> Result<Vec<CertificateDer<'static>>, PluggedError> {
        // Without it the root may have signed ca-cert.pem itself.
        let above = if self.entries.contains_key(CHAIN) { self.certificates(CHAIN)? } else { Vec::new() };
        let mut behind = Vec::new();
        for one in std::iter::once(certificate).chain(&above) {
            if !roots.contains(one) && !behind.contains(one) {
                behind.push(one.clone());
            }
        }
        if behind.len() > MOST {
            let reason = format!("it holds {} certificates; {MOST} at most may lead to the root", behind.len());
            return Err(self.wrong(CHAIN, reason, CHAINED));
        }
        Ok(behind)
    }

    /// The leaf that was tried does not lead to the root.
    pub(super) fn not_led(&self, refused: &PeerRefused) -> PluggedError {
        match refused {
            PeerRefused::ForeignRoot { .. } => self.wrong(CHAIN, "it does not lead to root-cert.pem", CHAINED),
            PeerRefused::AuthorityExpired { seconds, .. } => {
                self.wrong(CHAIN, format!("one of its certificates expired {seconds} s ago"), RENEW)
            }
            other => self.wrong(CHAIN, format!("no leaf can be verified over it: {other}"), CHAINED),
        }
    }
}
