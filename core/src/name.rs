//! Names: one type for each role, so that two cannot be swapped, parsed once at the edge.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {reason}")]
pub struct InvalidName {
    /// What it should have been.
    pub what: &'static str,
    /// The text that was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

fn invalid(what: &'static str, text: &str, reason: &'static str) -> InvalidName {
    let text = text.chars().take(300).collect();
    InvalidName { what, text, reason }
}

/// RFC 1123 label: 1 to 63 of a-z, 0-9 and '-', neither first nor last a '-'.
fn check_label(what: &'static str, text: &str) -> Result<(), InvalidName> {
    if text.is_empty() || text.len() > 63 {
        return Err(invalid(what, text, "it must have 1 to 63 characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(invalid(what, text, "only a-z, 0-9 and '-' are allowed"));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(invalid(what, text, "it may neither begin nor end with '-'"));
    }
    Ok(())
}

fn check_domain(what: &'static str, text: &str) -> Result<(), InvalidName> {
    if text.len() > 253 {
        return Err(invalid(what, text, "it must have at most 253 characters"));
    }
    text.split('.').try_for_each(|label| check_label(what, label).map_err(|e| invalid(what, text, e.reason)))
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                $check($what, text)?;
                Ok(Self(text.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_name!(
    /// A cluster's name: an RFC 1123 label, unique in the mesh.
    ClusterName, "a cluster name", check_label
);
text_name!(
    /// The domain that trust domains of the mesh are under, such as `mesh.example`.
    MeshDomain, "a mesh domain", check_domain
);
text_name!(
    /// A SPIFFE trust domain; of a cluster, `<cluster>.<mesh domain>`.
    TrustDomain, "a trust domain", check_domain
);
text_name!(
    /// An endpoint's id: the name of its workload, unique in its cluster.
    EndpointId, "an endpoint id", check_domain
);

impl ClusterName {
    /// The trust domain of this cluster in a mesh.
    #[must_use]
    pub fn trust_domain(&self, mesh: &MeshDomain) -> TrustDomain {
        TrustDomain(format!("{self}.{mesh}").into())
    }
}

/// A service: `namespace/name`, each an RFC 1123 label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    namespace: std::sync::Arc<str>,
    name: std::sync::Arc<str>,
}

impl ServiceName {
    /// From its two parts.
    ///
    /// # Errors
    /// When either is not an RFC 1123 label.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidName> {
        check_label("a namespace", namespace)?;
        check_label("a service name", name)?;
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    /// The name inside the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// `<name>.<namespace>.svc.clusterset.local`: the name that reaches every cluster (MCS API, KEP-1645).
    #[must_use]
    pub fn clusterset_host(&self) -> String {
        format!("{}.{}.svc.clusterset.local", self.name, self.namespace)
    }
    /// `<name>.<namespace>.svc.cluster.local`.
    #[must_use]
    pub fn cluster_host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }
    /// From a host name under `svc.clusterset.local` or `svc.cluster.local`, with or without the last dot, any case.
    #[must_use]
    pub fn from_host(host: &str) -> Option<(Self, HostScope)> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let (rest, scope) = if let Some(rest) = host.strip_suffix(".svc.clusterset.local") {
            (rest, HostScope::ClusterSet)
        } else {
            (host.strip_suffix(".svc.cluster.local")?, HostScope::Cluster)
        };
        let (name, namespace) = rest.split_once('.')?;
        Some((Self::new(namespace, name).ok()?, scope))
    }
}

/// Which of its names a service was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HostScope {
    /// `svc.cluster.local`: stays in the cluster unless the service is global.
    Cluster,
    /// `svc.clusterset.local`: climbs the ladder.
    ClusterSet,
}

impl FromStr for ServiceName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (namespace, name) =
            text.split_once('/').ok_or_else(|| invalid("a service", text, "it must read namespace/name"))?;
        Self::new(namespace, name)
    }
}
impl TryFrom<String> for ServiceName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}
impl From<ServiceName> for String {
    fn from(service: ServiceName) -> Self {
        service.to_string()
    }
}
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// `spiffe://<trust-domain>/ns/<namespace>/sa/<service account>` (SPIFFE ID specification; Istio's path form).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: std::sync::Arc<str>,
    service_account: std::sync::Arc<str>,
}

impl SpiffeId {
    /// From its parts.
    ///
    /// # Errors
    /// When the namespace or the service account is not a name.
    pub fn new(trust_domain: TrustDomain, namespace: &str, service_account: &str) -> Result<Self, InvalidName> {
        check_label("a namespace", namespace)?;
        check_domain("a service account", service_account)?;
        Ok(Self { trust_domain, namespace: namespace.into(), service_account: service_account.into() })
    }
    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    /// The service account.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let what = "a SPIFFE id";
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| invalid(what, text, "it must begin with spiffe://"))?;
        let mut parts = rest.split('/');
        let (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid(what, text, "it must read spiffe://<trust-domain>/ns/<namespace>/sa/<account>"));
        };
        Self::new(domain.parse()?, namespace, account)
    }
}
impl TryFrom<String> for SpiffeId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}
impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}
impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}
impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A pod's name among all of its cluster, since it is unique in its namespace alone: `<pod>.<namespace>`.
#[must_use]
pub fn of_pod(pod: &str, namespace: &str) -> String {
    format!("{pod}.{namespace}")
}

/// The pod of a name that [`of_pod`] made; `None`: it is another's, a host's say.
#[must_use]
pub fn pod_of<'a>(name: &'a str, namespace: &str) -> Option<&'a str> {
    name.strip_suffix(namespace)?.strip_suffix('.').filter(|pod| !pod.is_empty())
}

/// Where something runs: `topology.kubernetes.io/region` and `/zone`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Locality {
    /// The region; empty: not known.
    #[serde(default)]
    pub region: String,
    /// The zone; empty: not known.
    #[serde(default)]
    pub zone: String,
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.region, self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_once_and_bad_ones_say_why() {
        assert!("us-east".parse::<ClusterName>().is_ok());
        for bad in ["", "-a", "A", "a.b", &"a".repeat(64)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
        let id: SpiffeId = "spiffe://us-east.mesh.local/ns/bookinfo/sa/details".parse().unwrap();
        assert_eq!(id.to_string(), "spiffe://us-east.mesh.local/ns/bookinfo/sa/details");
        assert!("spiffe://x/ns/a/sa/b/c".parse::<SpiffeId>().is_err());
        assert_eq!(
            ServiceName::from_host("Reviews.bookinfo.svc.clusterset.local."),
            Some((ServiceName::new("bookinfo", "reviews").unwrap(), HostScope::ClusterSet))
        );
        assert_eq!(ServiceName::from_host("a.b.c.svc.cluster.local"), None);
    }
}
