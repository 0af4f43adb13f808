//! Whether a statement is its cluster's own, and what it says.

use isthmus_core::{
    name::{ClusterName, MeshDomain},
    statement::Content,
};
use isthmus_wire::{federation::SignedStatement, signing::verify_statement};

/// Why a statement is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The cluster's name is none.
    #[error(transparent)]
    Name(#[from] isthmus_core::name::InvalidName),
    /// It is said in another mesh.
    #[error("statement {key:?} of cluster {cluster:?} is said in mesh {mesh:?}, not in this one")]
    Mesh {
        /// Its key.
        key: String,
        /// Its cluster.
        cluster: String,
        /// Its mesh.
        mesh: String,
    },
    /// Nobody of that name is a member.
    #[error("statement {key:?} is said for cluster {cluster}, which is no member of this mesh (or was ejected)")]
    Stranger {
        /// Its key.
        key: String,
        /// Its cluster.
        cluster: ClusterName,
    },
    /// The signature does not fit.
    #[error(transparent)]
    Forged(#[from] isthmus_wire::signing::Forged),
    /// It is signed, and yet says nothing this build understands.
    #[error("statement {key:?} of cluster {cluster}: {reason}")]
    Malformed {
        /// Its key.
        key: String,
        /// Its cluster.
        cluster: ClusterName,
        /// What is wrong.
        reason: String,
    },
}

/// Verifies a statement against a key and reads it.
///
/// # Errors
/// [`NotTaken`], but never a stranger.
pub fn check(mesh: &MeshDomain, statement: &SignedStatement, key: &[u8]) -> Result<Content, NotTaken> {
    let cluster: ClusterName = statement.cluster.parse()?;
    if statement.mesh != mesh.as_str() {
        let (key, mesh) = (statement.key.clone(), statement.mesh.clone());
        return Err(NotTaken::Mesh { key, cluster: cluster.to_string(), mesh });
    }
    verify_statement(statement, key)?;
    let malformed =
        |reason: String| NotTaken::Malformed { key: statement.key.clone(), cluster: cluster.clone(), reason };
    let content: Content = serde_json::from_slice(&statement.content).map_err(|error| malformed(error.to_string()))?;
    if content.key() != statement.key {
        return Err(malformed(format!("it says {:?}", content.key())));
    }
    if let Content::Bundle(bundle) = &content
        && bundle.trust_domain != cluster.trust_domain(mesh)
    {
        return Err(malformed(format!("it gives roots for {}, a trust domain of another", bundle.trust_domain)));
    }
    Ok(content)
}
