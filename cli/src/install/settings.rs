//! What of an installation may be set: a few of the Helm chart's values, by their names there.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use serde::{Deserialize, Serialize};

/// What a value may be.
enum Values {
    OneOf(&'static [&'static str]),
    Number,
    Text,
    Addresses,
    Names,
}

/// Yes or no.
const SWITCH: Values = Values::OneOf(&["true", "false"]);

/// Each setting, what it may be, and what that means.
const KNOWN: [(&str, Values, &str); 16] = [
    ("cluster.region", Values::Text, "the region, where nodes do not tell pods theirs"),
    ("control.replicas", Values::Number, "how many replicas of control; one of them speaks for the cluster"),
    (
        "crds.mcs",
        SWITCH,
        "whether ServiceExport and ServiceImport are brought, and not by another implementation of MCS",
    ),
    ("federation.persistence.size", Values::Text, "the size of the member's disk, such as 1Gi"),
    ("federation.persistence.storageClass", Values::Text, "its class; -: none, for volumes made by hand"),
    ("gateway.addresses", Values::Addresses, "what other clusters are told instead of a Service's address"),
    (
        "gateway.exposure",
        Values::OneOf(&["LoadBalancer", "LoadBalancerPerProtocol", "NodePort", "HostPort", "DialOut"]),
        "how other clusters reach the gateways",
    ),
    ("gateway.replicas", Values::Number, "how many gateways"),
    ("image.pullPolicy", Values::OneOf(&["Always", "IfNotPresent", "Never"]), "when images are pulled"),
    ("injection.enabled", SWITCH, "whether pods get sidecars by a webhook"),
    (
        "injection.excludedNamespaces",
        Values::Names,
        "namespaces whose pods never get a sidecar, beside Kubernetes' own",
    ),
    (
        "injection.failurePolicy",
        Values::OneOf(&["Fail", "Ignore"]),
        "what becomes of pods that want a sidecar while control is away",
    ),
    ("injection.istioLabels", SWITCH, "whether Istio's labels ask for a sidecar of ours; false beside an Istio"),
    ("istioCRDs.enabled", SWITCH, "whether Istio's VirtualService and DestinationRule are brought"),
    ("log", Values::Text, "the log filter of every role, such as info"),
    ("validation.enabled", SWITCH, "whether objects are also looked at by a webhook when they are applied"),
];

/// A setting that exists, and a value that it may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Setting {
    /// Its name in the chart.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let no_value = || format!("{text:?} sets nothing; write KEY=VALUE, such as gateway.replicas=3");
        let (key, value) = text.split_once('=').with_context(no_value)?;
        let Some((_, values, means)) = KNOWN.iter().find(|(name, ..)| *name == key) else {
            let known = KNOWN.iter().map(|(key, ..)| *key).collect::<Vec<_>>().join(", ");
            bail!("there is no setting {key:?}; there are {known}; for all others use the Helm chart");
        };
        if let Some(may) = refusal(values, value) {
            bail!("{key} ({means}) cannot be {value:?}; it is {may}");
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl TryFrom<String> for Setting {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Setting> for String {
    fn from(setting: Setting) -> Self {
        format!("{}={}", setting.key, setting.value)
    }
}

/// What the value may be, where it is something else.
fn refusal(values: &Values, value: &str) -> Option<String> {
    // Values come to stand between quotes.
    let is_text =
        |text: &str| !text.is_empty() && text.chars().all(|one| one.is_ascii_graphic() && !"\"\\".contains(one));
    match values {
        Values::OneOf(words) if words.contains(&value) => None,
        Values::OneOf(words) => Some(format!("one of {}", words.join(", "))),
        Values::Number if value.parse::<u16>().is_ok_and(|number| number > 0) => None,
        Values::Number => Some("a number from 1 on".into()),
        Values::Addresses if addresses(value).is_some() => None,
        Values::Addresses => Some("one or more of host:port, with commas between them".into()),
        Values::Names if names_of(value).into_iter().all(is_name) => None,
        Values::Names => Some("one or more names of namespaces, with commas between them".into()),
        Values::Text if is_text(value) => None,
        Values::Text => Some("one word without quotes".into()),
    }
}

/// Hosts and ports; `None`: they are not all addresses.
pub fn addresses(text: &str) -> Option<Vec<(String, u16)>> {
    let one = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = !host.is_empty() && host.chars().all(|one| one.is_ascii_alphanumeric() || ".:-".contains(one));
        let port = port.parse().ok().filter(|port| *port > 0)?;
        is_host.then(|| (host.to_owned(), port))
    };
    text.split(',').map(one).collect()
}

/// As Kubernetes names namespaces (RFC 1123).
fn is_name(text: &str) -> bool {
    let fits = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
    (1..=63).contains(&text.len()) && text.chars().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

/// Names with commas between them.
pub fn names_of(text: &str) -> Vec<&str> {
    text.split(',').collect()
}

/// What is set: of two settings of one key the later one holds.
pub fn merged(before: &[Setting], after: &[Setting]) -> Vec<Setting> {
    let mut all = before.to_vec();
    for setting in after {
        all.retain(|other| other.key != setting.key);
        all.push(setting.clone());
    }
    all.sort_by(|one, other| one.key.cmp(&other.key));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Setting>().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_set_is_told_with_what_can() {
        assert!(refused("gateway.replicas").contains("KEY=VALUE"));
        assert!(refused("gateway.replica=2").contains("there are cluster.region"));
        for bad in [
            "gateway.replicas=0",
            "gateway.replicas=many",
            "gateway.exposure=Ingress",
            "log=",
            "log=a\"b",
            "crds.mcs=no",
            "injection.excludedNamespaces=a,B",
        ] {
            assert!(refused(bad).contains("cannot be"), "{bad}");
        }
        assert!(refused("gateway.exposure=Ingress").contains("DialOut"));
        assert!("log=info,isthmus_gateway=debug".parse::<Setting>().is_ok());
    }

    #[test]
    fn addresses_are_hosts_and_ports() {
        let both = addresses("gw.example.com:32000,[2001:db8::1]:15443").unwrap();
        assert_eq!(both, [("gw.example.com".to_owned(), 32000), ("2001:db8::1".to_owned(), 15443)]);
        for bad in ["", "gw", "gw:0", "gw:1,", "g w:1", ":1", "gw:70000"] {
            assert_eq!(addresses(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_set_later_holds() {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse::<Setting>().unwrap()).collect::<Vec<_>>();
        let all = merged(&of(&["log=info", "gateway.replicas=2"]), &of(&["log=debug", "log=warn"]));
        assert_eq!(all, of(&["gateway.replicas=2", "log=warn"]));
    }
}
