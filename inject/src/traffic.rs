//! What of a pod's traffic is captured, in the words of Istio's `traffic.sidecar.istio.io` annotations, and the
//! arguments that tell it to the capture.

mod listed;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::listed::{Id, Interface, Item, Listed, NoList, Port, Range, Selection};
use crate::{
    annotation::{Annotations, Key},
    words::PROXY_USER,
};

/// How connections come to the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Interception {
    /// By a changed destination: the application sees the sidecar's address as the client's.
    #[default]
    Redirect,
    /// By the kernel's transparent proxying: the application sees the client's own address.
    Tproxy,
    /// Not at all: the application knows its sidecar.
    None,
}

/// What is captured. Default: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Traffic {
    /// How.
    pub interception_mode: Interception,
    /// Ports of the application.
    pub include_inbound_ports: Selection<Port>,
    /// Ports of the application that clients reach without the sidecar.
    pub exclude_inbound_ports: Listed<Port>,
    /// Ports of others that are captured although their address is not.
    pub include_outbound_ports: Listed<Port>,
    /// Ports of others that the application reaches without the sidecar.
    pub exclude_outbound_ports: Listed<Port>,
    /// Addresses of others.
    #[serde(rename = "includeOutboundIPRanges")]
    pub include_outbound_ranges: Selection<Range>,
    /// Addresses of others that the application reaches without the sidecar.
    #[serde(rename = "excludeOutboundIPRanges")]
    pub exclude_outbound_ranges: Listed<Range>,
    /// Interfaces whose traffic is left alone.
    pub exclude_interfaces: Listed<Interface>,
    /// Users whose own connections do not go by the sidecar.
    pub exclude_outbound_users: Listed<Id>,
    /// The same of groups.
    pub exclude_outbound_groups: Listed<Id>,
}

const MODE: Key = Key::sidecar("interceptionMode");
const INCLUDE_INBOUND: Key = Key::traffic("includeInboundPorts");
const EXCLUDE_INBOUND: Key = Key::traffic("excludeInboundPorts");
const INCLUDE_OUTBOUND: Key = Key::traffic("includeOutboundPorts");
const EXCLUDE_OUTBOUND: Key = Key::traffic("excludeOutboundPorts");
const INCLUDE_RANGES: Key = Key::traffic("includeOutboundIPRanges");
const EXCLUDE_RANGES: Key = Key::traffic("excludeOutboundIPRanges");
const EXCLUDE_INTERFACES: Key = Key::traffic("excludeInterfaces");
/// Istio knows users for its own sidecar alone.
const EXCLUDE_USERS: Key = Key::own("excludeOutboundUsers");
const EXCLUDE_GROUPS: Key = Key::own("excludeOutboundGroups");

impl Traffic {
    /// What a pod's annotations say; where they do not, these values.
    pub(crate) fn of(annotations: &mut Annotations<'_>, values: &Self) -> Self {
        fn or<T: FromStr<Err: fmt::Display> + Clone>(annotations: &mut Annotations<'_>, key: Key, value: &T) -> T {
            annotations.read(key).unwrap_or_else(|| value.clone())
        }
        Self {
            interception_mode: or(annotations, MODE, &values.interception_mode),
            include_inbound_ports: or(annotations, INCLUDE_INBOUND, &values.include_inbound_ports),
            exclude_inbound_ports: or(annotations, EXCLUDE_INBOUND, &values.exclude_inbound_ports),
            include_outbound_ports: or(annotations, INCLUDE_OUTBOUND, &values.include_outbound_ports),
            exclude_outbound_ports: or(annotations, EXCLUDE_OUTBOUND, &values.exclude_outbound_ports),
            include_outbound_ranges: or(annotations, INCLUDE_RANGES, &values.include_outbound_ranges),
            exclude_outbound_ranges: or(annotations, EXCLUDE_RANGES, &values.exclude_outbound_ranges),
            exclude_interfaces: or(annotations, EXCLUDE_INTERFACES, &values.exclude_interfaces),
            exclude_outbound_users: or(annotations, EXCLUDE_USERS, &values.exclude_outbound_users),
            exclude_outbound_groups: or(annotations, EXCLUDE_GROUPS, &values.exclude_outbound_groups),
        }
    }

    /// The arguments of `isthmus capture` that say it; what is the default is not said.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mode = (self.interception_mode == Interception::Tproxy).then(|| "TPROXY".to_owned());
        let said = [
            ("interception-mode", mode),
            ("include-inbound-ports", self.include_inbound_ports.said()),
            ("exclude-inbound-ports", self.exclude_inbound_ports.said()),
            ("include-outbound-ports", self.include_outbound_ports.said()),
            ("exclude-outbound-ports", self.exclude_outbound_ports.said()),
            ("include-outbound-ip-ranges", self.include_outbound_ranges.said()),
            ("exclude-outbound-ip-ranges", self.exclude_outbound_ranges.said()),
            ("exclude-interfaces", self.exclude_interfaces.said()),
            ("exclude-users", beside_the_sidecar(&self.exclude_outbound_users)),
            ("exclude-groups", beside_the_sidecar(&self.exclude_outbound_groups)),
        ];
        said.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))).collect()
    }
}

/// The sidecar's own are always left alone: a list that is said takes the place of the default, which is they.
fn beside_the_sidecar(listed: &Listed<Id>) -> Option<String> {
    listed.said().map(|said| format!("{PROXY_USER},{said}"))
}

impl FromStr for Interception {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "REDIRECT" => Ok(Self::Redirect),
            "TPROXY" => Ok(Self::Tproxy),
            "NONE" => Ok(Self::None),
            _ => Err("is no way to capture; write REDIRECT, TPROXY or NONE"),
        }
    }
}
