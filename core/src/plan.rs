//! The address plan of meshes on one machine: a pure function from a cluster's number to all its addresses
//! (DESIGN.md decision 23).
//!
//! Cluster C has 127.C.0.0/16. Its control is 127.C.1.1, its federation member 127.C.2.1, its gateways 127.C.3.1, 127.C.3.2
//! and so on, its workloads 127.C.11.1, 127.C.12.1 and so on. A workload's services, as its own sidecar listens for them, have its
//! address with a last octet of 16 to 254.

use std::net::{IpAddr, Ipv4Addr};

/// Last octets that services may have.
pub const SERVICE_OCTETS: std::ops::RangeInclusive<u8> = 16..=254;
/// Third octet of the first workload less one.
const WORKLOAD_BASE: u8 = 10;

/// The addresses of one cluster on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopbackCluster(u8);

impl LoopbackCluster {
    /// The cluster with this number, the second octet of its addresses.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    const fn host(self, third: u8) -> IpAddr {
        self.at(third, 1)
    }

    const fn at(self, third: u8, fourth: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.0, third, fourth))
    }

    /// Control.
    #[must_use]
    pub const fn control(self) -> IpAddr {
        self.host(1)
    }

    /// The federation member.
    #[must_use]
    pub const fn federation(self) -> IpAddr {
        self.host(2)
    }

    /// The first gateway.
    #[must_use]
    pub const fn gateway(self) -> IpAddr {
        self.gateway_at(1)
    }

    /// The gateway at this place, from 1.
    #[must_use]
    pub const fn gateway_at(self, place: u8) -> IpAddr {
        self.at(3, place)
    }

    /// The workload at this place, from 1; places beyond 245 share the last address.
    #[must_use]
    pub const fn workload(self, place: u8) -> IpAddr {
        self.host(WORKLOAD_BASE.saturating_add(place))
    }
}

/// Where the sidecar at `workload` listens for the service with this `address_index`: the workload's address with that
/// last octet. `None` for addresses that are not IPv4 loopback, and for indexes outside [`SERVICE_OCTETS`].
#[must_use]
pub fn service_address(workload: IpAddr, address_index: u8) -> Option<Ipv4Addr> {
    match workload {
        IpAddr::V4(address) if address.is_loopback() && SERVICE_OCTETS.contains(&address_index) => {
            let [a, b, c, _] = address.octets();
            Some(Ipv4Addr::new(a, b, c, address_index))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_a_workload_lie_beside_it_and_never_on_it() {
        let workload = LoopbackCluster::new(2).workload(1);
        assert_eq!(workload.to_string(), "127.2.11.1");
        assert_eq!(service_address(workload, 16), Some(Ipv4Addr::new(127, 2, 11, 16)));
        assert_eq!(service_address(workload, 1), None);
        assert_eq!(service_address("10.0.0.1".parse().unwrap(), 16), None);
    }

    #[test]
    fn gateways_of_a_cluster_lie_beside_each_other() {
        let at = LoopbackCluster::new(7);
        assert_eq!([1, 2].map(|place| at.gateway_at(place).to_string()), ["127.7.3.1", "127.7.3.2"]);
        assert_eq!(at.gateway(), at.gateway_at(1));
    }
}
