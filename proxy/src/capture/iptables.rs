//! The rules in the language of iptables, for kernels without nf_tables: one text a family.
//!
//! Chains of ours are filled anew by each `iptables-restore --noflush`; what others have in their chains stays. The one
//! rule of ours in a chain that is not ours, the jump, is written only when it is not there yet.

use std::fmt::Write;

use ipnet::IpNet;

use super::{
    Capture,
    rules::{Chain, Hook, Match, Rule, Transport, Verdict, chains, mark},
};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `iptables-restore`.
    V4,
    /// `ip6tables-restore`.
    V6,
}

/// Every jump there may be, as `iptables-save` writes it, with its table.
pub const JUMPS: [(&str, &str); 4] = [
    ("nat", "-A OUTPUT -j ISTHMUS_OUTBOUND"),
    ("nat", "-A PREROUTING -j ISTHMUS_INBOUND"),
    ("mangle", "-A PREROUTING -j ISTHMUS_INBOUND"),
    ("mangle", "-A OUTPUT -j ISTHMUS_ANSWERS"),
];

/// What the tables hold already.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Lines of `iptables-save`.
    pub saved: String,
}

impl Tables {
    /// Whether a table has a line.
    #[must_use]
    pub fn has(&self, table: &str, line: &str) -> bool {
        let of = self.saved.split("COMMIT").find(|of| of.lines().any(|line| line.trim() == format!("*{table}")));
        of.is_some_and(|of| of.lines().any(|one| one.trim() == line))
    }
}

fn place(hook: Hook) -> (&'static str, &'static str, &'static str) {
    match hook {
        Hook::Out => ("nat", "OUTPUT", "ISTHMUS_OUTBOUND"),
        Hook::In => ("nat", "PREROUTING", "ISTHMUS_INBOUND"),
        Hook::EveryIn => ("mangle", "PREROUTING", "ISTHMUS_INBOUND"),
        Hook::EveryOut => ("mangle", "OUTPUT", "ISTHMUS_ANSWERS"),
    }
}

/// What `iptables-restore --noflush` of this family is told, where the tables hold `there`.
#[must_use]
pub fn text(capture: &Capture, family: Family, there: &Tables) -> String {
    let chains = chains(capture);
    let mut text = String::new();
    for table in ["nat", "mangle"] {
        let _ = write!(text, "{}", of_table(table, &chains, family, there));
    }
    text
}

/// The chains of a table; those of another setting stay empty and are not jumped to.
fn of_table(table: &str, chains: &[Chain], family: Family, there: &Tables) -> String {
    let (mut declared, mut rules) = (String::new(), String::new());
    for chain in chains.iter().filter(|chain| place(chain.hook).0 == table) {
        let (_, hook, name) = place(chain.hook);
        let _ = writeln!(declared, ":{name} - [0:0]");
        for rule in chain.rules.iter().filter(|rule| is_of(rule, family)) {
            let _ = writeln!(rules, "-A {name} {}", line(rule, chain.hook));
        }
        let jump = format!("-A {hook} -j {name}");
        if !there.has(table, &jump) {
            let _ = writeln!(rules, "{jump}");
        }
    }
    for (_, jump) in JUMPS.iter().filter(|(of, jump)| *of == table && there.has(table, jump)) {
        if !chains.iter().any(|chain| place(chain.hook).0 == table && jump.ends_with(place(chain.hook).2)) {
            let _ = writeln!(rules, "{}", jump.replacen("-A", "-D", 1));
        }
    }
    if declared.is_empty() && rules.is_empty() { String::new() } else { format!("*{table}\n{declared}{rules}COMMIT\n") }
}

fn is_of(rule: &Rule, family: Family) -> bool {
    rule.matches.iter().all(|one| match one {
        Match::To(IpNet::V4(_)) => family == Family::V4,
        Match::To(IpNet::V6(_)) => family == Family::V6,
        _ => true,
    })
}

