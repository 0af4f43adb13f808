//! placeholder
use crate::{
    decider::Verdict,
    heard::World,
    registry::Registered,
    sources::{Files, book::Fault},
};
use isthmus_core::{
    model::{Resource, Service},
    name::{ClusterName, MeshDomain},
    statement::Content,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};
/// Parsed.
pub type Objects = Vec<u8>;
/// Parse.
pub fn parse(_file: &str, _text: &str) -> Result<Objects, Vec<Fault>> {
    Ok(vec![])
}
/// Setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The mesh.
    pub mesh: MeshDomain,
    /// The own cluster.
    pub cluster: ClusterName,
    /// Its region.
    pub region: String,
    /// Its zones.
    pub zones: Vec<String>,
    /// For sidecars.
    pub gateways: Vec<SocketAddr>,
    /// For other clusters.
    pub advertise: Vec<String>,
    /// The own member.
    pub member: SocketAddr,
    /// Roots, base64.
    pub roots: Vec<String>,
    /// For whom DNS answers.
    pub dns_for: Option<IpAddr>,
}
impl Setting {
    /// Address.
    pub fn service_address(&self, _service: &Service) -> Option<IpAddr> {
        None
    }
}
/// Compiled.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// Resources.
    pub resources: Vec<Resource>,
    /// Contents.
    pub contents: Vec<Content>,
    /// Faults.
    pub faults: Vec<Fault>,
}
/// Compile.
pub fn compile(s: &Setting, _f: &Files, _r: &[Registered], w: &World, v: &BTreeMap<ClusterName, Verdict>) -> Compiled {
    let mut roots = BTreeMap::from([(s.cluster.trust_domain(&s.mesh), s.roots.clone())]);
    let mut resources = vec![Resource::Mesh(isthmus_core::model::Mesh {
        domain: s.mesh.clone(),
        cluster: s.cluster.clone(),
        gateways: s.gateways.clone(),
        member: Some(s.member),
    })];
    for (name, member) in &w.members {
        use base64::Engine;
        roots.insert(
            member.trust_domain.clone(),
            member.roots.iter().map(|r| base64::engine::general_purpose::STANDARD.encode(r)).collect(),
        );
        let verdict = v.get(name).copied().unwrap_or_default();
        resources.push(Resource::Cluster(isthmus_core::model::RemoteCluster {
            name: name.clone(),
            region: String::new(),
            trust_domain: member.trust_domain.clone(),
            gateways: member.addresses.clone(),
            share: verdict.share,
            standing: verdict.standing,
            rtt_us: verdict.rtt_us,
        }));
    }
    resources.push(Resource::Trust(isthmus_core::model::Trust { roots }));
    let contents = vec![Content::Card(isthmus_core::statement::Card {
        region: s.region.clone(),
        zones: s.zones.clone(),
        gateways: s.advertise.clone(),
    })];
    Compiled { resources, contents, faults: vec![] }
}
