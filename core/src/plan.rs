//! The address plan of meshes on one machine: a pure function from a cluster's number to all its addresses
//! (DESIGN.md decision 23).
//!
//! It has two forms. On loopback cluster C has 127.C.0.0/16. Where every cluster has a network namespace of its own it
//! has 241.C.0.0/16, and everything else is the same: control is x.C.1.1, the federation member x.C.2.1, the gateways
//! x.C.3.1, x.C.3.2 and so on, workloads x.C.11.1, x.C.12.1 and so on. A workload's services, as its own sidecar listens
//! for them, have its address with a last octet of 16 to 254.
//!
//! Why 241: the plan needs a whole /8 (an octet for the cluster, two within it), and the machine itself needs routes into
//! it, so it must be one that no machine uses. Of private ones there is only 10.0.0.0/8, which offices, clouds, container
//! engines and Kubernetes all use. 240.0.0.0/4 is reserved (RFC 1112) and routed nowhere, and Linux takes it for
//! ordinary addresses.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// Indexes that services are given.
pub const SERVICE_INDEXES: std::ops::RangeInclusive<u16> = 16..=65_534;
/// Those of them that are a last octet on a workload of the plan.
const SERVICE_OCTETS: std::ops::RangeInclusive<u8> = 16..=254;
/// Third octet of the first workload less one.
const WORKLOAD_BASE: u8 = 10;

/// Where the addresses of a plan are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// On loopback, all clusters side by side; needs no privilege.
    #[default]
    Loopback,
    /// In a network namespace a cluster.
    Namespaces,
}

impl Form {
    /// The first octet of all its addresses.
    #[must_use]
    pub const fn first_octet(self) -> u8 {
        match self {
            Self::Loopback => 127,
            Self::Namespaces => 241,
        }
    }
}

/// The addresses of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterAddresses {
    form: Form,
    number: u8,
}

impl ClusterAddresses {
    /// The cluster with this number, the second octet of its addresses.
    #[must_use]
    pub const fn new(form: Form, number: u8) -> Self {
        Self { form, number }
    }

    const fn host(self, third: u8) -> IpAddr {
        self.at(third, 1)
    }

    const fn at(self, third: u8, fourth: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(self.form.first_octet(), self.number, third, fourth))
    }

    /// What a process of the cluster calls itself when it calls others.
    #[must_use]
    pub const fn own(self) -> IpAddr {
        self.host(0)
    }

    /// The machine's address towards the cluster, outside of its range; of use in namespaces only.
    #[must_use]
    pub const fn machine(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(self.form.first_octet(), 0, self.number, 1))
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

/// The form and the number of the cluster that an address of the plan is of; `None` for others.
#[must_use]
pub fn cluster_of(address: IpAddr) -> Option<(Form, u8)> {
    let IpAddr::V4(address) = address else { return None };
    let [first, number, ..] = address.octets();
    let form = [Form::Loopback, Form::Namespaces].into_iter().find(|form| form.first_octet() == first)?;
    Some((form, number))
}

/// Where the sidecar at `workload` listens for the service with this `address_index`: the workload's address with that
/// last octet, 16 to 254. `None` for addresses outside both forms of the plan, and for indexes that are no such octet.
#[must_use]
pub fn service_address(workload: IpAddr, address_index: u16) -> Option<Ipv4Addr> {
    cluster_of(workload)?;
    let octet = u8::try_from(address_index).ok().filter(|octet| SERVICE_OCTETS.contains(octet))?;
    match workload {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Some(Ipv4Addr::new(a, b, c, octet))
        }
        IpAddr::V6(_) => None,
    }
}

/// The address that a captured workload's DNS gives the service with this `address_index`: in 240.240.0.0/16, which is
/// reserved (RFC 1112), so that nothing else can mean it. It is the same for every workload, and no packet to it leaves
/// one: its sidecar takes it.
#[must_use]
pub const fn set_address(address_index: u16) -> Ipv4Addr {
    let [high, low] = address_index.to_be_bytes();
    Ipv4Addr::new(240, 240, high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_a_workload_lie_beside_it_and_never_on_it() {
        for (form, wanted, service) in
            [(Form::Loopback, "127.2.11.1", "127.2.11.16"), (Form::Namespaces, "241.2.11.1", "241.2.11.16")]
        {
            let workload = ClusterAddresses::new(form, 2).workload(1);
            assert_eq!(workload.to_string(), wanted);
            assert_eq!(service_address(workload, 16), Some(service.parse().unwrap()));
            assert_eq!(service_address(workload, 1), None);
        }
        assert_eq!(service_address("10.0.0.1".parse().unwrap(), 16), None);
        assert_eq!(service_address("127.2.11.1".parse().unwrap(), 300), None, "no octet");
        assert_eq!(set_address(300).to_string(), "240.240.1.44");
    }

    #[test]
    fn the_machine_is_outside_the_range_of_every_cluster() {
        let at = ClusterAddresses::new(Form::Namespaces, 9);
        assert_eq!((at.machine().to_string(), at.own().to_string()), ("241.0.9.1".into(), "241.9.0.1".into()));
    }

    #[test]
    fn gateways_of_a_cluster_lie_beside_each_other() {
        let at = ClusterAddresses::new(Form::Loopback, 7);
        assert_eq!([1, 2].map(|place| at.gateway_at(place).to_string()), ["127.7.3.1", "127.7.3.2"]);
        assert_eq!(at.gateway(), at.gateway_at(1));
    }
}
