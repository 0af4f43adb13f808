//! `uninstall`: takes the mesh out of a cluster and leaves nothing behind, or says what and why. What a Helm release left
//! (definitions, keys, roots) goes too, once Helm took its own away.
//!
//! | module | idea |
//! | --- | --- |
//! | [`plan`] | pure: what goes, and in which order |
//! | [`left`] | pure: what is left, and why |

mod left;
mod plan;

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Result, bail};
use isthmus_kubernetes::{
    client::SYSTEM_NAMESPACE,
    reference::{ObjectKind, Reference},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    args::Uninstall,
    install::{
        cluster::{Cluster, LOOK, OURS},
        progress::Progress,
        release::Installed,
    },
    out,
    reach::Reach,
};
use plan::{Phase, Removal};

/// What control writes into every namespace.
const BY_CONTROL: &str = "app.kubernetes.io/managed-by=isthmus-control";
/// Pods drain before they go, and a namespace goes after all that is in it.
const GONE: std::time::Duration = std::time::Duration::from_secs(180);

pub async fn run(reach: &Reach, uninstall: &Uninstall) -> Result<()> {
    let cluster = Cluster::of(reach).await?;
    // One whose record somebody broke goes all the same.
    let name = match cluster.installed().await {
        Ok(Installed::Helm) => bail!(
            "the mesh is there as a release of Helm's; `helm uninstall isthmus -n isthmus-system` first, then this for what \
             that leaves"
        ),
        Ok(Installed::Other) => bail!(
            "the mesh was applied there by other means, which would bring it back; delete it there first (`kubectl delete \
             -k`), then use this for what that leaves"
        ),
        Ok(Installed::Ours(release)) => release.cluster,
        Ok(Installed::Nothing) | Err(_) => "this cluster".to_owned(),
    };
    let removal = found(&cluster, uninstall).await?;
    let progress = Progress::new(uninstall.output, uninstall.dry_run);
    if removal.is_empty() {
        progress.step("nothing", "of the mesh is there");
    } else if uninstall.dry_run || uninstall.yes || agreed(&removal, &name)? {
        remove(&cluster, &removal, &progress, uninstall.dry_run).await?;
    } else {
        bail!("nothing was taken away");
    }
    for (thing, why) in rest(&cluster, uninstall).await? {
        progress.step("left", format_args!("{thing}: {why}"));
    }
    Ok(())
}

/// Everything of the mesh that is in the cluster and shall go.
async fn found(cluster: &Cluster, uninstall: &Uninstall) -> Result<Removal> {
    let mut all: Vec<Value> = cluster.listed(OURS).await?.into_iter().map(|(_, object)| object).collect();
    let list = async |version: &str, kind: &str, namespace: Option<&str>, selector: &str| {
        cluster.objects.list(&ObjectKind::new(version, kind), namespace, selector).await
    };
    all.extend(list("v1", "ConfigMap", None, BY_CONTROL).await?);
    let ours = Some(SYSTEM_NAMESPACE);
    all.extend(list("v1", "PersistentVolumeClaim", ours, "app.kubernetes.io/name=isthmus").await?);
    all.extend(list("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, OURS).await?);
    for (version, kind, name) in plan::BY_NAME {
        all.extend(cluster.objects.find(&Reference::namespaced(version, kind, SYSTEM_NAMESPACE, name)).await?);
    }
    all.extend(cluster.objects.find(&Reference::cluster("v1", "Namespace", SYSTEM_NAMESPACE)).await?);
    Ok(plan::removal(&all, uninstall.keep_crds, uninstall.keep_state))
}

/// Asks whoever types; a program has to say so beforehand.
fn agreed(removal: &Removal, name: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody is there to be asked; say --yes, or look first with --dry-run");
    }
    let definitions = removal.of(Phase::Definitions).len();
    let with = if definitions > 0 { ", and with the definitions every policy and export there" } else { "" };
    out::raw(&format!("{} objects of the mesh leave {name}{with}. Sure? [y/N] ", removal.len()));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let _ = std::io::stdout().flush();
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Takes things away, phase by phase. What others stand on is gone before the next phase begins.
async fn remove(cluster: &Cluster, removal: &Removal, progress: &Progress, dry: bool) -> Result<()> {
    for phase in Phase::ALL {
        let of_phase = removal.of(phase);
        for object in of_phase {
            if cluster.objects.delete(object, dry).await? {
                progress.step("deleted", object);
            }
        }
        if !dry {
            gone(cluster, phase, of_phase, progress).await?;
        }
    }
    Ok(())
}

async fn gone(cluster: &Cluster, phase: Phase, objects: &[Reference], progress: &Progress) -> Result<()> {
    let end = Instant::now() + GONE;
    let mut said = false;
    loop {
        let mut there = vec![];
        for object in objects.iter().filter(|_| phase.is_waited_for()) {
            if cluster.objects.find(object).await?.is_some() {
                there.push(object.to_string());
            }
        }
        if phase == Phase::Workloads && !objects.is_empty() {
            there.extend(cluster.seen().await?.pods.iter().filter_map(Reference::of).map(|pod| pod.to_string()));
        }
        if there.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{} does not go; `kubectl describe` says what holds it, then run this again", there.join(", "));
        }
        if !std::mem::replace(&mut said, true) {
            progress.step("waiting", format_args!("for the end of {}", there.join(", ")));
        }
        sleep(LOOK).await;
    }
}

/// What is there afterwards.
async fn rest(cluster: &Cluster, uninstall: &Uninstall) -> Result<Vec<(String, String)>> {
    let list = async |version: &str, kind: &str, selector: &str| {
        cluster.objects.list(&ObjectKind::new(version, kind), None, selector).await
    };
    let mut seen = list("v1", "Pod", "").await?;
    seen.extend(list("v1", "PersistentVolume", "").await?);
    seen.extend(list("apiextensions.k8s.io/v1", "CustomResourceDefinition", OURS).await?);
    seen.extend(list("v1", "Namespace", &format!("kubernetes.io/metadata.name={SYSTEM_NAMESPACE}")).await?);
    for name in ["isthmus-ca", "isthmus-federation-key", "cacerts"] {
        seen.extend(cluster.objects.find(&Reference::namespaced("v1", "Secret", SYSTEM_NAMESPACE, name)).await?);
    }
    seen.extend(list("v1", "PersistentVolumeClaim", "app.kubernetes.io/name=isthmus").await?);
    Ok(left::left(&seen, uninstall))
}
