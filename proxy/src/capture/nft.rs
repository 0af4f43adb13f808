//! The rules in the language of nftables. One `nft -f -` puts all of them in force or none, and puts them in the place of
//! what was there.

use std::fmt::Write;

use ipnet::IpNet;

use super::{
    Capture,
    rules::{Chain, Hook, Match, Rule, Transport, Verdict, chains, mark},
};

/// The table that holds the rules, and nothing else.
pub const TABLE: &str = "inet isthmus";

/// What `nft -f -` is told.
#[must_use]
pub fn text(capture: &Capture) -> String {
    // Declared first, so that there is one to delete: the text is the same the first time and every other time.
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    for (number, chain) in chains(capture).iter().enumerate() {
        let between = if number == 0 { "" } else { "\n" };
        // Writing to a string does not fail.
        let _ = write!(text, "{between}{}", written(chain));
    }
    text.push_str("}\n");
    text
}

fn written(chain: &Chain) -> String {
    let (name, hook) = match chain.hook {
        Hook::Out => ("outbound", "type nat hook output priority -100"),
        Hook::In => ("inbound", "type nat hook prerouting priority -100"),
        Hook::EveryIn => ("inbound", "type filter hook prerouting priority -150"),
        Hook::EveryOut => ("answers", "type route hook output priority -150"),
    };
    let mut text = format!("\tchain {name} {{\n\t\t{hook}; policy accept;\n");
    for rule in &chain.rules {
        let _ = writeln!(text, "\t\t{}", line(rule, chain.hook));
    }
    text.push_str("\t}\n");
    text
}

fn line(rule: &Rule, hook: Hook) -> String {
    let mut words: Vec<String> = rule.matches.iter().map(|one| matched(one, hook)).collect();
    words.push(match rule.verdict {
        Verdict::Leave => "return".into(),
        Verdict::Redirect(port) => format!("redirect to :{port}"),
        Verdict::Tproxy(port) => format!("tproxy to :{port}"),
        Verdict::Remember => format!("ct mark set {}", mark()),
        Verdict::Mark => format!("meta mark set {}", mark()),
    });
    words.join(" ")
}

fn matched(one: &Match, hook: Hook) -> String {
    let interface = match hook {
        Hook::Out | Hook::EveryOut => "oifname",
        Hook::In | Hook::EveryIn => "iifname",
    };
    let word = |transport: &Transport| match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    match one {
        Match::User(user) => format!("meta skuid {user}"),
        Match::Group(group) => format!("meta skgid {group}"),
        Match::Loopback => format!("{interface} \"lo\""),
        Match::On(name) => format!("{interface} \"{name}\""),
        Match::Port(transport, port) => format!("{} dport {port}", word(transport)),
        Match::Any(transport) => format!("meta l4proto {}", word(transport)),
        Match::To(IpNet::V4(range)) => format!("ip daddr {range}"),
        Match::To(IpNet::V6(range)) => format!("ip6 daddr {range}"),
        Match::Marked => format!("meta mark {}", mark()),
        Match::OfMarked => format!("ct mark {}", mark()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Mode, Ports, Ranges, list};

    #[test]
    fn by_default_everything_is_taken_but_for_the_sidecar_itself() {
        let expected = "\
table inet isthmus
delete table inet isthmus
table inet isthmus {
	chain outbound {
		type nat hook output priority -100; policy accept;
		meta skuid 1337 return
		meta skgid 1337 return
		oifname \"lo\" return
		ip daddr 242.0.0.0/8 meta l4proto tcp redirect to :15001
		udp dport 53 redirect to :15053
		tcp dport 53 redirect to :15053
		meta l4proto tcp redirect to :15001
	}

	chain inbound {
		type nat hook prerouting priority -100; policy accept;
		iifname \"lo\" return
		tcp dport 15000 return
		tcp dport 15006 return
		tcp dport 15020 return
		tcp dport 15021 return
		meta l4proto tcp redirect to :15006
	}
}
";
        assert_eq!(text(&Capture::default()), expected);
    }

    #[test]
    fn each_exclusion_comes_before_what_it_excludes_from() {
        let capture = Capture {
            exclude_inbound: vec![9999],
            inbound: Ports::Only(vec![80]),
            outbound: vec![6379],
            exclude_outbound: vec![3306],
            ranges: Ranges::Only(list("10.96.0.0/12,fd00::/8").unwrap()),
            exclude_ranges: list("10.96.7.7,fd00:7::/32").unwrap(),
            exclude_interfaces: list("eth1").unwrap(),
            exclude_users: vec![0, 1337],
            exclude_groups: vec![],
            ..Capture::default()
        };
        let text = text(&capture);
        let (outbound, inbound) = text.split_once("\n\n").unwrap();
        let expected = [
            "meta skuid 0 return",
            "meta skuid 1337 return",
            "oifname \"lo\" return",
            "ip daddr 242.0.0.0/8 meta l4proto tcp redirect to :15001",
            "oifname \"eth1\" return",
            "tcp dport 3306 return",
            "udp dport 53 redirect to :15053",
            "tcp dport 53 redirect to :15053",
            "tcp dport 6379 redirect to :15001",
            "ip daddr 10.96.7.7/32 return",
            "ip6 daddr fd00:7::/32 return",
            "ip daddr 10.96.0.0/12 meta l4proto tcp redirect to :15001",
            "ip6 daddr fd00::/8 meta l4proto tcp redirect to :15001",
        ];
        assert_eq!(outbound.lines().map(str::trim).skip(5).take(13).collect::<Vec<_>>(), expected);
        let inbound: Vec<_> = inbound.lines().map(str::trim).skip(2).collect();
        assert_eq!(inbound.first(), Some(&"iifname \"lo\" return"));
        assert_eq!(inbound.get(1), Some(&"iifname \"eth1\" return"));
        assert_eq!(inbound.get(6..8), Some(["tcp dport 9999 return", "tcp dport 80 redirect to :15006"].as_slice()));
        assert_eq!(inbound.get(8), Some(&"}"));
    }

    #[test]
    fn dns_is_left_alone_when_it_is_not_wanted_or_its_port_is_excluded() {
        let without = Capture { dns: false, ..Capture::default() };
        let excluded = Capture { exclude_outbound: vec![53], ..Capture::default() };
        assert!(!text(&without).contains("15053") && !text(&excluded).contains("15053"));
    }

    #[test]
    fn by_tproxy_packets_keep_their_addresses_and_answers_to_a_clients_address_come_back() {
        let text = text(&Capture { mode: Mode::Tproxy, ..Capture::default() });
        let remembers = text.find("iifname \"lo\" meta mark 0x539 ct mark set 0x539").unwrap();
        assert!(remembers < text.find("iifname \"lo\" return").unwrap(), "{text}");
        assert!(text.contains("meta l4proto tcp tproxy to :15006\n") && !text.contains("redirect to :15006"), "{text}");
        assert!(text.contains("ct mark 0x539 meta mark set 0x539"), "{text}");
    }
}
