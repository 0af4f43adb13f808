//! From what people wrote, workloads registered, clusters said and control decided, to one model.
//!
//! Pure and deterministic: equal inputs give equal outputs, byte for byte. A finding refuses the part of an object that
//! cannot be honoured (a route to an unknown subset) and says so; the rest of the object goes on.

mod capacity;
mod endpoints;
pub mod finding;
mod global;
mod orders;
mod overridden;
mod own;
mod references;
mod services;
mod slices;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

pub use self::{finding::Finding, orders::Ordered};
use crate::{
    model::{EndpointState, Mesh, Node, RemoteCluster, Resource, Standing, Trust},
    name::{ClusterName, EndpointId, Locality, MeshDomain, ServiceName, SpiffeId, TrustDomain},
    plan,
    resource::Object,
    statement::{Bundle, Card, Content, Export, Gateways, ImportRules, Summary},
};

/// The most groups of a service that are told to other clusters; the rest are merged.
pub const MOST_GROUPS: usize = 16;

/// The own cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The mesh.
    pub mesh: MeshDomain,
    /// The own cluster.
    pub cluster: ClusterName,
    /// Its region.
    pub region: String,
    /// Its zones.
    pub zones: Vec<String>,
    /// Where its nodes are, by name; a region that they do not tell is the cluster's.
    pub nodes: BTreeMap<String, Locality>,
    /// Its gateways as its sidecars reach them (15444).
    pub gateways: Vec<SocketAddr>,
    /// Its gateways as other clusters reach them (15443).
    pub advertise: Gateways,
    /// Its federation member (15050).
    pub member: Option<SocketAddr>,
    /// Its roots, DER in base64.
    pub roots: Vec<String>,
}

/// A workload as its sidecar registered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub id: EndpointId,
    /// Who it is; its namespace is the workload's.
    pub identity: SpiffeId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where its sidecar takes inner connections.
    pub address: SocketAddr,
    /// Where it is.
    pub locality: Locality,
    /// How it is.
    pub state: EndpointState,
    /// Relative weight.
    pub weight: u32,
    /// Its containers' ports by name, as far as they are known: Services may point to them.
    pub ports: BTreeMap<String, u16>,
}

/// Another cluster: what it says, verified, and what was decided of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Other {
    /// Its trust domain, fixed by its join entry.
    pub trust_domain: TrustDomain,
    /// Its roots at the time it joined, DER in base64.
    pub roots: Vec<String>,
    /// What it says now.
    pub contents: Vec<std::sync::Arc<Content>>,
    /// The part of its traffic it shall get.
    pub share: f64,
    /// How it stands.
    pub standing: Standing,
    /// Smoothed round trip, microseconds.
    pub rtt_us: u64,
    /// It is dead for so long that its endpoints count no more.
    pub stale: bool,
}

/// All inputs.
pub struct Inputs<'a> {
    /// The own cluster.
    pub setting: &'a Setting,
    /// Objects with the file each is from.
    pub objects: Vec<(&'a str, &'a Object)>,
    /// Registered workloads.
    pub workloads: &'a [Workload],
    /// Other clusters.
    pub others: &'a BTreeMap<ClusterName, Other>,
    /// Address indexes given before: they stay.
    pub indexes: &'a BTreeMap<ServiceName, u16>,
    /// Who operates the mesh.
    pub operators: &'a [ClusterName],
    /// When own policies were read first, Unix milliseconds, by `namespace/name`.
    pub born: &'a BTreeMap<String, u64>,
    /// Clusters that services are pinned to.
    pub pins: &'a BTreeMap<ServiceName, Vec<ClusterName>>,
}

/// What comes out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// For the feed, by key; without the lease, which is no product of compiling.
    pub resources: BTreeMap<String, Resource>,
    /// For the other clusters.
    pub contents: Vec<Content>,
    /// What could not be honoured.
    pub findings: Vec<Finding>,
    /// Address indexes given, to be handed in next time.
    pub indexes: BTreeMap<ServiceName, u16>,
    /// The tiers of each service, and the policy they are from.
    pub orders: BTreeMap<ServiceName, Ordered>,
    /// How long a dead cluster's endpoints are kept, where the own cluster says so.
    pub stale_after: Option<Duration>,
}

