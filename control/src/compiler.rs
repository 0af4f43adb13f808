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
pub fn compile(
    _s: &Setting,
    _f: &Files,
    _r: &[Registered],
    _w: &World,
    _v: &BTreeMap<ClusterName, Verdict>,
) -> Compiled {
    Compiled::default()
}
