//! Asks the API server, and the mesh through it. What cannot be asked is a finding, and the rest goes on.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use futures_util::future::join_all;
use isthmus_kubernetes::{
    objects::{ObjectError, Objects},
    reference::{ObjectKind, Reference},
    roots,
};
use isthmus_scenarios::admin;
use serde_json::{Value, json};

use super::{
    certificates::{Certificates, SIDECARS, Told},
    clock::{self, Clock},
    finding::Finding,
    ground::{self, Ground},
    mesh::Mesh,
    pods::{self, Tried},
};
use crate::{
    args::{Member, Place},
    install::{base, cluster::Cluster, release},
    listing::rows,
    reach::Reach,
    rollout::{self, Seen, text},
};

/// All that verdicts are made of.
#[derive(Debug, Default)]
pub struct Facts {
    /// What could not be asked.
    pub failed: Vec<Finding>,
    /// Whether it is known that the mesh is installed, or that it is not.
    pub is_known: bool,
    /// The cluster.
    pub ground: Ground,
    /// Its clocks.
    pub clock: Clock,
    /// The mesh, where it is installed.
    pub installed: Option<Installed>,
}

/// The mesh as it is installed.
#[derive(Debug, Default)]
pub struct Installed {
    /// ConfigMap `isthmus`.
    pub map: Value,
    /// Its workloads, their pods and disks.
    pub seen: Seen,
    /// Services of all namespaces.
    pub services: Vec<Value>,
    /// ConfigMaps of roots, of all namespaces.
    pub roots: Vec<Value>,
    /// Namespaces.
    pub namespaces: Vec<Value>,
    /// Pods of all namespaces.
    pub pods: Vec<Value>,
    /// Configurations of our webhooks.
    pub webhooks: Vec<Value>,
    /// What became of a pod that was tried.
    pub tried: Tried,
    /// What it says of itself.
    pub mesh: Mesh,
    /// What it lives by.
    pub certificates: Certificates,
}

/// One who asks, and remembers what could not be asked.
struct Asking<'a> {
    objects: &'a Objects,
    failed: Vec<Finding>,
    forbidden: Vec<String>,
}

impl Asking<'_> {
    /// What was answered, or nothing and a finding.
    fn heard<T>(&mut self, what: &str, answer: Result<T>) -> Option<T> {
        let error = match answer {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        match error.downcast_ref::<ObjectError>() {
            Some(ObjectError { code: Some(403), what, .. }) => self.forbidden.push(what.clone()),
            Some(refused) => {
                let why = format!("{} cannot be {}: {}", refused.what, refused.doing, refused.said);
                self.failed.push(Finding::error(what, why).remedy(&refused.remedy));
            }
            None => {
                let why = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
                let remedy = "`kubectl -n isthmus-system get pods`, and their logs, say more";
                self.failed.push(Finding::error(what, why).remedy(remedy));
            }
        }
        None
    }

    async fn list(&mut self, version: &str, kind: &str, namespace: Option<&str>, selector: &str) -> Option<Vec<Value>> {
        let listed = self.objects.list(&ObjectKind::new(version, kind), namespace, selector).await;
        self.heard(kind, listed.map_err(Into::into))
    }

    /// All that could not be asked.
    fn ended(self) -> Vec<Finding> {
        let mut failed = self.failed;
        if !self.forbidden.is_empty() {
            let why = format!("you may not read {}, so that was not looked at", self.forbidden.join(", "));
            failed
                .push(Finding::warning("Reading", why).remedy("run this as somebody who may read all of the cluster"));
        }
        failed
    }
}

/// Asks everything.
///
/// # Errors
/// When no cluster of Kubernetes is meant, or its API server does not answer at all.
pub async fn facts(reach: &Reach) -> Result<Facts> {
    let cluster = Cluster::of(reach).await?;
    let about = cluster.objects.about().await?;
    let map = cluster.objects.find(&release::map()).await;
    let mut asking = Asking { objects: &cluster.objects, failed: vec![], forbidden: vec![] };
    let map = asking.heard("Installation", map.map_err(Into::into));
    let is_known = map.is_some();
    let map = map.flatten();
    let here = clock::seconds(about.between.0).midpoint(clock::seconds(about.between.1));
    let server = about.date.as_deref().and_then(clock::of_header);
    let leases = asking.list("coordination.k8s.io/v1", "Lease", Some("kube-node-lease"), "").await.unwrap_or_default();
    let mut ground = ground(&mut asking).await;
    (ground.version, ground.is_installed) = (about.version, map.is_some());
    let installed = match map {
        None => None,
        Some(map) => Some(installed(reach, &cluster, &mut asking, map, &ground).await),
    };
    Ok(Facts { failed: asking.ended(), is_known, ground, clock: Clock { server, here, leases }, installed })
}

