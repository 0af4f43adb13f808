//! The other clusters, as far as they are believed.

use std::{collections::BTreeMap, sync::Arc};

use isthmus_core::{
    consent,
    name::{ClusterName, TrustDomain},
    statement::Content,
};
use serde::{Deserialize, Serialize};

/// A cluster's place in the federation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// Roots at its joining, DER.
    pub roots: Vec<Vec<u8>>,
    /// Its federation key.
    pub key: Vec<u8>,
    /// Where its member is reached.
    pub addresses: Vec<String>,
    /// Whether others let it decide for them.
    pub operator: bool,
}

/// What the other clusters say now; ejected ones and the own one left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// By cluster.
    pub members: BTreeMap<ClusterName, Member>,
    /// Who operates the mesh, the own cluster too where it does.
    pub operators: Vec<ClusterName>,
    /// What each says, by key.
    pub contents: BTreeMap<ClusterName, BTreeMap<String, Arc<Content>>>,
}

impl World {
    /// Whose policies and verbs bind another cluster, itself first.
    #[must_use]
    pub fn bound_by(&self, cluster: &ClusterName) -> Vec<ClusterName> {
        let said = self.contents.get(cluster).into_iter().flat_map(|contents| contents.values());
        consent::binding(cluster, consent::listed(said.map(AsRef::as_ref)), &self.operators)
    }
}
