//! What the operator sets for all pods of a cluster: the section `injection` of `mesh.yaml`.

use std::collections::BTreeSet;

use isthmus_core::name::{ClusterName, MeshDomain, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::{image::is_image, resources::Resources, traffic::Traffic};

/// The revision that answers when nobody names one, as Istio's `default` tag.
pub const DEFAULT_REVISION: &str = "default";

/// The values. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Values {
    /// The image of the sidecar and of the capture.
    #[serde(default = "image")]
    pub image: String,
    /// When nodes fetch it.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// The mesh's domain.
    pub mesh: MeshDomain,
    /// The cluster.
    pub cluster: ClusterName,
    /// The trust domain of its workloads; none: `<cluster>.<mesh>`.
    #[serde(default)]
    pub trust_domain: Option<TrustDomain>,
    /// Where sidecars reach control, `host:port`.
    #[serde(default = "control_address")]
    pub control_address: String,
    /// What the sidecar may use, where a pod's annotations do not say.
    #[serde(default)]
    pub resources: Resources,
    /// What happens to a pod about which neither it nor its namespace says anything.
    #[serde(default)]
    pub policy: Policy,
    /// The revision that this control plane is. Only `default` answers for those who name none.
    #[serde(default = "revision")]
    pub revision: String,
    /// Namespaces whose pods never get a sidecar, beside Kubernetes' own.
    #[serde(default)]
    pub excluded_namespaces: BTreeSet<String>,
    /// Settings of the sidecar that a pod's annotations may override.
    #[serde(default)]
    pub proxy: Proxy,
}

/// When a node fetches an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// When it is not there. A release's image never changes, so there is no reason to ask again.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

/// What happens when nobody says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// No sidecar, as in Istio: a mesh is chosen, it does not happen to people.
    #[default]
    Disabled,
    /// A sidecar, as with Istio's `enableNamespacesByDefault`.
    Enabled,
}

/// Settings of the sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Proxy {
    /// Whether the application's containers wait until the sidecar is ready. Without, an application that calls
    /// somebody in its first second fails.
    pub hold_application_until_proxy_starts: bool,
    /// Its worker threads; none: the sidecar's own default.
    pub concurrency: Option<u16>,
    /// Whether the kubelet's probes are asked through the sidecar. Without, a strict policy refuses the kubelet.
    #[serde(rename = "rewriteAppHTTPProbers")]
    pub rewrite_probes: bool,
    /// What is captured.
    pub traffic: Traffic,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            hold_application_until_proxy_starts: true,
            concurrency: None,
            rewrite_probes: true,
            traffic: Traffic::default(),
        }
    }
}

/// Why values are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ValuesError {
    /// The field as a path.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The part of `mesh.yaml` that is read here. The other sections belong to others.
#[derive(Deserialize)]
struct Mesh {
    injection: Values,
}

impl Values {
    /// Reads the section `injection` of a `mesh.yaml`.
    ///
    /// # Errors
    /// [`ValuesError`] with the field and the reason.
    pub fn from_mesh_yaml(text: &str) -> Result<Self, ValuesError> {
        let mut field = String::new();
        let options = serde_saphyr::options! { strict_booleans: true };
        let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            serde_path_to_error::deserialize::<_, Mesh>(deserializer).map_err(|error| {
                field = error.path().to_string();
                error.into_inner()
            })
        });
        match parsed {
            Ok(mesh) => mesh.injection.checked(),
            // Of a map whose keys are words of ours the path ends in the map; the line says the rest.
            Err(error) => Err(ValuesError {
                field: if field == "." { "mesh.yaml".into() } else { field.trim_end_matches(".?").to_owned() },
                reason: error.without_snippet().to_string(),
            }),
        }
    }

    /// Values of which only the names must be given.
    #[must_use]
    pub fn new(mesh: MeshDomain, cluster: ClusterName) -> Self {
        Self {
            image: image(),
            image_pull_policy: PullPolicy::default(),
            mesh,
            cluster,
            trust_domain: None,
            control_address: control_address(),
            resources: Resources::default(),
            policy: Policy::default(),
            revision: revision(),
            excluded_namespaces: BTreeSet::new(),
            proxy: Proxy::default(),
        }
    }

    /// The trust domain of the cluster's workloads.
    #[must_use]
    pub fn trust_domain(&self) -> TrustDomain {
        self.trust_domain.clone().unwrap_or_else(|| self.cluster.trust_domain(&self.mesh))
    }

    /// What serde cannot see.
    fn checked(self) -> Result<Self, ValuesError> {
        let wrong = |field: &str, reason: String| Err(ValuesError { field: format!("injection.{field}"), reason });
        if !is_image(&self.image) {
            return wrong("image", format!("{:?} is no image; write registry/name:tag", self.image));
        }
        if self.proxy.concurrency == Some(0) {
            return wrong("proxy.concurrency", "0 workers carry nothing; write 1 or more".into());
        }
        if let Some((resource, request, limit)) = self.resources.contradiction() {
            let reason = format!("the request {request} of {resource} is more than the limit {limit}");
            return wrong("resources", reason);
        }
        Ok(self)
    }
}

fn image() -> String {
    concat!("localhost/isthmus:", env!("CARGO_PKG_VERSION")).into()
}

fn control_address() -> String {
    "isthmus-control.isthmus-system.svc:15012".into()
}

fn revision() -> String {
    DEFAULT_REVISION.into()
}
