//! Which failover policy binds a service here, and the order of clusters that follows from it.

use std::{collections::BTreeMap, sync::Arc};

use super::{Inputs, own, services::Draft};
use crate::{
    consent,
    failover::{
        order::{self, Order, Party, properties},
        policy::{self, Candidate, FailoverPolicy, Written},
    },
    model::Endpoints,
    name::{ClusterName, ServiceName},
    resource::{Body, Object},
    statement::{Content, Export},
};

/// A service's tiers, and what they are from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ordered {
    /// The tiers.
    pub order: Order,
    /// What binds it; the default where nothing does.
    pub policy: Arc<FailoverPolicy>,
    /// All that are for it, the one that binds first, as `namespace/name of cluster`; none: the default.
    pub policies: Vec<String>,
    /// The limit on what others may send to the own cluster, requests a second.
    pub own_cap: Option<f64>,
}

/// All policies that may bind the own cluster.
pub(super) struct Policies {
    own: ClusterName,
    properties: BTreeMap<String, String>,
    written: Vec<(ClusterName, Arc<Written>)>,
    specs: BTreeMap<(ClusterName, String), Arc<FailoverPolicy>>,
    default: Arc<FailoverPolicy>,
}

impl Policies {
    pub(super) fn of(inputs: &Inputs<'_>) -> Self {
        let own = inputs.setting.cluster.clone();
        let mut written = own_policies(inputs);
        let listed = own::operators(inputs);
        let bound_by = consent::binding(&own, listed.as_deref(), inputs.operators);
        for (name, other) in inputs.others.iter().filter(|(name, _)| bound_by.contains(name)) {
            written.extend(other.contents.iter().filter_map(|content| match content.as_ref() {
                // What its own cluster would refuse is no policy here either.
                Content::FailoverPolicy(policy) if policy.spec.faults(&policy.namespace).is_empty() => {
                    Some((name.clone(), Arc::new(policy.as_ref().clone())))
                }
                _ => None,
            }));
        }
        let spec = |(writer, policy): &(ClusterName, Arc<Written>)| {
            ((writer.clone(), path(policy)), Arc::new(policy.spec.clone()))
        };
        let specs = written.iter().map(spec).collect();
        let properties = properties(&own, &inputs.setting.region, &own::properties(inputs));
        Self { own, properties, written, specs, default: Arc::default() }
    }

    /// What the own cluster says to the others.
    pub(super) fn own(&self) -> impl Iterator<Item = Written> {
        self.written.iter().filter(|(writer, _)| *writer == self.own).map(|(_, policy)| policy.as_ref().clone())
    }

    pub(super) fn order(
        &self,
        inputs: &Inputs<'_>,
        service: &ServiceName,
        draft: Option<&Draft>,
        endpoints: &Endpoints,
        exports: &[(ClusterName, &Export)],
    ) -> Ordered {
        let none = BTreeMap::new();
        let defined = draft.filter(|draft| draft.defined);
        let labels = defined.map(|draft| &draft.labels).or(exports.first().map(|(_, export)| &export.labels));
        let candidates = self.written.iter().map(|(writer, policy)| Candidate { writer, policy });
        let bound = policy::binding(&self.own, service, labels.unwrap_or(&none), candidates);
        let policy = bound.first().and_then(|first| self.specs.get(&(first.writer.clone(), path(first.policy))));
        let policy = Arc::clone(policy.unwrap_or(&self.default));
        let own = self.own_party(defined, endpoints);
        let own_cap = own.as_ref().and_then(|own| order::limit(&policy, own));
        let parties: Vec<_> = own.into_iter().chain(exports.iter().map(|one| party(inputs, endpoints, one))).collect();
        let pins = inputs.pins.get(service).map_or(&[][..], Vec::as_slice);
        let order = order::order(&order::Inputs {
            policy: &policy,
            importer: &self.own,
            properties: &self.properties,
            parties: &parties,
            pins,
        });
        Ordered { order, policies: bound.iter().map(ToString::to_string).collect(), policy, own_cap }
    }

    fn own_party(&self, defined: Option<&Draft>, endpoints: &Endpoints) -> Option<Party> {
        let draft = defined.filter(|draft| !draft.selector.is_empty() || !endpoints.local.is_empty())?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Party {
            name: self.own.clone(),
            properties: self.properties.clone(),
            rtt_us: 0,
            healthy: count(endpoints.local.iter().filter(|one| one.state.is_usable()).count()),
            total: count(endpoints.local.len()),
            capacity: draft.capacity,
        })
    }
}

fn path(policy: &Written) -> String {
    format!("{}/{}", policy.namespace, policy.name)
}

/// A policy of the own cluster as [`Ordered::policies`] names it.
pub(super) fn named(policy: &Object, own: &ClusterName) -> String {
    format!("{}/{} of {own}", policy.metadata.namespace, policy.metadata.name)
}

/// Own policies: what is in force of objects has no faults.
fn own_policies(inputs: &Inputs<'_>) -> Vec<(ClusterName, Arc<Written>)> {
    let mut written = vec![];
    for (_, object) in &inputs.objects {
        let Body::FailoverPolicy(spec) = &object.body else { continue };
        let metadata = &object.metadata;
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let born = inputs.born.get(&format!("{namespace}/{name}")).copied();
        let created_ms = metadata.created_ms.or(born).unwrap_or_default();
        let policy = Written { namespace, name, created_ms, spec: spec.as_ref().clone() };
        written.push((inputs.setting.cluster.clone(), Arc::new(policy)));
    }
    written
}

fn party(inputs: &Inputs<'_>, endpoints: &Endpoints, (name, export): &(ClusterName, &Export)) -> Party {
    let groups = endpoints.remote.get(name).map_or(&[][..], Vec::as_slice);
    let sum = |count: fn(&crate::model::Group) -> u32| groups.iter().map(count).fold(0, u32::saturating_add);
    let other = inputs.others.get(name);
    let card = other.into_iter().flat_map(|other| &other.contents).find_map(|content| content.card());
    let none = BTreeMap::new();
    let (region, said) = card.map_or(("", &none), |card| (card.region.as_str(), &card.properties));
    Party {
        name: name.clone(),
        properties: properties(name, region, said),
        rtt_us: other.map_or(0, |other| other.rtt_us),
        healthy: sum(|group| group.usable),
        total: sum(|group| group.total),
        capacity: export.capacity,
    }
}
