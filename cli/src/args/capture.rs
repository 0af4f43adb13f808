//! What `capture` takes; options are named after the annotations of Istio's users.

use clap::{Args, ValueEnum};
use isthmus_proxy::capture::{Capture as Setting, Interface, Invalid, Mode, Ports, Ranges, list};

/// A list of items, read whole: an empty one is one too.
macro_rules! items {
    ($name:ident, $item:ty, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug)]
        pub struct $name(Vec<$item>);

        impl std::str::FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                list(text).map(Self)
            }
        }
    };
}

items!(PortList, u16, "Ports.");
items!(IdList, u32, "Users or groups.");
items!(RangeList, ipnet::IpNet, "Ranges of addresses.");
items!(InterfaceList, Interface, "Interfaces.");

#[derive(Debug, Args)]
pub struct Capture {
    /// How connections that come in are taken: REDIRECT, or TPROXY to let the application see the client's address.
    #[arg(long, value_name = "MODE", default_value = "REDIRECT")]
    interception_mode: Mode,
    /// Ports whose incoming connections are captured; * is all of them.
    #[arg(long, value_name = "PORTS", default_value = "*")]
    include_inbound_ports: Ports,
    /// Ports whose incoming connections are left alone, beside the sidecar's own.
    #[arg(long, value_name = "PORTS", default_value = "")]
    exclude_inbound_ports: PortList,
    /// Ports whose outgoing connections are captured whatever their address.
    #[arg(long, value_name = "PORTS", default_value = "")]
    include_outbound_ports: PortList,
    /// Ports whose outgoing connections are left alone; with 53 among them, DNS too.
    #[arg(long, value_name = "PORTS", default_value = "")]
    exclude_outbound_ports: PortList,
    /// Addresses to which connections are captured; * is all of them.
    #[arg(long, value_name = "RANGES", default_value = "*", alias = "include-outbound-ipranges")]
    include_outbound_ip_ranges: Ranges,
    /// Addresses to which connections are left alone.
    #[arg(long, value_name = "RANGES", default_value = "", alias = "exclude-outbound-ipranges")]
    exclude_outbound_ip_ranges: RangeList,
    /// Interfaces whose traffic is left alone.
    #[arg(long, value_name = "NAMES", default_value = "")]
    exclude_interfaces: InterfaceList,
    /// Users whose outgoing traffic is left alone; the sidecar's must be among them.
    #[arg(long, value_name = "IDS", default_value = "1337")]
    exclude_users: IdList,
    /// Groups whose outgoing traffic is left alone.
    #[arg(long, value_name = "IDS", default_value = "1337")]
    exclude_groups: IdList,
    /// Leave questions to DNS alone.
    #[arg(long)]
    no_dns: bool,
    /// Which of the kernel's two rule sets to use: nft, or iptables where the kernel has no nf_tables.
    #[arg(long, value_enum, default_value_t = With::Auto)]
    pub with: With,
    /// Print the rules and do nothing.
    #[arg(long)]
    pub print: bool,
}

/// What rules are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum With {
    /// nft; iptables where that is not to be had.
    Auto,
    /// nft.
    Nft,
    /// iptables.
    Iptables,
}

impl Capture {
    /// The setting that was typed.
    pub fn setting(&self) -> Setting {
        Setting {
            mode: self.interception_mode,
            inbound: self.include_inbound_ports.clone(),
            exclude_inbound: self.exclude_inbound_ports.0.clone(),
            outbound: self.include_outbound_ports.0.clone(),
            exclude_outbound: self.exclude_outbound_ports.0.clone(),
            ranges: self.include_outbound_ip_ranges.clone(),
            exclude_ranges: self.exclude_outbound_ip_ranges.0.clone(),
            exclude_interfaces: self.exclude_interfaces.0.clone(),
            exclude_users: self.exclude_users.0.clone(),
            exclude_groups: self.exclude_groups.0.clone(),
            dns: !self.no_dns,
        }
    }
}
