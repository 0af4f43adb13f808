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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use isthmus_inject::{Values, inject};
    use isthmus_proxy::capture::nft;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        capture: Capture,
    }

    /// The setting that a pod's annotation makes, by the arguments that injection writes for it.
    fn of(annotation: &str, value: &str) -> Setting {
        let values = Values::new("mesh.example".parse().unwrap(), "us-east".parse().unwrap());
        let pod = json!({ "metadata": { "annotations": { (annotation): value } }, "spec": { "containers": [{ "name": "a" }] } });
        let injected = inject(&pod, &values).unwrap_or_else(|why| panic!("{annotation}: {value:?}: {why}")).pod;
        let arguments = injected["spec"]["initContainers"][0]["args"].as_array().unwrap().iter();
        let typed = Typed::try_parse_from(arguments.map(|one: &Value| one.as_str().unwrap()));
        typed.unwrap_or_else(|why| panic!("{annotation}: {value:?}: {why}")).capture.setting()
    }

    #[test]
    fn whatever_injection_takes_capture_takes_and_means_the_same_by_it() {
        let (in_ports, out_ports) =
            ("traffic.sidecar.istio.io/includeInboundPorts", "traffic.sidecar.istio.io/includeOutboundPorts");
        for (annotation, value, rules) in [
            (in_ports, " 80 , 443,", &["tcp dport 80 redirect to :15006", "tcp dport 443 redirect to :15006"][..]),
            (in_ports, "*", &["meta l4proto tcp redirect to :15006"]),
            (out_ports, "+6379", &["tcp dport 6379 redirect to :15001"]),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "65535", &["tcp dport 65535 return"]),
            ("traffic.sidecar.istio.io/excludeOutboundPorts", "1,01", &["tcp dport 1 return"]),
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", " * ", &["meta l4proto tcp redirect to :15001"]),
            (
                "traffic.sidecar.istio.io/includeOutboundIPRanges",
                "10.1.2.3/8",
                &["ip daddr 10.0.0.0/8 meta l4proto tcp redirect"],
            ),
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", "::/0", &["ip6 daddr ::/0 meta l4proto tcp redirect"]),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "10.9.9.9, fd00::1/64",
                &["ip daddr 10.9.9.9/32 return", "ip6 daddr fd00::/64 return"],
            ),
            (
                "traffic.sidecar.istio.io/excludeInterfaces",
                "eth1,net1.7@x",
                &["oifname \"net1.7@x\" return", "iifname \"eth1\" return"],
            ),
            (
                "isthmus.dev/excludeOutboundUsers",
                "0,4294967295",
                &["meta skuid 0 return", "meta skuid 4294967295 return", "meta skuid 1337 return"],
            ),
            ("isthmus.dev/excludeOutboundGroups", "7", &["meta skgid 7 return", "meta skgid 1337 return"]),
            ("sidecar.istio.io/interceptionMode", "TPROXY", &["meta l4proto tcp tproxy to :15006"]),
        ] {
            let text = nft(&of(annotation, value));
            assert!(rules.iter().all(|rule| text.contains(rule)), "{annotation}: {value:?}: {text}");
        }
        let empty = nft(&of(in_ports, ""));
        assert!(!empty.contains("redirect to :15006"), "{empty}");
        let empty = nft(&of("traffic.sidecar.istio.io/includeOutboundIPRanges", ""));
        assert!(!empty.contains("meta l4proto tcp redirect to :15001\n\t}"), "{empty}");
    }
}