/// Compiles.
#[must_use]
pub fn compile(inputs: &Inputs<'_>) -> Compiled {
    let mut findings = vec![];
    let drafts = services::drafts(inputs, &mut findings);
    let indexes = services::indexes(drafts.keys(), inputs.indexes);
    let rules = own::import_rules(inputs);
    let mut resources = vec![Resource::Mesh(mesh(inputs.setting)), Resource::Trust(trust(inputs))];
    resources.extend(inputs.others.iter().map(|(name, other)| Resource::Cluster(remote(name, other))));
    resources.extend(nodes(inputs.setting).map(Resource::Node));
    let mut contents = own::standing_contents(inputs, rules.clone());
    let policies = orders::Policies::of(inputs);
    contents.extend(policies.own().map(|policy| Content::FailoverPolicy(Box::new(policy))));
    let mut orders = BTreeMap::new();
    let imported = imported(inputs, &rules);
    let names: BTreeSet<ServiceName> = drafts.keys().chain(&imported).cloned().collect();
    let slices = slices::of(inputs);
    let indexes = services::indexes(names.iter(), &indexes);
    let exported = drafts.iter().filter(|(_, draft)| draft.exported.is_some()).map(|(name, _)| name);
    let in_set = plan::set_addresses(imported.iter().chain(exported));
    for name in &names {
        let endpoints = endpoints::of(inputs, (name, drafts.get(name)), &rules, &slices);
        endpoints::unnamed(drafts.get(name), &endpoints.local, &mut findings);
        let imports = endpoints::exports(inputs, name, &rules);
        if let Some(draft) = drafts.get(name).filter(|draft| draft.exported.is_some()) {
            contents.extend(own::export_contents(draft, &endpoints.local));
        }
        let addresses = (indexes.get(name).copied(), in_set.get(name).copied());
        let service = services::finish(name, drafts.get(name), &imports, addresses);
        orders.insert(name.clone(), policies.order(inputs, name, drafts.get(name), &endpoints, &imports));
        resources.push(Resource::Service(service));
        resources.push(Resource::Endpoints(endpoints));
    }
    references::Known::new(&drafts, &imported).all(inputs, &mut resources, &mut findings);
    capacity::unsaid(inputs, &drafts, &orders, &mut findings);
    overridden::found(inputs, &orders, &mut findings);
    findings.sort();
    // A VirtualService of several hosts has its routes at each.
    findings.dedup();
    let resources = resources.into_iter().map(|resource| (resource.key(), resource)).collect();
    Compiled { resources, contents, findings, indexes, orders, stale_after: own::stale_after(inputs) }
}

/// Services that other clusters offer to this one and that it accepts.
fn imported(inputs: &Inputs<'_>, rules: &ImportRules) -> BTreeSet<ServiceName> {
    let own = &inputs.setting.cluster;
    let taken = |name: &ClusterName, content: &Content| match content {
        Content::Export(Export { service, consumers, .. })
            if consumers.include(own) && rules.accept(service.namespace(), name) =>
        {
            Some(service.clone())
        }
        _ => None,
    };
    inputs
        .others
        .iter()
        .flat_map(|(name, other)| other.contents.iter().filter_map(move |content| taken(name, content)))
        .collect()
}

/// Nodes of which anything is known.
fn nodes(setting: &Setting) -> impl Iterator<Item = Node> + '_ {
    let region = |told: &String| if told.is_empty() { setting.region.clone() } else { told.clone() };
    let node = move |(name, told): (&String, &Locality)| Node {
        name: name.clone(),
        locality: Locality { region: region(&told.region), zone: told.zone.clone() },
    };
    setting.nodes.iter().map(node).filter(|node| node.locality != Locality::default())
}

fn mesh(setting: &Setting) -> Mesh {
    Mesh {
        domain: setting.mesh.clone(),
        cluster: setting.cluster.clone(),
        gateways: setting.gateways.clone(),
        member: setting.member,
    }
}

/// Roots of each domain: of another cluster its bundle, and what its join entry fixed until it says one.
fn trust(inputs: &Inputs<'_>) -> Trust {
    let own = inputs.setting;
    let mut roots = BTreeMap::from([(own.cluster.trust_domain(&own.mesh), own.roots.clone())]);
    for other in inputs.others.values() {
        let bundle = other.contents.iter().find_map(|content| match content.as_ref() {
            // A cluster speaks for its own trust domain and for no other.
            Content::Bundle(Bundle { trust_domain, roots })
                if *trust_domain == other.trust_domain && !roots.is_empty() =>
            {
                Some(roots.clone())
            }
            _ => None,
        });
        roots.entry(other.trust_domain.clone()).or_insert_with(|| bundle.unwrap_or_else(|| other.roots.clone()));
    }
    Trust { roots }
}

fn remote(name: &ClusterName, other: &Other) -> RemoteCluster {
    let card = other.contents.iter().find_map(|content| content.card());
    let Card { region, gateways, .. } = card.cloned().unwrap_or_default();
    RemoteCluster {
        name: name.clone(),
        region,
        trust_domain: other.trust_domain.clone(),
        gateways,
        share: other.share,
        standing: other.standing,
        rtt_us: other.rtt_us,
    }
}

/// Labels that tell pods of one revision, or of one node, apart, or that the mesh itself put there: they do not part
/// groups, and a zone has its own place in a group.
fn says_nothing(label: &str) -> bool {
    let of_revision = [
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
    ];
    of_revision.contains(&label)
        || label == "apps.kubernetes.io/pod-index"
        || label.starts_with("topology.kubernetes.io/")
        || label.starts_with("isthmus.dev/")
}

fn summaries_of<'a>(other: &'a Other, name: &'a ServiceName) -> impl Iterator<Item = &'a Summary> {
    other.contents.iter().filter_map(move |content| match content.as_ref() {
        Content::Summary(summary) if summary.service == *name => Some(summary),
        _ => None,
    })
}