async fn ground(asking: &mut Asking<'_>) -> Ground {
    let denied = denied(asking.objects).await;
    Ground {
        denied: asking.heard("Permissions", denied).unwrap_or_default(),
        nodes: asking.list("v1", "Node", None, "").await,
        classes: asking.list("storage.k8s.io/v1", "StorageClass", None, "").await,
        volumes: asking.list("v1", "PersistentVolume", None, "").await,
        services: asking.list("v1", "Service", None, "").await,
        pods: asking.list("v1", "Pod", None, "").await,
        webhooks: asking.list("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None, "").await,
        definitions: asking.list("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "").await,
        ..Ground::default()
    }
}

/// What an installation needs and the user may not do.
async fn denied(objects: &Objects) -> Result<Vec<(&'static str, String)>> {
    if may(objects, "*", "*", "*", None).await? {
        return Ok(vec![]);
    }
    let mut needed: Vec<_> = base::objects()?
        .into_iter()
        .flat_map(|object| {
            let Reference { kind, namespace, .. } = object.reference;
            let group = kind.group().to_owned();
            let with = |(verb, plural)| (verb, plural, group.clone(), namespace.clone());
            ground::needed(&kind).map(with).collect::<Vec<_>>()
        })
        .collect();
    needed.sort();
    needed.dedup();
    let asked = needed.iter().map(async |(verb, plural, group, namespace)| {
        let may = may(objects, verb, plural, group, namespace.as_deref()).await?;
        Ok::<_, anyhow::Error>((!may).then(|| (*verb, plural.clone())))
    });
    let answers: Result<Vec<_>> = join_all(asked).await.into_iter().collect();
    Ok(answers?.into_iter().flatten().collect())
}

async fn may(objects: &Objects, verb: &str, plural: &str, group: &str, namespace: Option<&str>) -> Result<bool> {
    let review = Reference::cluster("authorization.k8s.io/v1", "SelfSubjectAccessReview", "");
    let attributes = json!({ "verb": verb, "resource": plural, "group": group, "namespace": namespace });
    let document = json!({
        "apiVersion": review.kind.api_version, "kind": review.kind.kind, "metadata": {},
        "spec": { "resourceAttributes": attributes },
    });
    let answer = objects.create(&review, &document, false).await.context("whether you may is not said")?;
    Ok(answer.pointer("/status/allowed").and_then(Value::as_bool) == Some(true))
}

async fn installed(
    reach: &Reach,
    cluster: &Cluster,
    asking: &mut Asking<'_>,
    map: Value,
    ground: &Ground,
) -> Installed {
    let seen = asking.heard("Workloads", cluster.seen().await).unwrap_or_default();
    let namespaces = asking.list("v1", "Namespace", None, "").await.unwrap_or_default();
    let ours = |one: &&Value| text(one, "/metadata/name") == "isthmus-injection";
    let mut webhooks: Vec<_> = ground.webhooks.iter().flatten().filter(ours).cloned().collect();
    let validating = "ValidatingWebhookConfiguration";
    let part_of = "app.kubernetes.io/part-of=isthmus";
    let validation = asking.list("admissionregistration.k8s.io/v1", validating, None, part_of).await;
    webhooks.extend(validation.unwrap_or_default());
    let maps = asking.list("v1", "ConfigMap", None, "app.kubernetes.io/managed-by=isthmus-control").await;
    let maps = maps.unwrap_or_default();
    let tried =
        if webhooks.iter().any(|one| ours(&one)) { tried(asking.objects, &namespaces).await } else { Tried::Not };
    let pods = ground.pods.clone().unwrap_or_default();
    let mesh = mesh(reach, asking, &seen).await;
    Installed {
        certificates: certificates(reach, asking, &seen, &pods).await,
        roots: maps.into_iter().filter(|map| text(map, "/metadata/name") == roots::NAME).collect(),
        pods,
        services: ground.services.clone().unwrap_or_default(),
        mesh,
        map,
        seen,
        namespaces,
        webhooks,
        tried,
    }
}

/// Of the mesh's own pods, and of some with a sidecar.
async fn certificates(reach: &Reach, asking: &mut Asking<'_>, seen: &Seen, pods: &[Value]) -> Certificates {
    let runs = |pod: &&Value| text(pod, "/status/phase") == "Running";
    let with: Vec<_> = pods.iter().filter(runs).filter(|pod| pods::sidecar(pod).is_some()).collect();
    let mut told = vec![];
    for pod in seen.pods.iter().filter(runs).chain(with.iter().copied().take(SIDECARS)) {
        let name = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let rows = match reach.pod(pod).await {
            Ok(admin) => admin::read(admin, "/certificates").await.ok(),
            Err(_) => None,
        };
        told.push(Told { pod: name, rows });
    }
    let authority = match rollout::serves("isthmus-control", seen) {
        true => ask("Control", reach.control(&Place::default()).await, "/api/authority", asking).await,
        false => None,
    };
    Certificates { told, sidecars: with.len(), authority }
}

/// Has the API server make a pod as it would be made, without making it.
async fn tried(objects: &Objects, namespaces: &[Value]) -> Tried {
    let (namespace, pod) = pods::probe(namespaces);
    let reference = Reference::namespaced("v1", "Pod", &namespace, "isthmus-check");
    match objects.create(&reference, &pod, true).await {
        Ok(made) if pods::sidecar(&made).is_some() => Tried::Injected,
        Ok(_) => Tried::Bare,
        Err(error) => Tried::Refused(error.said),
    }
}

/// Of a role none of whose pods serves, its workload's own finding says enough.
async fn mesh(reach: &Reach, asking: &mut Asking<'_>, seen: &Seen) -> Mesh {
    let mut mesh = Mesh::default();
    if rollout::serves("isthmus-federation", seen) {
        let member = reach.member(&Member { at: None, member: None }, None).await;
        mesh.member = ask("Federation", member, "/status", asking).await;
    }
    if rollout::serves("isthmus-control", seen)
        && let Some(control) = asking.heard("Control", reach.control(&Place::default()).await)
    {
        let mut of = async |path: &str| ask("Control", Ok(control), path, asking).await.map(rows);
        (mesh.clusters, mesh.proxies) = (of("/api/clusters").await, of("/api/proxies").await);
        mesh.config = of("/api/config").await;
    }
    mesh
}

async fn ask(what: &str, at: Result<SocketAddr>, path: &str, asking: &mut Asking<'_>) -> Option<Value> {
    let answer = match at {
        Ok(at) => admin::read(at, path).await.map(Some),
        Err(error) => Err(error),
    };
    asking.heard(what, answer).flatten()
}
