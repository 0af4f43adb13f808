//! The YAML people bring: Kubernetes, MCS, Istio and our own kinds, as their published APIs have them.
//!
//! Every field of a kind is either honoured or refused with its path: unknown ones by the parser, known but
//! unsupported ones by [`Unsupported`]. A file is the unit: one bad document refuses its file, and no other.

pub mod duration;
pub mod istio;
pub mod kubernetes;
mod parse;
pub mod slice;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::failover::policy::FailoverPolicy;
pub use parse::{ObjectError, parse_documents, read_documents};

/// `metadata` of an object: the fields that mean something here; what servers add is let through unread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The object's name.
    pub name: String,
    /// Its namespace; none: `default`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// When an API server took it first (`creationTimestamp`), Unix milliseconds; files have none.
    #[serde(default, rename = "creationTimestamp", deserialize_with = "unix_ms", skip_serializing)]
    pub created_ms: Option<u64>,
}

/// RFC 3339; what is none says nothing.
fn unix_ms<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let written = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    let read = OffsetDateTime::parse(&written, &Rfc3339).ok();
    Ok(read.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()))
}

fn default_namespace() -> String {
    "default".into()
}

/// An object that this build understands, with where it stands in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The line its document begins at, from 1.
    pub line: u64,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its kind and what it says.
    pub body: Body,
}

/// The kinds.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// `v1` Service.
    Service(kubernetes::ServiceSpec),
    /// `v1` Namespace: its labels count.
    Namespace,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice(slice::EndpointSlice),
    /// `multicluster.x-k8s.io/v1alpha1` ServiceExport.
    ServiceExport(kubernetes::ServiceExportSpec),
    /// `networking.istio.io` VirtualService.
    VirtualService(istio::VirtualServiceSpec),
    /// `networking.istio.io` DestinationRule.
    DestinationRule(istio::DestinationRuleSpec),
    /// `isthmus.dev/v1alpha1` MeshCluster.
    MeshCluster(kubernetes::MeshClusterSpec),
    /// `isthmus.dev/v1alpha1` FailoverPolicy.
    FailoverPolicy(Box<FailoverPolicy>),
}

/// What stands in place of a field of a published API that this build does not honour: any value of it is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsupported;

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("this field is not supported by this release; remove it"))
    }
}
