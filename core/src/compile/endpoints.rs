//! Who answers for a service: own workloads by selector or by EndpointSlices, other clusters by their summaries.

use std::collections::BTreeMap;

use super::{
    Inputs, Workload,
    finding::{Finding, Kind},
    services::Draft,
    slices::{self, Slices},
    summaries_of,
};
use crate::{
    model::{Endpoint, EndpointState, Endpoints, Group},
    name::{ClusterName, ServiceName},
    resource::kubernetes::TargetPort,
    statement::{Content, Export, ImportRules, Summary},
};

/// Exports of a service that this cluster may use.
pub(super) fn exports<'a>(
    inputs: &'a Inputs<'_>,
    name: &ServiceName,
    rules: &ImportRules,
) -> Vec<(ClusterName, &'a Export)> {
    let own = &inputs.setting.cluster;
    let mut found = vec![];
    for (cluster, other) in inputs.others {
        for content in &other.contents {
            if let Content::Export(export) = content.as_ref()
                && export.service == *name
                && export.consumers.include(own)
                && rules.accept(name.namespace(), cluster)
            {
                found.push((cluster.clone(), export));
            }
        }
    }
    found
}

pub(super) fn of(
    inputs: &Inputs<'_>,
    (name, draft): (&ServiceName, Option<&Draft>),
    rules: &ImportRules,
    slices: &Slices<'_>,
) -> Endpoints {
    let local = match draft.filter(|draft| draft.defined) {
        None => vec![],
        // Nobody but who writes slices says who offers it.
        Some(draft) if draft.selector.is_empty() => {
            let of_service = slices.get(name).map_or(&[][..], Vec::as_slice);
            slices::endpoints(inputs, (name, &draft.ports), draft.publishes_not_ready, of_service)
        }
        Some(draft) => selected(inputs, name, draft),
    };
    let exporters = exports(inputs, name, rules);
    let remote = exporters
        .into_iter()
        .filter_map(|(cluster, _)| {
            let other = inputs.others.get(&cluster)?;
            // Who may answer is of the cluster's own trust domain: it cannot name identities of another.
            let fresh = summaries_of(other, name).filter(|_| !other.stale);
            let groups: Vec<_> = fresh.map(|summary| group(summary, &other.trust_domain)).collect();
            (!groups.is_empty()).then_some((cluster, groups))
        })
        .collect();
    Endpoints { service: name.clone(), local, remote }
}

fn selected(inputs: &Inputs<'_>, name: &ServiceName, draft: &Draft) -> Vec<Endpoint> {
    let selected =
        |labels: &BTreeMap<String, String>| draft.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let of_namespace = inputs.workloads.iter().filter(|one| one.identity.namespace() == name.namespace());
    let mut local: Vec<_> = of_namespace.filter(|one| selected(&one.labels)).map(|one| of_draft(one, draft)).collect();
    local.sort_by(|a, b| a.id.cmp(&b.id));
    local
}

fn of_draft(workload: &Workload, draft: &Draft) -> Endpoint {
    let number = |target: &TargetPort| match target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => workload.ports.get(name).copied(),
    };
    let state = if draft.publishes_not_ready && workload.state == EndpointState::Unready {
        EndpointState::Ready
    } else {
        workload.state
    };
    let targets = draft.targets.iter().filter_map(|(port, target)| Some((*port, number(target)?))).collect();
    endpoint(workload, state, targets)
}

/// A workload as an endpoint, with this state and the application's port of each of the service's.
pub(super) fn endpoint(workload: &Workload, state: EndpointState, targets: BTreeMap<u16, u16>) -> Endpoint {
    Endpoint {
        id: workload.id.clone(),
        address: workload.address,
        locality: workload.locality.clone(),
        labels: workload.labels.clone(),
        identity: workload.identity.clone(),
        weight: workload.weight,
        state,
        targets,
    }
}

/// Named target ports that an endpoint has no container for: it is not asked for them.
pub(super) fn unnamed(draft: Option<&Draft>, local: &[Endpoint], findings: &mut Vec<Finding>) {
    let Some(draft) = draft.filter(|draft| !draft.selector.is_empty()) else { return };
    let named = draft.targets.iter().filter_map(|(port, target)| match target {
        TargetPort::Name(name) => Some((port, name)),
        TargetPort::Number(_) => None,
    });
    for (port, name) in named {
        let Some(without) = local.iter().find(|endpoint| !endpoint.targets.contains_key(port)) else { continue };
        findings.push(Finding {
            file: draft.defined_at.0.clone(),
            line: draft.defined_at.1,
            field: format!("spec.ports[port {port}].targetPort"),
            kind: Kind::Invalid,
            reason: format!(
                "{} has no container port that is named {name:?}, so it gets no requests to port {port}; name the \
                 container's port, or write its number here",
                without.id
            ),
        });
    }
}

fn group(summary: &Summary, domain: &crate::name::TrustDomain) -> Group {
    let count = summary.count;
    let usable = count.ready.saturating_add(count.unknown);
    Group {
        zone: summary.zone.clone(),
        labels: summary.labels.clone(),
        identities: summary.identities.iter().filter(|id| id.trust_domain() == domain).cloned().collect(),
        usable,
        total: usable.saturating_add(count.draining).saturating_add(count.unready),
        weight: summary.weight,
    }
}
