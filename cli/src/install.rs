//! `install` and `upgrade`: the mesh in a cluster of Kubernetes, without Helm.
//!
//! | module | idea |
//! | --- | --- |
//! | [`base`] | what the chart renders, as part of the program |
//! | [`settings`] | what may be set |
//! | [`release`] | what is installed, and what may take its place |
//! | [`fill`] | pure: base, names and settings, to objects |
//! | [`cluster`] | asks and applies |
//! | [`progress`] | what is going on |

pub mod base;
pub mod cluster;
mod fill;
pub mod progress;
pub mod release;
pub mod settings;

use anyhow::{Context, Result, bail};

use crate::{
    args::{Install, Rollout},
    out,
    reach::Reach,
};
use cluster::Cluster;
use progress::Progress;
use release::{Installed, Release, VERSION};

/// Installs, or says why not.
pub async fn install(reach: &Reach, install: Install) -> Result<()> {
    let cluster = Cluster::of(reach).await?;
    let Install { cluster: name, mesh, rollout } = install;
    let release = Release::new(name.as_str(), mesh.as_str(), rollout.image.clone(), &rollout.set);
    release.over(&cluster.installed().await?)?;
    roll(&cluster, &release, &rollout).await?;
    if !rollout.dry_run && rollout.output.is_for_people() {
        let name = &release.cluster;
        out::line(format_args!(
            "\n{name} is installed. To let another cluster in: isthmus token create --context {name} --cluster OTHER\n\
             To give a namespace's pods sidecars: kubectl label namespace NAMESPACE istio-injection=enabled\n\
             What is wrong, if anything: isthmus check --context {name}"
        ));
    }
    Ok(())
}

/// Brings what is installed to this release.
pub async fn upgrade(reach: &Reach, rollout: &Rollout) -> Result<()> {
    let cluster = Cluster::of(reach).await?;
    let installed = cluster.installed().await?;
    let old = match &installed {
        Installed::Ours(release) => release,
        Installed::Nothing => bail!("nothing is installed there; `isthmus install --cluster NAME` does it"),
        Installed::Helm => bail!("the mesh is there as a release of Helm's; use `helm upgrade isthmus`"),
        Installed::Other => {
            bail!("the mesh was applied there by other means (`kubectl apply -k`, a GitOps controller); upgrade it there")
        }
    };
    let new = old.upgraded(VERSION, rollout.image.clone(), &rollout.set)?;
    Progress::new(rollout.output, rollout.dry_run)
        .step("upgrading", format_args!("{} from {} to {}, image {}", new.cluster, old.version, new.version, new.image));
    roll(&cluster, &new, rollout).await
}

/// Applies all of a release, takes away what an older one had and it has not, and waits until it runs.
async fn roll(cluster: &Cluster, release: &Release, rollout: &Rollout) -> Result<()> {
    let mut progress = Progress::new(rollout.output, rollout.dry_run);
    let objects = fill::objects(release, cluster.makes_namespace().await?)?;
    cluster.apply(&objects, &progress, rollout.dry_run).await?;
    cluster.prune(&objects, &progress, rollout.dry_run).await?;
    if rollout.dry_run || rollout.no_wait {
        return Ok(());
    }
    cluster.wait(&mut progress, rollout.wait).await.context("all of it is applied, and not all of it runs")
}
