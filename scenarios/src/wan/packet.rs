//! What the router reads of an IPv4 packet, and the one packet that it writes itself: "too large" (RFC 792, RFC 1191).

use std::net::Ipv4Addr;

use super::link::{Packet, Protocol};

/// Bytes of an IPv4 header without options.
const HEADER: usize = 20;
/// Bytes of the packet complained about that an ICMP message carries behind its header.
const QUOTED: usize = 8;
/// The first port that kernels give to clients: replies go to it and above.
const FIRST_CLIENT_PORT: u16 = 32_768;

/// What the router reads of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// What decides on its way.
    pub packet: Packet,
    /// It must not be cut into fragments.
    pub whole: bool,
    /// Source and destination port, of TCP and UDP.
    pub ports: Option<(u16, u16)>,
}

/// Reads it; `None` for what is not IPv4, or cut short.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Head> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let [version, _, _, _, _, _, flags, fragment, _, protocol, _, _, a, b, c, d, e, f, g, h] = *header;
    if version >> 4 != 4 {
        return None;
    }
    let protocol = match protocol {
        1 => Protocol::Icmp,
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => Protocol::Other,
    };
    let is_first = flags & 0x1f == 0 && fragment == 0;
    let has_ports = is_first && matches!(protocol, Protocol::Tcp | Protocol::Udp);
    let payload = bytes.get(usize::from(version & 0xf) * 4..)?;
    let ports = match payload.first_chunk() {
        Some([s0, s1, d0, d1]) if has_ports => Some((u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1]))),
        _ => None,
    };
    Some(Head {
        source: Ipv4Addr::new(a, b, c, d),
        destination: Ipv4Addr::new(e, f, g, h),
        packet: Packet { bytes: u16::try_from(bytes.len()).ok()?, protocol },
        whole: flags & 0x40 != 0,
        ports,
    })
}

/// Which ports of a cluster others reach. Empty: all of them.
///
/// In production a cluster shows its gateway and nothing else; with a namespace that has one address range for all
/// there must be somebody who says no, or admin ports, which on loopback only the machine itself reaches, would be open
/// to other clusters.
#[derive(Clone, Debug, Default)]
pub struct Doors(pub Vec<u16>);

impl Doors {
    /// Whether the packet goes to an open port, or is the answer of one to a client.
    #[must_use]
    pub fn let_through(&self, head: &Head) -> bool {
        match head.ports {
            Some((source, destination)) if !self.0.is_empty() => {
                let answers = self.0.contains(&source) && destination >= FIRST_CLIENT_PORT;
                self.0.contains(&destination) || answers
            }
            _ => true,
        }
    }
}

/// Tells the sender of `packet` that what is to fit into `mtu` bytes must be smaller: ICMP "fragmentation needed", as
/// from the far end. `None` where no such answer may be given: to fragments allowed, to ICMP itself.
#[must_use]
pub fn too_large(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let head = read(packet)?;
    if !head.whole || head.packet.protocol == Protocol::Icmp {
        return None;
    }
    let quoted = packet.get(..usize::from(packet.first()? & 0xf) * 4 + QUOTED)?;
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quoted);
    fill_in(&mut icmp, 2);
    let length = u16::try_from(HEADER + icmp.len()).ok()?;
    let mut answer = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
    answer.splice(2..4, length.to_be_bytes());
    answer.extend(head.destination.octets());
    answer.extend(head.source.octets());
    fill_in(&mut answer, 10);
    answer.extend(icmp);
    Some(answer)
}

/// Writes the Internet checksum (RFC 1071) of `bytes` into two of them, which are zero.
fn fill_in(bytes: &mut [u8], at: usize) {
    let word = |pair: &[u8]| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(!sum & 0xffff).unwrap_or_default().to_be_bytes();
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&sum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn udp(length: usize, flags: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, flags, 0, 64, 17, 0, 0, 241, 1, 11, 1, 241, 2, 3, 1];
        packet.extend([0x9c, 0x40, 0x3c, 0x53, 0, 0, 0, 0]);
        packet.resize(length, 0);
        packet
    }

    fn checksum_holds(bytes: &[u8]) -> bool {
        let mut copy = [bytes, &[0, 0]].concat();
        copy.truncate(bytes.len() + bytes.len() % 2);
        let at = copy.len();
        copy.extend([0, 0]);
        fill_in(&mut copy, at);
        copy[at..] == [0, 0]
    }

    #[test]
    fn a_head_tells_whence_whither_and_what() {
        let head = read(&udp(100, 0x40)).unwrap();
        assert_eq!(head.source.to_string(), "241.1.11.1");
        assert_eq!(head.destination.to_string(), "241.2.3.1");
        assert_eq!((head.packet, head.whole), (Packet { bytes: 100, protocol: Protocol::Udp }, true));
        assert_eq!(head.ports, Some((40_000, 15_443)));
        assert_eq!(read(&udp(100, 1)).unwrap().ports, None, "a later fragment has no ports");
        assert_eq!(read(&[0x60; 40]), None, "IPv6");
    }

    #[test]
    fn only_open_ports_are_reached_and_their_answers_come_back() {
        let through = |ports| {
            let head = Head { ports, ..read(&udp(100, 0)).unwrap() };
            (Doors(vec![15_443]).let_through(&head), Doors::default().let_through(&head))
        };
        assert_eq!(through(Some((40_000, 15_443))), (true, true));
        assert_eq!(through(Some((15_443, 40_000))), (true, true));
        assert_eq!(through(Some((40_000, 15_000))), (false, true));
        assert_eq!(through(Some((15_443, 15_000))), (false, true), "a source port opens no admin port");
        assert_eq!(through(None), (true, true));
    }

    #[test]
    fn too_large_is_told_to_the_sender_and_never_to_icmp() {
        let packet = udp(1400, 0x40);
        let answer = too_large(&packet, 1280).unwrap();
        let head = read(&answer).unwrap();
        assert_eq!((head.source.to_string(), head.destination.to_string()), ("241.2.3.1".into(), "241.1.11.1".into()));
        assert_eq!(head.packet, Packet { bytes: 56, protocol: Protocol::Icmp });
        assert!(checksum_holds(&answer[..20]) && checksum_holds(&answer[20..]));
        assert_eq!(answer[20..28], [3, 4, answer[22], answer[23], 0, 0, 5, 0]);
        assert_eq!(answer[28..], packet[..28]);
        assert_eq!(too_large(&answer, 20), None);
        assert_eq!(too_large(&udp(1400, 0), 1280), None, "it may be cut into fragments");
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (read(&bytes), too_large(&bytes, 1280));
        }
    }
}
