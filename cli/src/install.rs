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
pub mod fill;
pub mod progress;
pub mod release;
pub mod settings;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{
    args::{Install, Installing, Member, Rollout},
    out,
    reach::Reach,
};
use cluster::Cluster;
use progress::Progress;
use release::{Installed, Release, VERSION};

/// Load balancers of clouds take their time.
const ADDRESS: Duration = Duration::from_secs(120);

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
            "\n{name} is installed; name its context in what follows.\n\
             isthmus check                                                   what is wrong, and what to do about it\n\
             isthmus token create --cluster OTHER                            lets another cluster in, which joins by it\n\
             kubectl label namespace NAMESPACE istio-injection=enabled       gives its new pods sidecars"
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
            bail!(
                "the mesh was applied there by other means (`kubectl apply -k`, a GitOps controller); upgrade it there"
            )
        }
    };
    let new = old.upgraded(VERSION, rollout.image.clone(), &rollout.set)?;
    Progress::new(rollout.output, rollout.dry_run).step(
        "upgrading",
        format_args!("{} from {} to {}, image {}", new.cluster, old.version, new.version, new.image),
    );
    roll(&cluster, &new, rollout).await
}

/// Before a cluster of Kubernetes joins: the mesh has to be installed there, under the names of the token.
///
/// # Errors
/// When it is not, and shall not be; when the cluster has another name already.
pub async fn before_join(reach: &Reach, member: &Member, names: (&str, &str), installing: Installing) -> Result<()> {
    if member.member.is_some() || !matches!(reach, Reach::Kubernetes(_)) {
        anyhow::ensure!(
            !installing.is_meant(),
            "--image, --set and --no-install are for clusters of Kubernetes; name one with --context"
        );
        return Ok(());
    }
    let cluster = Cluster::of(reach).await?;
    let (name, mesh) = names;
    match cluster.installed().await? {
        Installed::Nothing if installing.no_install => bail!(
            "the mesh is not installed there; join without --no-install, or before that `isthmus install --cluster {name} \
             --mesh {mesh}`, or by Helm: `helm install isthmus deploy/helm/isthmus -n isthmus-system --create-namespace \
             --set cluster.name={name} --set mesh.domain={mesh}`"
        ),
        Installed::Nothing => {
            let rollout = installing.rollout();
            let release = Release::new(name, mesh, rollout.image.clone(), &rollout.set);
            roll(&cluster, &release, &rollout).await?;
            addressed(reach).await
        }
        Installed::Ours(there) if (there.cluster.as_str(), there.mesh.as_str()) != names => bail!(
            "the token is for {name} of mesh {mesh}, and this is {} of {}; name the context of {name}",
            there.cluster,
            there.mesh
        ),
        _ if installing.image.is_some() || !installing.set.is_empty() => bail!(
            "the mesh is installed there already; join without --image and --set, and change it with `isthmus upgrade`, or by \
             Helm where Helm installed it"
        ),
        _ => Ok(()),
    }
}

/// Waits until the gateways have the address that the others are told: of a load balancer, or of nodes.
async fn addressed(reach: &Reach) -> Result<()> {
    let address = async {
        while reach.exposed().await.is_err() {
            tokio::time::sleep(cluster::LOOK).await;
        }
    };
    match tokio::time::timeout(ADDRESS, address).await {
        Ok(()) => Ok(()),
        // The error says what is missing.
        Err(_) => reach.exposed().await.map(drop),
    }
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
