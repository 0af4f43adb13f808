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

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

use crate::name::ServiceName;

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

/// Where all of [`set_addresses`] are: a network and the bits that it fixes. It is reserved (RFC 1112), so that nothing else can
/// mean it, and no packet to it leaves a workload: its sidecar takes it.
pub const SET: (Ipv4Addr, u8) = (Ipv4Addr::new(242, 0, 0, 0), 8);

/// The address that captured workloads' DNS gives each service of the set.
///
/// It is a hash of the name, so that all replicas of all clusters' controls agree on it without a word, today and after
/// everything was lost. Of two names with the same hash (of a thousand services, once in 34 meshes) the later one takes its next.
#[must_use]
pub fn set_addresses<'a>(names: impl IntoIterator<Item = &'a ServiceName>) -> BTreeMap<ServiceName, Ipv4Addr> {
    let names: BTreeSet<_> = names.into_iter().collect();
    let mut taken = BTreeSet::new();
    let address = |name: &ServiceName| (0..=u8::MAX).map(|round| hashed(name, round)).find(|at| taken.insert(*at));
    let mut address = address;
    names.into_iter().filter_map(|name| address(name).map(|at| (name.clone(), at))).collect()
}

/// FNV-1a of `namespace/name` and the round, folded to the bits that [`SET`] leaves free.
fn hashed(name: &ServiceName, round: u8) -> Ipv4Addr {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let text = [name.namespace().as_bytes(), b"/", name.name().as_bytes(), &[round]].concat();
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    let [_, _, a, b, c, d, e, f] = hash.to_be_bytes();
    let [first, ..] = SET.0.octets();
    Ipv4Addr::new(first, a ^ d, b ^ e, c ^ f)
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
    }

    #[test]
    fn a_service_of_the_set_has_one_address_whoever_asks_and_whatever_else_there_is() {
        let name = |index: usize| ServiceName::new("shop", &format!("s-{index}")).unwrap();
        let all: Vec<_> = (0..40_000).map(name).collect();
        let addresses = set_addresses(&all);
        assert_eq!(addresses.len(), all.len());
        assert_eq!(addresses.values().collect::<BTreeSet<_>>().len(), all.len(), "no two have the same");
        assert!(addresses.values().all(|address| address.octets().starts_with(&[242])));
        assert_eq!(addresses, set_addresses(all.iter().rev()));
        let moved = all.iter().filter(|name| set_addresses([*name]).get(*name) != addresses.get(*name)).count();
        let expected = 40_000_u64.pow(2) / 2 / (1 << 24);
        assert!((1..=2 * expected).contains(&(moved as u64)), "{moved} of {expected} met another's");
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
