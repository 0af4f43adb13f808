//! How commands reach the mesh: its processes on this machine, or clusters of Kubernetes through their API servers. Each
//! way ends in an address that is asked the same.

mod kubernetes;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use isthmus_core::name::ClusterName;
use isthmus_scenarios::{
    admin, mesh,
    plan::{ClusterPlan, roles::ADMIN_PORT},
    state::StateDir,
};

use serde_json::Value;

use crate::args::{ContextArgs, Member, Place, StateDirArg};
use kubernetes::Kubernetes;

/// The mesh that a command is about.
pub enum Reach {
    /// The one that `up` raised here.
    Machine(StateDir),
    /// One that runs on Kubernetes.
    Kubernetes(Kubernetes),
}

/// A cluster's control.
#[derive(Clone, Debug)]
pub struct Control {
    /// The cluster; of one that was given by address, the address.
    pub name: String,
    /// Its admin endpoint.
    pub admin: SocketAddr,
}

/// A workload that a trace begins at.
pub struct Origin {
    /// Its name.
    pub name: String,
    /// Its sidecar's admin endpoint.
    pub sidecar: SocketAddr,
    /// Its cluster's control.
    pub control: Control,
}

impl Reach {
    /// By contexts where any are named, else on this machine.
    ///
    /// # Errors
    /// As [`StateDirArg::resolve`].
    pub fn of(contexts: ContextArgs, state: StateDirArg) -> Result<Self> {
        if contexts.is_given() {
            Ok(Self::Kubernetes(Kubernetes::new(contexts)))
        } else {
            state.resolve().map(Self::Machine)
        }
    }

    /// A cluster of Kubernetes; without a context named: the current one.
    pub fn cluster(contexts: ContextArgs) -> Self {
        Self::Kubernetes(Kubernetes::new(contexts))
    }

    /// The state of the mesh on this machine, for what only its runner does.
    ///
    /// # Errors
    /// When the mesh that is meant runs on Kubernetes.
    pub fn machine(&self) -> Result<&StateDir> {
        match self {
            Self::Machine(state) => Ok(state),
            Self::Kubernetes(_) => {
                bail!("this is done to the processes of a mesh on this machine; on Kubernetes use kubectl")
            }
        }
    }

    /// The controls that are asked: the one named, or all that are reached.
    ///
    /// # Errors
    /// When there is no mesh on this machine, no such cluster in it, no way to an API server, or no control behind it.
    pub async fn controls(&self, place: &Place) -> Result<Vec<Control>> {
        if let Some(admin) = place.control {
            return Ok(vec![Control { name: admin.to_string(), admin }]);
        }
        let state = match self {
            Self::Kubernetes(kubernetes) => return named(kubernetes.controls().await?, place.at.as_ref()),
            Self::Machine(state) => state,
        };
        let plan = state.plan()?;
        let planned = match &place.at {
            Some(name) => vec![plan.named(name.as_str())?],
            None => plan.clusters.iter().collect(),
        };
        Ok(planned.into_iter().map(control_of).collect())
    }

    /// One control: the one named, or the first that answers.
    ///
    /// # Errors
    /// As [`Reach::controls`], and when none answers.
    pub async fn control(&self, place: &Place) -> Result<SocketAddr> {
        let controls = self.controls(place).await?;
        if let [only] = controls.as_slice() {
            return Ok(only.admin);
        }
        for control in &controls {
            if admin::read(control.admin, "/version").await.is_ok() {
                return Ok(control.admin);
            }
        }
        bail!("no control of the mesh answers; is it up? (`isthmus status`)")
    }

    /// The federation member that is meant: an address; on this machine that of the cluster named, of the cluster that
    /// joins, or the first; on Kubernetes that of the first context.
    ///
    /// # Errors
    /// As [`Reach::controls`].
    pub async fn member(&self, member: &Member, joins: Option<&str>) -> Result<SocketAddr> {
        if let Some(address) = member.member {
            return Ok(address);
        }
        let state = match self {
            Self::Kubernetes(kubernetes) => return kubernetes.member().await,
            Self::Machine(state) => state,
        };
        let elsewhere = |cluster: &str| {
            format!("the token is for {cluster}; name its member's admin endpoint with --member, or its --context")
        };
        let plan = match joins {
            Some(cluster) => state.plan().with_context(|| elsewhere(cluster))?,
            None => state.plan()?,
        };
        let cluster = match (&member.at, joins) {
            (Some(name), _) => plan.named(name.as_str())?,
            (None, Some(name)) => plan.named(name).with_context(|| elsewhere(name))?,
            (None, None) => plan.clusters.first().context("the mesh has no clusters")?,
        };
        Ok(mesh::member(cluster))
    }

    /// The admin endpoint of a pod, of the mesh's own or of one with a sidecar.
    ///
    /// # Errors
    /// When the mesh that is meant has no pods, or there is no way to this one.
    pub async fn pod(&self, pod: &Value) -> Result<SocketAddr> {
        match self {
            Self::Machine(_) => bail!("a mesh on this machine has no pods"),
            Self::Kubernetes(kubernetes) => kubernetes.pod(pod).await,
        }
    }

    /// Where other clusters reach the one that is meant, when its own configuration does not say.
    ///
    /// # Errors
    /// On Kubernetes, when its load balancer has given no address yet.
    pub async fn exposed(&self) -> Result<Vec<String>> {
        match self {
            Self::Machine(_) => Ok(vec![]),
            Self::Kubernetes(kubernetes) => kubernetes.exposed().await,
        }
    }

    /// The workload of this name in a cluster.
    ///
    /// # Errors
    /// As [`Reach::controls`], and when there is no such workload.
    pub async fn origin(&self, workload: &str, cluster: &str) -> Result<Origin> {
        let state = match self {
            Self::Kubernetes(kubernetes) => return kubernetes.origin(workload, cluster).await,
            Self::Machine(state) => state,
        };
        let plan = state.plan()?;
        let cluster = plan.named(cluster)?;
        let found = cluster.workload(workload).with_context(|| {
            let names = cluster.workloads.iter().map(|workload| workload.name.as_str()).collect::<Vec<_>>();
            format!("no workload {workload} in {}; there are {}", cluster.name, names.join(", "))
        })?;
        let sidecar = SocketAddr::new(cluster.address_of(found), ADMIN_PORT);
        Ok(Origin { name: found.name.clone(), sidecar, control: control_of(cluster) })
    }
}

fn control_of(cluster: &ClusterPlan) -> Control {
    Control { name: cluster.name.to_string(), admin: mesh::control(cluster) }
}

/// All of them, or the one of this name.
fn named(controls: Vec<Control>, name: Option<&ClusterName>) -> Result<Vec<Control>> {
    let Some(name) = name else { return Ok(controls) };
    let names: Vec<_> = controls.iter().map(|control| control.name.clone()).collect();
    let found: Vec<_> = controls.into_iter().filter(|control| control.name == name.as_str()).collect();
    if found.is_empty() {
        bail!("no context leads to {name}; those named lead to {}; name its own with --context", names.join(", "));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_no_context_leads_to_is_told_with_those_that_there_are() {
        let at = |name: &str| Control { name: name.into(), admin: "127.0.0.1:1".parse().unwrap() };
        let both = || vec![at("east"), at("west")];
        assert_eq!(named(both(), None).unwrap().len(), 2);
        assert_eq!(named(both(), Some(&"west".parse().unwrap())).unwrap()[0].name, "west");
        let error = named(both(), Some(&"north".parse().unwrap())).unwrap_err().to_string();
        assert!(error.contains("no context leads to north") && error.contains("east, west"), "{error}");
    }
}
