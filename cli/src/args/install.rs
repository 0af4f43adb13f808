//! What `install`, `upgrade` and `uninstall` take.

use std::time::Duration;

use clap::{Args, Subcommand};
use isthmus_core::name::{ClusterName, MeshDomain};

use super::{Form, Output, duration};
use crate::install::settings::Setting;

/// As long as images take to be pulled over a slow line.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Subcommand)]
pub enum Installation {
    /// Install the mesh into a cluster of Kubernetes, without Helm.
    ///
    /// What is applied is what the Helm chart renders. Other clusters join with `isthmus token create` and `isthmus join`.
    Install(Install),
    /// Bring what `install` installed to the release of this program, CRDs included.
    ///
    /// What was set at the installation stays, but for what is set anew. Sidecars are of the release that injected them
    /// until their pods are restarted.
    Upgrade(Rollout),
    /// Take the mesh out of a cluster: webhooks first, so that no pod is ever kept from starting.
    Uninstall(Uninstall),
}

#[derive(Debug, Args)]
pub struct Install {
    /// The name of this cluster, unique in the mesh. It is in identities, so it never changes.
    #[arg(long, value_name = "NAME")]
    pub cluster: ClusterName,
    /// The domain of the mesh, the same in all its clusters.
    #[arg(long, value_name = "DOMAIN", default_value = "mesh.local")]
    pub mesh: MeshDomain,
    #[command(flatten)]
    pub rollout: Rollout,
}

#[derive(Clone, Debug, Args)]
pub struct Rollout {
    /// The image of every role and of the sidecars [default: localhost/isthmus and the version of this program].
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// A setting by its name in the Helm chart, KEY=VALUE; may be repeated. A wrong key lists those that there are.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Setting>,
    /// How long to wait until all of it runs: 30s, 5m.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_value = "5m", default_missing_value = "5m", value_parser = duration)]
    pub wait: Duration,
    /// Do not wait until all of it runs.
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: Output,
}

/// Of a join: what to do where nothing is installed yet.
#[derive(Debug, Args)]
pub struct Installing {
    /// Do not install the mesh where it is not installed yet.
    ///
    /// In a cluster of Kubernetes without the mesh a join installs it first; its names are in the token.
    #[arg(long, conflicts_with_all = ["image", "set"])]
    pub no_install: bool,
    /// The image to install, as of `install`.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// A setting of the installation, as of `install`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Setting>,
}

impl Installing {
    /// Whether it says anything of an installation.
    pub fn is_meant(&self) -> bool {
        self.no_install || self.image.is_some() || !self.set.is_empty()
    }

    /// As `install` takes it.
    pub fn rollout(self) -> Rollout {
        let output = Output { output: Form::Table };
        Rollout { image: self.image, set: self.set, wait: PATIENCE, no_wait: false, dry_run: false, output }
    }
}

#[derive(Debug, Args)]
pub struct Uninstall {
    /// Keep the CRDs, and with them all policies and exports.
    #[arg(long)]
    pub keep_crds: bool,
    /// Keep the keys, the certificate authority and the member's disk: who installs again is the same cluster.
    #[arg(long)]
    pub keep_state: bool,
    /// Do not ask first.
    #[arg(long)]
    pub yes: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: Output,
}
