//! Whom objects belong to that control writes into namespaces of others: its ClusterRole. Kubernetes deletes them when that is
//! gone, so an uninstall leaves none behind, whoever does it.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{Api, Client};
use serde_json::{Value, json};

/// The owner.
const OWNER: &str = "isthmus-control";

/// A reference to the owner; none where another hand installed the mesh.
pub(crate) async fn reference(client: &Client) -> Result<Option<Value>, kube::Error> {
    let found = Api::<ClusterRole>::all(client.clone()).get_metadata_opt(OWNER).await?;
    let uid = found.and_then(|role| role.metadata.uid);
    Ok(uid.map(
        |uid| json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": OWNER, "uid": uid }),
    ))
}