fn line(rule: &Rule, hook: Hook) -> String {
    let mut words: Vec<String> = rule.matches.iter().map(|one| matched(one, hook)).collect();
    words.push(match rule.verdict {
        Verdict::Leave => "-j RETURN".into(),
        Verdict::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        // The target drops what comes to a socket that is not transparent, as answers to the pod's own connections do; what
        // does not open a connection finds its socket without it.
        Verdict::Tproxy(port) => format!("--syn -j TPROXY --on-port {port}"),
        Verdict::Remember => format!("-j CONNMARK --set-mark {}", mark()),
        Verdict::Mark => format!("-j MARK --set-mark {}", mark()),
    });
    words.join(" ")
}

fn matched(one: &Match, hook: Hook) -> String {
    let interface = match hook {
        Hook::Out | Hook::EveryOut => "-o",
        Hook::In | Hook::EveryIn => "-i",
    };
    let word = |transport: &Transport| match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    match one {
        Match::User(user) => format!("-m owner --uid-owner {user}"),
        Match::Group(group) => format!("-m owner --gid-owner {group}"),
        Match::Loopback => format!("{interface} lo"),
        Match::On(name) => format!("{interface} {name}"),
        Match::Port(transport, port) => format!("-p {} --dport {port}", word(transport)),
        Match::Any(transport) => format!("-p {}", word(transport)),
        Match::To(range) => format!("-d {range}"),
        Match::Marked => format!("-m mark --mark {}", mark()),
        Match::OfMarked => format!("-m connmark --mark {}", mark()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Mode, list};

    #[test]
    fn each_family_gets_its_own_ranges_and_the_jump_is_written_once() {
        let capture =
            Capture { exclude_ranges: list("10.0.0.0/8,fd00::/8").unwrap(), dns: false, ..Capture::default() };
        let expected = "\
*nat
:ISTHMUS_OUTBOUND - [0:0]
:ISTHMUS_INBOUND - [0:0]
-A ISTHMUS_OUTBOUND -m owner --uid-owner 1337 -j RETURN
-A ISTHMUS_OUTBOUND -m owner --gid-owner 1337 -j RETURN
-A ISTHMUS_OUTBOUND -o lo -j RETURN
-A ISTHMUS_OUTBOUND -d fd00::/8 -j RETURN
-A ISTHMUS_OUTBOUND -p tcp -j REDIRECT --to-ports 15001
-A OUTPUT -j ISTHMUS_OUTBOUND
-A ISTHMUS_INBOUND -i lo -j RETURN
-A ISTHMUS_INBOUND -p tcp --dport 15000 -j RETURN
-A ISTHMUS_INBOUND -p tcp --dport 15006 -j RETURN
-A ISTHMUS_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTHMUS_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTHMUS_INBOUND -p tcp -j REDIRECT --to-ports 15006
-A PREROUTING -j ISTHMUS_INBOUND
COMMIT
";
        assert_eq!(text(&capture, Family::V6, &Tables::default()), expected);
        let there = Tables { saved: format!("# made by\n{expected}") };
        let again = text(&capture, Family::V4, &there);
        assert!(!again.contains("-A OUTPUT") && !again.contains("-A PREROUTING"), "{again}");
        assert!(again.contains("-d 10.0.0.0/8 -j RETURN") && !again.contains("fd00"), "{again}");
        assert!(again.contains("-d 242.0.0.0/8 -p tcp -j REDIRECT --to-ports 15001"), "{again}");
    }

    #[test]
    fn another_way_to_intercept_takes_the_jump_of_the_first_away() {
        let there = Tables { saved: text(&Capture::default(), Family::V4, &Tables::default()) };
        let tproxy = text(&Capture { mode: Mode::Tproxy, ..Capture::default() }, Family::V4, &there);
        let (nat, mangle) = tproxy.split_once("COMMIT").unwrap();
        assert!(nat.contains("-D PREROUTING -j ISTHMUS_INBOUND") && !nat.contains(":ISTHMUS_INBOUND"), "{tproxy}");
        assert!(mangle.contains("-A PREROUTING -j ISTHMUS_INBOUND"), "{tproxy}");
        assert!(mangle.contains("-p tcp --syn -j TPROXY --on-port 15006"), "{tproxy}");
    }
}
