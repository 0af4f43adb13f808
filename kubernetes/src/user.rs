//! The API server as kubectl finds it: a context of `--kubeconfig`, of the files in `KUBECONFIG`, or of `~/.kube/config`.

use std::path::Path;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such file, no such context, or broken ones.
    #[error("no way to a Kubernetes cluster by {what}; `kubectl config get-contexts` lists what there is")]
    Kubeconfig {
        /// Which files and context.
        what: String,
        /// Why.
        #[source]
        source: KubeconfigError,
    },
    /// What the file says cannot be used.
    #[error("no way to the API server {url}")]
    Client {
        /// Its address.
        url: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// The context that kubectl would take; none: there is no kubeconfig, or it names none.
#[must_use]
pub fn current() -> Option<String> {
    Kubeconfig::read().ok()?.current_context.filter(|context| !context.is_empty())
}

/// A client for a context, none: the current one. Nothing is asked yet.
///
/// # Errors
/// [`UserError`].
pub async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, UserError> {
    let file = kubeconfig.map_or_else(|| "the kubeconfig".into(), |file| format!("kubeconfig {}", file.display()));
    let what = context.map_or_else(|| file.clone(), |context| format!("context {context} of {file}"));
    let wrong = |source| UserError::Kubeconfig { what, source };
    let options = KubeConfigOptions { context: context.map(ToOwned::to_owned), ..KubeConfigOptions::default() };
    let read = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let config = match read {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?,
        Err(error) => return Err(wrong(error)),
    };
    let url = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| UserError::Client { url, source: Box::new(source) })
}
