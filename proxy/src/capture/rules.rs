//! The rules of a setting: in each chain the first that matches and ends is the last that is looked at.

use ipnet::{IpNet, Ipv4Net};
use isthmus_core::plan::SET;

use super::{Capture, DNS, INBOUND, Interface, Mode, OUTBOUND, Ports, Ranges, SIDECAR};

/// The sidecar's own ports: whoever comes to one of them means the sidecar.
const OWN: [u16; 4] = [15000, INBOUND, 15020, 15021];

/// What a packet must be, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// Sent by a process of this user.
    User(u32),
    /// Sent by a process of this group.
    Group(u32),
    /// On loopback.
    Loopback,
    /// On this interface.
    On(Interface),
    /// To this port.
    Port(Transport, u16),
    /// Of this protocol.
    Any(Transport),
    /// To these addresses.
    To(IpNet),
    /// Sent in a client's name.
    Marked,
    /// Of a connection that the sidecar opened in a client's name.
    OfMarked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on as it is.
    Leave,
    /// It goes to this port of the pod instead.
    Redirect(u16),
    /// A listener on this port gets it as it is.
    Tproxy(u16),
    /// Its connection is remembered as one in a client's name; the next rule is looked at.
    Remember,
    /// It is marked, and so comes back to the sidecar; the next rule is looked at.
    Mark,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) matches: Vec<Match>,
    pub(super) verdict: Verdict,
}

/// Where in the life of a packet a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// The first packet of a connection going out.
    Out,
    /// The first packet of a connection coming in.
    In,
    /// Every packet coming in, before addresses change.
    EveryIn,
    /// Every packet going out; its way is looked for again.
    EveryOut,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) hook: Hook,
    pub(super) rules: Vec<Rule>,
}

/// The chains of a setting.
pub(super) fn chains(capture: &Capture) -> Vec<Chain> {
    let mut chains = vec![Chain { hook: Hook::Out, rules: outbound(capture) }];
    match capture.mode {
        Mode::Redirect => {
            chains.push(Chain { hook: Hook::In, rules: inbound(capture, Verdict::Redirect(INBOUND)) });
        }
        Mode::Tproxy => {
            let mut rules = vec![rule([Match::Loopback, Match::Marked], Verdict::Remember)];
            rules.extend(inbound(capture, Verdict::Tproxy(INBOUND)));
            chains.push(Chain { hook: Hook::EveryIn, rules });
            let rules = vec![rule([Match::OfMarked], Verdict::Mark)];
            chains.push(Chain { hook: Hook::EveryOut, rules });
        }
    }
    chains
}

fn rule<const N: usize>(matches: [Match; N], verdict: Verdict) -> Rule {
    Rule { matches: matches.to_vec(), verdict }
}

fn tcp(port: u16, verdict: Verdict) -> Rule {
    rule([Match::Port(Transport::Tcp, port)], verdict)
}

fn every(verdict: Verdict) -> Rule {
    rule([Match::Any(Transport::Tcp)], verdict)
}

fn to(range: IpNet, verdict: Verdict) -> Rule {
    rule([Match::To(range), Match::Any(Transport::Tcp)], verdict)
}

fn outbound(capture: &Capture) -> Vec<Rule> {
    let (leave, take) = (Verdict::Leave, Verdict::Redirect(OUTBOUND));
    let mut rules = vec![];
    rules.extend(capture.exclude_users.iter().map(|user| rule([Match::User(*user)], leave)));
    rules.extend(capture.exclude_groups.iter().map(|group| rule([Match::Group(*group)], leave)));
    rules.push(rule([Match::Loopback], leave));
    // Whatever else is left alone: nobody but the sidecar knows these addresses.
    rules.extend(Ipv4Net::new(SET.0, SET.1).map(|range| to(range.into(), take)));
    rules.extend(capture.exclude_interfaces.iter().map(|one| rule([Match::On(one.clone())], leave)));
    rules.extend(capture.exclude_outbound.iter().map(|port| tcp(*port, leave)));
    if capture.dns && !capture.exclude_outbound.contains(&53) {
        let question = |transport| rule([Match::Port(transport, 53)], Verdict::Redirect(DNS));
        rules.extend([Transport::Udp, Transport::Tcp].map(question));
    }
    rules.extend(capture.outbound.iter().map(|port| tcp(*port, take)));
    rules.extend(capture.exclude_ranges.iter().map(|range| rule([Match::To(*range)], leave)));
    match &capture.ranges {
        Ranges::All => rules.push(every(take)),
        Ranges::Only(ranges) => rules.extend(ranges.iter().map(|range| to(*range, take))),
    }
    rules
}

fn inbound(capture: &Capture, take: Verdict) -> Vec<Rule> {
    let leave = Verdict::Leave;
    let mut rules = vec![rule([Match::Loopback], leave)];
    rules.extend(capture.exclude_interfaces.iter().map(|one| rule([Match::On(one.clone())], leave)));
    rules.extend(OWN.iter().chain(&capture.exclude_inbound).map(|port| tcp(*port, leave)));
    match &capture.inbound {
        Ports::All => rules.push(every(take)),
        Ports::Only(ports) => rules.extend(ports.iter().map(|port| tcp(*port, take))),
    }
    rules
}

/// The mark, as both languages write it.
pub(super) fn mark() -> String {
    format!("{SIDECAR:#x}")
}
