//! Clusters of Kubernetes: the pods of the mesh, each by a way through its API server that is open as long as the command
//! runs.

use std::{cell::RefCell, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use isthmus_kubernetes::{
    Client,
    client::SYSTEM_NAMESPACE,
    exposed,
    forward::{self, Forward, Pod},
    user,
};
use isthmus_scenarios::{admin, plan::roles::ADMIN_PORT};

use serde_json::Value;

use super::{Control, Origin};
use crate::{args::ContextArgs, table::field};

/// Contexts of a kubeconfig, in the order they were named.
pub struct Kubernetes {
    kubeconfig: Option<PathBuf>,
    contexts: Vec<Option<String>>,
    open: RefCell<Vec<Forward>>,
}

impl Kubernetes {
    pub fn new(arguments: ContextArgs) -> Self {
        let ContextArgs { context, kubeconfig } = arguments;
        let named: Vec<_> = context.into_iter().map(Some).collect();
        let contexts = if named.is_empty() { vec![None] } else { named };
        Self { kubeconfig, contexts, open: RefCell::default() }
    }

    async fn client(&self, context: &Option<String>) -> Result<Client> {
        Ok(user::client(self.kubeconfig.as_deref(), context.as_deref()).await?)
    }

    /// The client of the context that is meant where only one can be.
    ///
    /// # Errors
    /// When several are named, or it cannot be used.
    pub async fn only(&self) -> Result<Client> {
        match self.contexts.as_slice() {
            [context] => self.client(context).await,
            _ => bail!("this is done in one cluster; name one --context"),
        }
    }

    async fn way(&self, client: &Client, pod: &Pod, port: u16) -> Result<SocketAddr> {
        let way = Forward::open(client, pod, port).await?;
        let address = way.address();
        self.open.borrow_mut().push(way);
        Ok(address)
    }

    async fn role(&self, client: &Client, role: &str) -> Result<SocketAddr> {
        let selector = format!("app.kubernetes.io/name=isthmus,app.kubernetes.io/component={role}");
        let pod = forward::ready(client, SYSTEM_NAMESPACE, &format!("the mesh's {role}"), &selector).await?;
        self.way(client, &pod, ADMIN_PORT).await
    }

    async fn control(&self, context: &Option<String>) -> Result<Control> {
        let named = || context.as_ref().map_or_else(|| "the current context".into(), |name| format!("context {name}"));
        let client = self.client(context).await?;
        let admin = self.role(&client, "control").await.with_context(|| format!("in {}", named()))?;
        let about = admin::read(admin, "/version").await;
        let about = about.with_context(|| format!("the control in {} does not answer", named()))?;
        Ok(Control { name: field(&about, "cluster"), admin })
    }

    pub async fn controls(&self) -> Result<Vec<Control>> {
        let mut controls = vec![];
        for context in &self.contexts {
            controls.push(self.control(context).await?);
        }
        Ok(controls)
    }

    pub async fn member(&self) -> Result<SocketAddr> {
        let client = self.only().await?;
        self.role(&client, "federation").await
    }

    pub async fn pod(&self, pod: &Value) -> Result<SocketAddr> {
        let pod: Pod = serde_json::from_value(pod.clone())?;
        self.way(&self.only().await?, &pod, ADMIN_PORT).await
    }

    pub async fn exposed(&self) -> Result<Vec<String>> {
        Ok(exposed::gateways(&self.only().await?, SYSTEM_NAMESPACE).await?)
    }

    /// A pod by its name, or the first one of a workload: `productpage`, `bookinfo/productpage`.
    pub async fn origin(&self, workload: &str, cluster: &str) -> Result<Origin> {
        for context in &self.contexts {
            let control = self.control(context).await?;
            if control.name == cluster {
                let client = self.client(context).await?;
                let (namespace, name) = match workload.split_once('/') {
                    Some((namespace, name)) => (Some(namespace), name),
                    None => (None, workload),
                };
                let pod = forward::of_workload(&client, namespace, name).await?;
                let sidecar = self.way(&client, &pod, ADMIN_PORT).await?;
                return Ok(Origin { name: forward::name(&pod), sidecar, control });
            }
        }
        bail!("no context leads to {cluster}; name its own with --context")
    }
}
