//! What objects name and what is not there: services, subsets of them, clusters.
//!
//! What is missing may come: it is said, and what follows from the rest of the object is in force.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Inputs,
    finding::{Finding, Kind},
    services::Draft,
};
use crate::{
    failover::selector::SAME_AS_IMPORTER,
    model::{HttpRoute, Resource, WeightedDestination},
    name::ServiceName,
    resource::{Body, Object},
};

/// An object, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) field: String,
}

impl At {
    fn finding(&self, kind: Kind, reason: String) -> Finding {
        Finding { file: self.file.clone(), line: self.line, field: self.field.clone(), kind, reason }
    }
}

/// The services that there are: of the own cluster, and those that others offer to it.
pub(super) struct Known<'a> {
    drafts: &'a BTreeMap<ServiceName, Draft>,
    imported: &'a BTreeSet<ServiceName>,
}

impl<'a> Known<'a> {
    pub(super) fn new(drafts: &'a BTreeMap<ServiceName, Draft>, imported: &'a BTreeSet<ServiceName>) -> Self {
        Self { drafts, imported }
    }

    /// Looks all of it up.
    pub(super) fn all(&self, inputs: &Inputs<'_>, resources: &mut [Resource], findings: &mut Vec<Finding>) {
        self.services(inputs, findings);
        self.routes(resources, findings);
        clusters(inputs, findings);
    }

    fn has(&self, name: &ServiceName) -> bool {
        self.imported.contains(name) || self.drafts.get(name).is_some_and(|draft| draft.defined)
    }

    /// Objects that are about a service, and policies that name one.
    fn services(&self, inputs: &Inputs<'_>, findings: &mut Vec<Finding>) {
        for (name, draft) in self.drafts.iter().filter(|(name, _)| !self.has(name)) {
            findings.extend(draft.named_at.iter().map(|at| at.finding(Kind::NoService, missing(name))));
        }
        for (name, draft) in self.drafts.iter().filter(|(_, draft)| !draft.defined) {
            let (kind, reason) = if draft.external {
                (Kind::ExternalService, format!("Service {name} is an ExternalName, which cannot be exported"))
            } else {
                (Kind::NoService, format!("there is no Service {name} here that could be exported"))
            };
            findings.extend(draft.exported_at.iter().map(|at| at.finding(kind, reason.clone())));
        }
        for (file, object) in &inputs.objects {
            let Body::FailoverPolicy(policy) = &object.body else { continue };
            for (index, name) in policy.services.names.iter().enumerate() {
                let (namespace, bare) = name.split_once('/').unwrap_or((&object.metadata.namespace, name));
                // What is no name is a fault of its own.
                let Ok(service) = ServiceName::new(namespace, bare) else { continue };
                if !self.has(&service) {
                    let at = at(file, object, format!("spec.services.names[{index}]"));
                    findings.push(at.finding(Kind::NoService, missing(&service)));
                }
            }
        }
    }

    /// Destinations of routes. Those to a service or subset of which nothing is known are taken out.
    fn routes(&self, resources: &mut [Resource], findings: &mut Vec<Finding>) {
        let subsets = subsets(resources);
        for resource in resources {
            let Resource::Service(service) = resource else { continue };
            let fields = self.drafts.get(&service.name).map_or(&[][..], |draft| &draft.routes_at);
            for (route, at) in service.routes.iter_mut().zip(fields) {
                self.route(route, at, &subsets, findings);
            }
        }
    }

    /// A rule none of whose destinations is known stays: it answers that it has nowhere to go, and falls to no other.
    fn route(
        &self,
        route: &mut HttpRoute,
        at: &At,
        subsets: &BTreeSet<(ServiceName, String)>,
        findings: &mut Vec<Finding>,
    ) {
        let no_subset = |to: &WeightedDestination| {
            let subset = to.subset.as_ref()?;
            let is_there = subsets.contains(&(to.service.clone(), subset.clone()));
            (!is_there).then(|| format!("no DestinationRule gives {} a subset {subset:?}", to.service))
        };
        route.destinations.retain(|to| {
            let no_subset = no_subset(to);
            if !self.has(&to.service) {
                findings.push(at.finding(Kind::NoService, missing(&to.service)));
                return no_subset.is_none() && self.drafts.contains_key(&to.service);
            }
            let is_whole = no_subset.is_none();
            findings.extend(no_subset.map(|reason| at.finding(Kind::NoSubset, reason)));
            is_whole
        });
    }
}

fn missing(name: &ServiceName) -> String {
    format!("there is no Service {name} here, and no other cluster offers it to this one")
}

fn at(file: &str, object: &Object, field: String) -> At {
    At { file: file.to_owned(), line: object.line, field }
}

fn subsets(resources: &[Resource]) -> BTreeSet<(ServiceName, String)> {
    let services = resources.iter().filter_map(|resource| match resource {
        Resource::Service(service) => Some(service),
        _ => None,
    });
    services.flat_map(|service| service.subsets.keys().map(|subset| (service.name.clone(), subset.clone()))).collect()
}

/// Clusters that are no members. As long as no other cluster is known nothing is said: this one has just begun.
fn clusters(inputs: &Inputs<'_>, findings: &mut Vec<Finding>) {
    if inputs.others.is_empty() {
        return;
    }
    let own = inputs.setting.cluster.as_str();
    let members: BTreeSet<&str> = inputs.others.keys().map(|name| name.as_str()).chain([own]).collect();
    let listed = members.iter().copied().collect::<Vec<_>>().join(", ");
    for (file, object) in &inputs.objects {
        for (field, cluster) in named(object, own) {
            if cluster != SAME_AS_IMPORTER && !members.contains(cluster) {
                let reason = format!("no cluster {cluster} is a member of this mesh; there are {listed}");
                findings.push(at(file, object, field).finding(Kind::NoCluster, reason));
            }
        }
    }
}

/// Fields of an object, and the clusters that they name.
fn named<'a>(object: &'a Object, own: &str) -> Vec<(String, &'a str)> {
    let mut named = vec![];
    let mut name = |field: String, cluster: &'a str| named.push((field, cluster));
    match &object.body {
        Body::ServiceExport(spec) => {
            spec.consumers.iter().flatten().for_each(|cluster| name("spec.consumers".into(), cluster.as_str()));
        }
        Body::MeshCluster(spec) if object.metadata.name == own => {
            for (namespace, clusters) in &spec.imports {
                clusters.iter().for_each(|cluster| name(format!("spec.imports[{namespace}]"), cluster.as_str()));
            }
            spec.operators.iter().flatten().for_each(|cluster| name("spec.operators".into(), cluster.as_str()));
        }
        Body::FailoverPolicy(policy) => {
            for (index, tier) in policy.tiers.iter().enumerate() {
                tier.clusters.iter().for_each(|cluster| name(format!("spec.tiers[{index}].clusters"), cluster));
                tier.weights.keys().for_each(|cluster| name(format!("spec.tiers[{index}].weights"), cluster.as_str()));
            }
            for (index, cap) in policy.caps.iter().enumerate() {
                cap.clusters.iter().for_each(|cluster| name(format!("spec.caps[{index}].clusters"), cluster.as_str()));
            }
            policy.constraints.never.iter().for_each(|one| name("spec.constraints.never".into(), one.as_str()));
        }
        _ => {}
    }
    named
}
