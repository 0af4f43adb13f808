//! The kinds that are read, and what each needs to be there.

use isthmus_core::resource::slice;
use kube::{api::ApiResource, core::GroupVersionKind};
use serde::{Deserialize, Serialize};

/// A kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `v1` Namespace.
    Namespace,
    /// `v1` Pod.
    Pod,
    /// `v1` Node.
    Node,
    /// `discovery.k8s.io` EndpointSlice, but for those that follow from selectors.
    EndpointSlice,
    /// `multicluster.x-k8s.io` ServiceExport.
    ServiceExport,
    /// `networking.istio.io` VirtualService.
    VirtualService,
    /// `networking.istio.io` DestinationRule.
    DestinationRule,
    /// `isthmus.dev` MeshCluster.
    MeshCluster,
    /// `isthmus.dev` FailoverPolicy.
    FailoverPolicy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Service,
        Self::Namespace,
        Self::Pod,
        Self::Node,
        Self::EndpointSlice,
        Self::ServiceExport,
        Self::VirtualService,
        Self::DestinationRule,
        Self::MeshCluster,
        Self::FailoverPolicy,
    ];

    /// As objects have it in `kind`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::Node => "Node",
            Self::EndpointSlice => "EndpointSlice",
            Self::ServiceExport => "ServiceExport",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::MeshCluster => "MeshCluster",
            Self::FailoverPolicy => "FailoverPolicy",
        }
    }

    /// Its API group; empty: the core one.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::Service | Self::Namespace | Self::Pod | Self::Node => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::ServiceExport => "multicluster.x-k8s.io",
            Self::VirtualService | Self::DestinationRule => "networking.istio.io",
            Self::MeshCluster | Self::FailoverPolicy => "isthmus.dev",
        }
    }

    /// As paths of the API have it.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
            Self::Node => "nodes",
            Self::EndpointSlice => "endpointslices",
            Self::ServiceExport => "serviceexports",
            Self::VirtualService => "virtualservices",
            Self::DestinationRule => "destinationrules",
            Self::MeshCluster => "meshclusters",
            Self::FailoverPolicy => "failoverpolicies",
        }
    }

    /// The CustomResourceDefinition that it needs; `None`: every API server has it.
    #[must_use]
    pub fn definition(self) -> Option<String> {
        let is_kubernetes_own = self.group().is_empty() || self == Self::EndpointSlice;
        (!is_kubernetes_own).then(|| format!("{}.{}", self.plural(), self.group()))
    }

    /// Labels of the objects that are asked for; `None`: of all. Most slices are of Services with a selector, and those say
    /// nothing that pods do not: they never arrive.
    #[must_use]
    pub fn selector(self) -> Option<String> {
        (self == Self::EndpointSlice).then(|| format!("{}!={}", slice::WRITER, slice::OF_SELECTORS))
    }

    /// Whether its objects are read as files are; else they only say something of workloads.
    #[must_use]
    pub fn is_document(self) -> bool {
        !matches!(self, Self::Pod | Self::Node)
    }

    /// Whether the mesh says in its status how it stands: of its own kinds, MCS' and Istio's.
    #[must_use]
    pub fn has_status(self) -> bool {
        matches!(
            self,
            Self::ServiceExport
                | Self::VirtualService
                | Self::DestinationRule
                | Self::MeshCluster
                | Self::FailoverPolicy
        )
    }

    /// Whether the mesh tells people what is wrong with one: in its status, and else by Events alone.
    #[must_use]
    pub fn is_judged(self) -> bool {
        self.has_status() || matches!(self, Self::Service | Self::Namespace)
    }

    /// How the API server is asked for it.
    #[must_use]
    pub(crate) fn resource(self, version: &str) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group(), version, self.word());
        ApiResource::from_gvk_with_plural(&kind, self.plural())
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_not_kubernetes_own_names_its_definition() {
        assert_eq!((Kind::Pod.definition(), Kind::EndpointSlice.definition()), (None, None));
        assert_eq!(Kind::EndpointSlice.resource("v1").api_version, "discovery.k8s.io/v1");
        assert_eq!(Kind::VirtualService.definition().unwrap(), "virtualservices.networking.istio.io");
        assert_eq!(Kind::MeshCluster.resource("v1alpha1").api_version, "isthmus.dev/v1alpha1");
        assert_eq!(Kind::Service.resource("v1").api_version, "v1");
    }
}
