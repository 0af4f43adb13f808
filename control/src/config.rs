//! What control is told at its start. Everything else it learns from its sources and from the federation.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use isthmus_core::statement::Gateways;
use isthmus_kubernetes::Access;
use isthmus_runtime::config::Common;
use serde::{Deserialize, Serialize};

use crate::{address::Address, error::Error};

/// Control's section of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every role has.
    pub common: Common,
    /// The directory of YAML objects; this or `kubernetes`.
    #[serde(default)]
    pub config_dir: Option<PathBuf>,
    /// The API server that has the objects; this or `config_dir`.
    #[serde(default)]
    pub kubernetes: Option<Access>,
    /// The cluster's federation key: PKCS#8 DER, mode 0600; shared with the member. On Kubernetes it is a Secret's.
    #[serde(default)]
    pub federation_key: Option<PathBuf>,
    /// The own federation member, 15050.
    pub member: Address,
    /// Where local sidecars reach the own gateways, 15444 tcp; none: as Kubernetes shows.
    #[serde(default)]
    pub gateways: Vec<Address>,
    /// Where other clusters reach them, by transport; none: as Kubernetes shows.
    #[serde(default)]
    pub advertise_gateways: Gateways,
    /// The workload whose service addresses the cluster's DNS answers with; `None`: DNS knows names but no addresses.
    #[serde(default)]
    pub dns_for: Option<IpAddr>,
    /// Zones the cluster has workloads in; none: as Kubernetes shows.
    #[serde(default)]
    pub zones: Vec<String>,
    /// The file whose section `injection` says how pods get sidecars; none: no webhook. Only with `kubernetes`.
    #[serde(default)]
    pub injection: Option<PathBuf>,
    /// The certificate authority.
    #[serde(default)]
    pub ca: Ca,
}

/// Settings of the certificate authority.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ca {
    /// Where root and enrolment key are; `None`: `ca` in the state directory.
    pub dir: Option<PathBuf>,
    /// A directory with a certificate authority in the layout of Istio's `cacerts`, to sign with in place of an own root. On
    /// Kubernetes it is a Secret's.
    pub cacerts: Option<PathBuf>,
    /// Life of a leaf, seconds.
    pub leaf_ttl_seconds: u64,
    /// How long others hear of an authority that is brought along before it signs, seconds.
    pub announce_seconds: u64,
}

impl Default for Ca {
    /// A day (issue of identities): short enough that a stolen leaf ages, long enough that a CA may rest overnight. Five minutes:
    /// the roots of a pod are a mounted ConfigMap, which the kubelet renews within two minutes, and proxies and other clusters
    /// hear within seconds.
    fn default() -> Self {
        Self { dir: None, cacerts: None, leaf_ttl_seconds: 24 * 3600, announce_seconds: 300 }
    }
}

/// Where objects come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A directory.
    Files(&'a PathBuf),
    /// An API server.
    Kubernetes(&'a Access),
}

impl Config {
    /// The one source there is.
    ///
    /// # Errors
    /// [`Error::Source`]: there are two, or none.
    pub fn source(&self) -> Result<Source<'_>, Error> {
        match (&self.config_dir, &self.kubernetes) {
            (Some(directory), None) => Ok(Source::Files(directory)),
            (None, Some(access)) => Ok(Source::Kubernetes(access)),
            (Some(_), Some(_)) => Err(Error::Source("both `config_dir` and `kubernetes`")),
            (None, None) => Err(Error::Source("neither `config_dir` nor `kubernetes`")),
        }
    }

    /// The CA's directory.
    #[must_use]
    pub fn ca_dir(&self) -> PathBuf {
        self.ca.dir.clone().unwrap_or_else(|| self.common.state_dir.join("ca"))
    }

    /// The federation key's file.
    #[must_use]
    pub fn federation_key(&self) -> PathBuf {
        self.federation_key.clone().unwrap_or_else(|| self.common.state_dir.join("federation/key.der"))
    }

    /// How long an authority is announced.
    #[must_use]
    pub fn announced(&self) -> Duration {
        Duration::from_secs(self.ca.announce_seconds)
    }

    /// Life of a leaf.
    #[must_use]
    pub fn leaf_ttl(&self) -> Duration {
        Duration::from_secs(self.ca.leaf_ttl_seconds)
    }
}

#[cfg(test)]
mod tests {
    use isthmus_runtime::config::parse_yaml;

    use super::*;

    const REST: &str = "common: {mesh: mesh.local, cluster: us-east, locality: {region: r, zone: z}, name: control, \
                        address: 127.70.1.1, state_dir: /s, enrolment: /e}\nfederation_key: /k\n\
                        member: isthmus-federation.isthmus-system.svc:15050\n";

    fn read(source: &str) -> Result<Config, String> {
        parse_yaml(std::path::Path::new("f"), &format!("{REST}{source}\n")).map_err(|error| error.to_string())
    }

    #[test]
    fn there_is_one_source_of_objects() {
        let config = read("kubernetes: {}").unwrap();
        assert!(matches!(config.source(), Ok(Source::Kubernetes(access)) if access.namespace == "isthmus-system"));
        assert!(matches!(read("config_dir: /c").unwrap().source(), Ok(Source::Files(_))));
        for (wrong, word) in [("", "neither"), ("config_dir: /c\nkubernetes: {}", "both")] {
            let error = read(wrong).unwrap().source().unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("write `config_dir"), "{error}");
        }
    }

    #[test]
    fn gateways_are_told_by_transport() {
        let config = read("kubernetes: {}\nadvertise_gateways: {udp: [\"u.example:443\"], tcp: []}").unwrap();
        assert_eq!(config.advertise_gateways, Gateways { udp: vec!["u.example:443".into()], tcp: vec![] });
        assert!(read("kubernetes: {}").unwrap().advertise_gateways.is_empty());
    }

    #[test]
    fn what_is_no_address_or_no_setting_is_said() {
        let error = read("kubernetes: {colour: red}").unwrap_err();
        assert!(error.contains("colour"), "{error}");
        let error = read("kubernetes: {}\ngateways: [nowhere]").unwrap_err();
        assert!(error.contains("\"nowhere\" is no address; write host:port"), "{error}");
    }
}
