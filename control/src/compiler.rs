//! From control's inputs to those of `isthmus_core::compile`, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use isthmus_core::{
    compile::{self, Finding, Inputs, Ordered, Other, Workload, finding::Kind},
    model::{Resource, Service},
    name::{ClusterName, ServiceName},
    plan,
    resource::{Body, Object, ObjectError, parse_documents},
    statement::Content,
};
use isthmus_kubernetes::Facts;

use crate::{
    decider::Verdict,
    heard::World,
    registry::{Registered, pods},
    sources::{Sources, book::Fault},
};

/// Objects of a file.
pub type Objects = Vec<Object>;

/// Address indexes of services: those given once stay.
pub type Indexes = BTreeMap<ServiceName, u16>;

/// The own cluster.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What is compiled.
    pub core: compile::Setting,
    /// The workload whose service addresses DNS answers with.
    pub dns_for: Option<IpAddr>,
}

impl Deref for Setting {
    type Target = compile::Setting;
    fn deref(&self) -> &compile::Setting {
        &self.core
    }
}

impl Setting {
    /// The address the cluster's DNS answers with for a service.
    #[must_use]
    pub fn service_address(&self, service: &Service) -> Option<Ipv4Addr> {
        plan::service_address(self.dns_for?, service.address_index?)
    }
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// Of which telling of the sources.
    pub revision: u64,
    /// For the feed.
    pub resources: Vec<Resource>,
    /// For the other clusters.
    pub contents: Vec<Content>,
    /// Parts of objects that are not honoured.
    pub faults: Vec<Fault>,
    /// Address indexes given.
    pub indexes: Indexes,
    /// The tiers of each service.
    pub orders: BTreeMap<ServiceName, Ordered>,
    /// Whether it knows nothing of other clusters yet.
    pub partial: bool,
    /// How long a dead cluster's endpoints are kept, where the own cluster says so.
    pub stale_after: Option<Duration>,
}

impl Compiled {
    /// The services in it.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.resources.iter().filter_map(|resource| match resource {
            Resource::Service(service) => Some(service),
            _ => None,
        })
    }
}

impl Compiled {
    /// Services that have endpoints in the own cluster.
    #[must_use]
    pub fn with_local(&self) -> BTreeSet<&ServiceName> {
        let local = self.resources.iter().filter_map(|resource| match resource {
            Resource::Endpoints(endpoints) if !endpoints.local.is_empty() => Some(&endpoints.service),
            _ => None,
        });
        local.collect()
    }
}

/// All objects of a file, or why the file is refused: one bad document refuses its file, and no other.
///
/// # Errors
/// Every fault there is, not only the first.
pub fn parse(file: &str, text: &str) -> Result<Objects, Vec<Fault>> {
    let (mut objects, mut faults) = (vec![], vec![]);
    for document in parse_documents(file, text) {
        match document {
            Ok(object) => objects.push(object),
            Err(errors) => faults.extend(errors.into_iter().map(fault)),
        }
    }
    if faults.is_empty() { Ok(objects) } else { Err(faults) }
}

/// What is compiled.
pub struct Input<'a> {
    /// The own cluster.
    pub setting: &'a Setting,
    /// What the sources have in force.
    pub sources: &'a Sources,
    /// Workloads as they stand.
    pub registered: &'a [Registered],
    /// What the other clusters say.
    pub world: &'a World,
    /// What was decided of them.
    pub verdicts: &'a BTreeMap<ClusterName, Verdict>,
    /// Address indexes given before.
    pub indexes: &'a Indexes,
    /// When own policies were read first, Unix milliseconds, by `namespace/name`.
    pub born: &'a BTreeMap<String, u64>,
    /// Clusters that services are pinned to.
    pub pins: &'a BTreeMap<ServiceName, Vec<ClusterName>>,
}

/// `namespace/name` of each failover policy of the own cluster.
pub fn policies(sources: &Sources) -> impl Iterator<Item = String> {
    let objects = sources.in_force.values().flat_map(|objects| objects.iter());
    let policies = objects.filter(|object| matches!(object.body, Body::FailoverPolicy(_)));
    policies.map(|object| format!("{}/{}", object.metadata.namespace, object.metadata.name))
}

/// Compiles.
#[must_use]
pub fn compile(input: &Input<'_>) -> Compiled {
    let files = input.sources.in_force.iter();
    let objects = files.flat_map(|(file, objects)| objects.iter().map(move |object| (file.as_str(), object)));
    let workloads: Vec<_> = input.registered.iter().map(|one| workload(one, input.sources.facts.as_deref())).collect();
    let others = others(input.world, input.verdicts);
    let compiled = compile::compile(&Inputs {
        setting: &input.setting.core,
        objects: objects.collect(),
        workloads: &workloads,
        others: &others,
        indexes: input.indexes,
        operators: &input.world.operators,
        born: input.born,
        pins: input.pins,
    });
    Compiled {
        revision: input.sources.revision,
        resources: compiled.resources.into_values().collect(),
        contents: compiled.contents,
        faults: compiled.findings.into_iter().map(finding).collect(),
        indexes: compiled.indexes,
        orders: compiled.orders,
        partial: false,
        stale_after: compiled.stale_after,
    }
}

fn workload(registered: &Registered, facts: Option<&Facts>) -> Workload {
    let pod = facts.and_then(|facts| pods::pod(registered, &facts.workloads));
    Workload {
        id: registered.workload.clone(),
        identity: registered.identity.clone(),
        labels: registered.labels.clone(),
        address: registered.inbound,
        locality: registered.locality.clone(),
        state: registered.state,
        weight: registered.weight,
        ports: pod.map(|pod| pod.ports.clone()).unwrap_or_default(),
    }
}

fn others(world: &World, verdicts: &BTreeMap<ClusterName, Verdict>) -> BTreeMap<ClusterName, Other> {
    let other = |(name, member): (&ClusterName, &crate::heard::Member)| {
        let verdict = verdicts.get(name).copied().unwrap_or_default();
        let contents: Vec<Arc<Content>> =
            world.contents.get(name).map(|said| said.values().cloned().collect()).unwrap_or_default();
        let other = Other {
            trust_domain: member.trust_domain.clone(),
            roots: member.roots.iter().map(|root| STANDARD.encode(root)).collect(),
            contents,
            share: verdict.share,
            standing: verdict.standing,
            rtt_us: verdict.rtt_us,
            stale: verdict.stale,
        };
        (name.clone(), other)
    };
    world.members.iter().map(other).collect()
}

fn fault(error: ObjectError) -> Fault {
    let ObjectError { file, line, field, reason } = error;
    Fault { file, line, field, kind: Kind::Invalid, reason }
}

fn finding(finding: Finding) -> Fault {
    let Finding { file, line, field, kind, reason } = finding;
    Fault { file, line, field, kind, reason }
}
