//! Asks a cluster what is in it, and applies objects to it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use isthmus_kubernetes::{
    client::SYSTEM_NAMESPACE,
    objects::{Change, Objects},
    reference::{ObjectKind, Reference},
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    base::{DEFINITION, Object},
    progress::Progress,
    release::{self, Installed, MANAGER},
};
use crate::{
    reach::Reach,
    rollout::{self, Seen, list, text},
};

/// How often it is asked how far things are.
pub const LOOK: Duration = Duration::from_millis(500);
/// Definitions are taken up in moments; one that is not contradicts another one.
const DEFINED: Duration = Duration::from_secs(60);
/// Everything of the mesh.
pub const OURS: &str = "app.kubernetes.io/part-of=isthmus";

/// Kinds that releases had objects of, apart from definitions, each with whether its objects are in our namespace.
const KINDS: [(&str, &str, bool); 15] = [
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", false),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", false),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", false),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", false),
    ("apps/v1", "Deployment", true),
    ("apps/v1", "StatefulSet", true),
    ("policy/v1", "PodDisruptionBudget", true),
    ("networking.k8s.io/v1", "NetworkPolicy", true),
    ("v1", "Service", true),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", true),
    ("rbac.authorization.k8s.io/v1", "Role", true),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", false),
    ("v1", "ServiceAccount", true),
    ("v1", "ConfigMap", true),
];

/// A cluster that something is installed into.
pub struct Cluster {
    /// All that is in it.
    pub objects: Objects,
}

impl Cluster {
    /// The one of the only context.
    ///
    /// # Errors
    /// When no cluster of Kubernetes is meant, or several are.
    pub async fn of(reach: &Reach) -> Result<Self> {
        let Reach::Kubernetes(kubernetes) = reach else {
            bail!("this is done in a cluster of Kubernetes; name it with --context, or with --kubeconfig")
        };
        Ok(Self { objects: Objects::new(kubernetes.only().await?, MANAGER) })
    }

    /// What is installed in it.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn installed(&self) -> Result<Installed> {
        Installed::of(self.objects.find(&release::map()).await?.as_ref())
    }

    async fn namespace(&self) -> Result<Option<Value>> {
        Ok(self.objects.find(&Reference::cluster("v1", "Namespace", SYSTEM_NAMESPACE)).await?)
    }

    /// Whether the namespace is ours: nobody made it before, or we did.
    pub async fn makes_namespace(&self) -> Result<bool> {
        let found = self.namespace().await?;
        Ok(found.is_none_or(|found| managed_by(&found) == MANAGER))
    }

    /// Applies objects in their order; definitions are waited for before anything else comes.
    pub async fn apply(&self, objects: &[Object], progress: &Progress, dry: bool) -> Result<()> {
        // The API server tries nothing in a namespace that is not there.
        let untried = dry && self.namespace().await?.is_none();
        for Object { reference, document } in objects {
            let change = if untried && reference.namespace.is_some() {
                Change::Created
            } else {
                self.objects.apply(reference, document, dry).await?
            };
            if !dry && reference.kind.kind == DEFINITION {
                self.established(reference).await?;
            }
            progress.step(word(change), reference);
        }
        Ok(())
    }

    /// Waits until the API server serves a definition's kind.
    async fn established(&self, definition: &Reference) -> Result<()> {
        let established = async {
            loop {
                let found = self.objects.find(definition).await?;
                if found.as_ref().is_some_and(|found| is(found, "Established")) {
                    return Ok(());
                }
                sleep(LOOK).await;
            }
        };
        let late = || format!("{definition} is not taken up; `kubectl describe crd {}` says why", definition.name);
        timeout(DEFINED, established).await.with_context(late)?
    }

    /// All of ours that is labelled so, but for definitions.
    pub async fn listed(&self, selector: &str) -> Result<Vec<(Reference, Value)>> {
        let mut all = vec![];
        for (version, kind, ours) in KINDS {
            let namespace = ours.then_some(SYSTEM_NAMESPACE);
            let found = self.objects.list(&ObjectKind::new(version, kind), namespace, selector).await?;
            all.extend(found.into_iter().filter_map(|object| Some((Reference::of(&object)?, object))));
        }
        Ok(all)
    }

    /// Deletes what an older release applied and this one does not have. Definitions stay: objects of people would go too.
    pub async fn prune(&self, objects: &[Object], progress: &Progress, dry: bool) -> Result<()> {
        let selector = format!("{OURS},app.kubernetes.io/managed-by={MANAGER}");
        for (found, _) in self.listed(&selector).await? {
            if !objects.iter().any(|object| object.reference == found) {
                self.objects.delete(&found, dry).await?;
                progress.step("deleted", format_args!("{found}, which this release does not have"));
            }
        }
        Ok(())
    }

    /// What the cluster shows of our workloads.
    pub async fn seen(&self) -> Result<Seen> {
        let ours = |version: &'static str, kind: &'static str| async move {
            self.objects
                .list(&ObjectKind::new(version, kind), Some(SYSTEM_NAMESPACE), "app.kubernetes.io/name=isthmus")
                .await
        };
        let mut workloads = ours("apps/v1", "Deployment").await?;
        workloads.extend(ours("apps/v1", "StatefulSet").await?);
        let (pods, claims) = (ours("v1", "Pod").await?, ours("v1", "PersistentVolumeClaim").await?);
        Ok(Seen { workloads, pods, claims })
    }

    /// Waits until all of it runs.
    ///
    /// # Errors
    /// What is missing when the time is over.
    pub async fn wait(&self, progress: &mut Progress, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let seen = self.seen().await?;
            let missing: Vec<_> = seen.workloads.iter().filter_map(|one| rollout::missing(one, &seen)).collect();
            if missing.is_empty() {
                seen.workloads.iter().for_each(|one| progress.step("runs", rollout::named(one)));
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "after {} s: {}; it may still come, `isthmus check` says more",
                    limit.as_secs(),
                    missing.join("; ")
                );
            }
            progress.waiting(missing);
            sleep(LOOK).await;
        }
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Configured => "configured",
        Change::Unchanged => "unchanged",
    }
}

/// Who applied an object, as its label says.
pub fn managed_by(object: &Value) -> &str {
    text(object, "/metadata/labels/app.kubernetes.io~1managed-by")
}

/// Whether a condition of an object is true.
pub fn is(object: &Value, condition: &str) -> bool {
    list(object, "/status/conditions")
        .iter()
        .any(|one| text(one, "/type") == condition && text(one, "/status") == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::base;

    #[test]
    fn every_kind_of_the_base_is_one_that_is_found_again() {
        for object in base::objects().unwrap() {
            let Reference { kind, namespace, .. } = &object.reference;
            let here = (kind.api_version.as_str(), kind.kind.as_str(), namespace.is_some());
            let known =
                KINDS.contains(&here) || ["Namespace", "CustomResourceDefinition"].contains(&kind.kind.as_str());
            assert!(known, "{}: uninstall would leave it", object.reference);
        }
    }
}
