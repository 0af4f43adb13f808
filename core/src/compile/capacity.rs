//! Limits that are a part of a capacity which no Service says: they limit nothing, and whoever wrote them is told.

use std::collections::BTreeMap;

use super::{
    Inputs,
    finding::{Finding, Kind, listed},
    orders::{Ordered, named},
    services::Draft,
};
use crate::{
    failover::policy::{Cap, FailoverPolicy},
    name::ServiceName,
    resource::{Body, kubernetes::CAPACITY},
};

/// A finding for each such limit of an own policy that binds a service here.
pub(super) fn unsaid(
    inputs: &Inputs<'_>,
    drafts: &BTreeMap<ServiceName, Draft>,
    orders: &BTreeMap<ServiceName, Ordered>,
    findings: &mut Vec<Finding>,
) {
    for (file, object) in &inputs.objects {
        let Body::FailoverPolicy(policy) = &object.body else { continue };
        let binds = named(object, &inputs.setting.cluster);
        let bound: Vec<_> = orders.iter().filter(|(_, ordered)| ordered.policies.first() == Some(&binds)).collect();
        for (index, cap) in policy.caps.iter().enumerate().filter(|(_, cap)| cap.share_of_capacity.is_some()) {
            let places: Vec<_> = bound
                .iter()
                .flat_map(|(service, ordered)| places(inputs, drafts, policy, cap, service, ordered))
                .collect();
            if !places.is_empty() {
                let field = format!("spec.caps[{index}].shareOfCapacity");
                let reason = format!(
                    "it limits nothing of {}: the Service there says nothing in {CAPACITY}; annotate it, or write \
                     requestsPerSecond",
                    listed(places.iter())
                );
                findings.push(Finding {
                    file: (*file).to_owned(),
                    line: object.line,
                    field,
                    kind: Kind::NoCapacity,
                    reason,
                });
            }
        }
    }
}

/// Where a service's capacity is not said, of the clusters that a limit is for. The own one counts when others use it.
fn places(
    inputs: &Inputs<'_>,
    drafts: &BTreeMap<ServiceName, Draft>,
    policy: &FailoverPolicy,
    cap: &Cap,
    service: &ServiceName,
    ordered: &Ordered,
) -> Vec<String> {
    let own = &inputs.setting.cluster;
    let is_exported = drafts.get(service).is_some_and(|draft| draft.exported.is_some());
    let members = ordered.order.tiers.iter().flat_map(|tier| &tier.members);
    members
        .filter(|one| one.capacity.is_none() && (one.cluster != *own || is_exported))
        .filter(|one| policy.cap_of(&one.cluster).is_some_and(|found| std::ptr::eq(found, cap)))
        .map(|one| format!("{service} in {}", one.cluster))
        .collect()
}
