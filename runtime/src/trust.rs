//! Roots by trust domain. A chain is accepted only under the roots of its own domain, so one cluster's root can vouch
//! for nobody else's names.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_core::{model::Trust, name::TrustDomain};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};

use crate::certificate;

/// Most roots of one domain that are kept: a rotation needs two.
const MAX_ROOTS: usize = 16;

/// Roots of all trust domains that are known.
#[derive(Clone, Debug, Default)]
pub struct TrustRoots {
    bundles: BTreeMap<TrustDomain, Bundle>,
    refused: Vec<RefusedRoot>,
}

#[derive(Clone, Debug, Default)]
struct Bundle {
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// Of each, when it ends.
    ends: Vec<UnixTime>,
}

/// A root that was left out, and why; the others are in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a root of trust domain {trust_domain} is left out: {reason}")]
pub struct RefusedRoot {
    /// Whose root.
    pub trust_domain: TrustDomain,
    /// What is wrong with it.
    pub reason: String,
}

impl TrustRoots {
    /// No roots.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From the compiled model; what is no certificate is left out and listed in [`TrustRoots::refused`].
    #[must_use]
    pub fn from_model(trust: &Trust) -> Self {
        let mut roots = Self::new();
        for (domain, texts) in &trust.roots {
            for text in texts {
                match STANDARD.decode(text) {
                    Ok(der) => roots.add(domain, CertificateDer::from(der)),
                    Err(error) => roots.refuse(domain, format!("not base64: {error}")),
                }
            }
        }
        roots
    }

    /// As the compiled model carries them.
    #[must_use]
    pub fn to_model(&self) -> Trust {
        let encode = |bundle: &Bundle| bundle.roots.iter().map(|root| STANDARD.encode(root)).collect();
        Trust { roots: self.bundles.iter().map(|(domain, bundle)| (domain.clone(), encode(bundle))).collect() }
    }

    /// Roots of one domain from PEM texts.
    #[must_use]
    pub fn from_pem<'a>(domain: &TrustDomain, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut roots = Self::new();
        for root in texts.into_iter().flat_map(|text| CertificateDer::pem_slice_iter(text.as_bytes())) {
            match root {
                Ok(root) => roots.add(domain, root),
                Err(error) => roots.refuse(domain, format!("not PEM: {error}")),
            }
        }
        roots
    }

    /// Roots of one domain.
    #[must_use]
    pub fn of_domain(domain: &TrustDomain, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut all = Self::new();
        roots.into_iter().for_each(|root| all.add(domain, root));
        all
    }

    /// Adds a root to a domain, or lists it as refused.
    pub fn add(&mut self, domain: &TrustDomain, root: CertificateDer<'static>) {
        let anchor = match webpki::anchor_from_trusted_cert(&root) {
            Ok(anchor) => anchor.to_owned(),
            Err(error) => return self.refuse(domain, format!("not a certificate: {error}")),
        };
        let end = match certificate::validity(&root) {
            Ok((_, end)) => UnixTime::since_unix_epoch(end.duration_since(UNIX_EPOCH).unwrap_or_default()),
            Err(error) => return self.refuse(domain, error.to_string()),
        };
        let bundle = self.bundles.entry(domain.clone()).or_default();
        if bundle.roots.contains(&root) {
            return;
        }
        if bundle.roots.len() >= MAX_ROOTS {
            return self.refuse(domain, format!("the domain has {MAX_ROOTS} roots already"));
        }
        bundle.roots.push(root);
        bundle.anchors.push(anchor);
        bundle.ends.push(end);
    }

    fn refuse(&mut self, domain: &TrustDomain, reason: String) {
        self.refused.push(RefusedRoot { trust_domain: domain.clone(), reason });
    }

    /// Roots of a domain; empty: the domain is not known.
    #[must_use]
    pub fn roots(&self, domain: &TrustDomain) -> &[CertificateDer<'static>] {
        self.bundles.get(domain).map_or(&[], |bundle| &bundle.roots)
    }

    /// The same roots, ready to verify with.
    #[must_use]
    pub fn anchors(&self, domain: &TrustDomain) -> &[TrustAnchor<'static>] {
        self.bundles.get(domain).map_or(&[], |bundle| &bundle.anchors)
    }

    /// When a root of a domain ends, by its anchor: of two certificates of one key, the later end. An intermediate that
    /// stands for its cluster may end soon, and no path to a root above it says so.
    pub(crate) fn end(&self, domain: &TrustDomain, anchor: &TrustAnchor<'_>) -> Option<UnixTime> {
        let bundle = self.bundles.get(domain)?;
        let same = bundle.anchors.iter().zip(&bundle.ends).filter(|(one, _)| *one == anchor);
        same.map(|(_, end)| *end).max()
    }

    /// All domains with at least one root.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.bundles.keys()
    }

    /// What was left out, and why.
    #[must_use]
    pub fn refused(&self) -> &[RefusedRoot] {
        &self.refused
    }

    /// Takes over the roots of `domain` from `other` when it has none of its own: the own domain is never forgotten.
    pub(crate) fn keep_domain(&mut self, domain: &TrustDomain, other: &Self) {
        if self.bundles.contains_key(domain) {
            return;
        }
        if let Some(bundle) = other.bundles.get(domain) {
            self.bundles.insert(domain.clone(), bundle.clone());
        }
    }

    /// Whether both hold the same roots.
    #[must_use]
    pub fn same_roots(&self, other: &Self) -> bool {
        self.bundles.len() == other.bundles.len()
            && self.bundles.iter().all(|(domain, bundle)| other.roots(domain) == bundle.roots)
    }
}

/// Whether two roots are of one key: whoever has it names identities under both.
#[must_use]
pub fn same_key(one: &CertificateDer<'_>, other: &CertificateDer<'_>) -> bool {
    match (webpki::anchor_from_trusted_cert(one), webpki::anchor_from_trusted_cert(other)) {
        (Ok(one), Ok(other)) => one.subject_public_key_info == other.subject_public_key_info,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_root_is_left_out_by_itself_and_named() {
        let domain: TrustDomain = "east.mesh".parse().unwrap();
        let trust = Trust { roots: [(domain.clone(), vec!["!".into(), STANDARD.encode(b"no der")])].into() };
        let roots = TrustRoots::from_model(&trust);
        assert!(roots.roots(&domain).is_empty());
        assert_eq!(roots.refused().len(), 2);
        assert!(roots.refused()[0].to_string().contains("east.mesh"));
    }
}
