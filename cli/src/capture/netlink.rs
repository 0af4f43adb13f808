//! What capture needs of the network beside rules: the address from which a sidecar dials its application in IPv6 (in IPv4
//! all of 127.0.0.0/8 is there already), and with TPROXY the way back of answers to a client's address (rtnetlink(7)).
//!
//! A pod that has no IPv6 gets no such address: by it resolvers would take the pod for one that has.

use std::net::Ipv6Addr;

use anyhow::{Context, Result, anyhow};
use isthmus_proxy::capture::{APPLICATION_V6, Mode, ROUTES, SIDECAR};
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with},
};

/// `RTM_NEWADDR`, `RTM_NEWROUTE`, `RTM_NEWRULE`.
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_EXCL` and `NLM_F_CREATE`.
const FLAGS: u16 = 0x1 | 0x4 | 0x200 | 0x400;
/// `RT_SCOPE_HOST`.
const HOST: u8 = 254;
/// The index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;
const V4: u8 = 2;
const V6: u8 = 10;

/// Prepares.
///
/// # Errors
/// What the kernel refuses, with the remedy.
pub fn prepare(mode: Mode) -> Result<()> {
    let six = std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| is_reached_by_v6(&addresses));
    if six {
        let added = ask(&address(APPLICATION_V6)).map_err(refused);
        added.with_context(|| format!("there is no address {APPLICATION_V6} on lo, from which the sidecar dials"))?;
    }
    if mode == Mode::Tproxy {
        for message in [V4].into_iter().chain(six.then_some(V6)).flat_map(|family| [route(family), rule(family)]) {
            ask(&message).map_err(refused).context("answers to a client's address have no way back")?;
        }
    }
    Ok(())
}

/// Whether an interface other than `lo` has an address of global scope, by the lines of `/proc/net/if_inet6`: address,
/// interface, length, scope, flags, name.
fn is_reached_by_v6(addresses: &str) -> bool {
    addresses.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(3) == Some(&"00") && words.get(5).is_some_and(|name| *name != "lo")
    })
}

fn refused(error: Errno) -> anyhow::Error {
    let remedy =
        if error == Errno::PERM { "; the container must run as root with the capability NET_ADMIN" } else { "" };
    anyhow!("{error}{remedy}")
}

/// The address on `lo`: `ifaddrmsg`, `IFA_LOCAL`, `IFA_CACHEINFO`. It is for ever, and never preferred: whoever does not ask
/// for it does not get it as its own.
fn address(address: Ipv6Addr) -> Vec<u8> {
    let head = [&[V6, 128, 0, HOST], LOOPBACK.to_ne_bytes().as_slice()].concat();
    let lifetime = [0, u32::MAX, 0, 0].map(u32::to_ne_bytes).concat();
    message(NEW_ADDRESS, &head, &[(2, &address.octets()), (6, &lifetime)])
}

/// Every address is a local one: `rtmsg` of type `RTN_LOCAL`, `RTA_OIF`, `RTA_TABLE`.
fn route(family: u8) -> Vec<u8> {
    let head = [family, 0, 0, 0, 0, 4, HOST, 2, 0, 0, 0, 0];
    message(NEW_ROUTE, &head, &[(4, &LOOPBACK.to_ne_bytes()), (15, &ROUTES.to_ne_bytes())])
}

/// For what is marked: `fib_rule_hdr` with `FR_ACT_TO_TBL`, `FRA_PRIORITY`, `FRA_FWMARK`, `FRA_TABLE`. The priority makes the
/// kernel know a rule that is there already.
fn rule(family: u8) -> Vec<u8> {
    let head = [family, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let (mark, table) = (SIDECAR.to_ne_bytes(), ROUTES.to_ne_bytes());
    message(NEW_RULE, &head, &[(6, &mark), (10, &mark), (15, &table)])
}

/// A message of this kind with attributes whose lengths are multiples of 4, so that nothing needs filling up.
fn message(kind: u16, head: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = head.to_vec();
    for (kind, value) in attributes {
        body.extend(u16::try_from(value.len() + 4).unwrap_or(u16::MAX).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend_from_slice(value);
    }
    let length = u32::try_from(body.len() + 16).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Sequence and sender: one question, one answer.
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    message
}

/// Asks the kernel; what is there already is as good as what is new.
fn ask(message: &[u8]) -> Result<(), Errno> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, message, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 1024];
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    match outcome(answer.get(..length).unwrap_or_default()).ok_or(Errno::BADMSG)? {
        0 => Ok(()),
        code => match Errno::from_raw_os_error(code.saturating_neg()) {
            Errno::EXIST => Ok(()),
            error => Err(error),
        },
    }
}

/// The number in `nlmsgerr`.
fn outcome(answer: &[u8]) -> Option<i32> {
    let code = answer.get(16..20)?.try_into().ok()?;
    Some(i32::from_ne_bytes(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_loopback_and_link_addresses_alone_is_not_reached_by_ipv6() {
        let own = "00000000000000000000000000000001 01 80 10 80       lo\n00000000000000000000000000000006 01 80 00 80       \
                   lo\nfe8000000000000000504dfffe000001 02 40 20 80     eth0\n";
        assert!(!is_reached_by_v6(own));
        assert!(is_reached_by_v6(&format!("{own}fd000000000000000000000000000002 02 40 00 80     eth0\n")));
    }

    #[test]
    fn messages_say_their_length_and_answers_their_number() {
        for message in [address(APPLICATION_V6), route(V4), rule(V6)] {
            let said = u32::from_ne_bytes(message[..4].try_into().unwrap());
            assert_eq!(usize::try_from(said), Ok(message.len()));
            assert_eq!(message.len() % 4, 0);
        }
        let refusal = [[0; 16].as_slice(), &(-17i32).to_ne_bytes(), &[0; 16]].concat();
        assert_eq!((outcome(&refusal), outcome(&refusal[..18])), (Some(-17), None));
    }
}
