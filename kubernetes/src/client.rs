//! How the API server is reached: as the pod this process runs in, or by a kubeconfig file.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Deserialize, Serialize};

use crate::calls::Counting;

/// Where the mesh's own objects are unless somebody says otherwise.
pub const SYSTEM_NAMESPACE: &str = "isthmus-system";

/// A watch is asked for anew after so long, so that a connection that died without a word is noticed soon.
pub(crate) const WATCH: Duration = Duration::from_secs(45);
/// Nothing that is alive is silent for longer than a watch lasts.
const SILENT: Duration = Duration::from_secs(50);

/// Which API server, and which namespace there is the mesh's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// A kubeconfig file; none: the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it; none: its current one.
    pub context: Option<String>,
    /// The namespace of the mesh's own objects.
    pub namespace: String,
}

impl Default for Access {
    /// The pod's own service account, `isthmus-system`.
    fn default() -> Self {
        Self { kubeconfig: None, context: None, namespace: SYSTEM_NAMESPACE.into() }
    }
}

/// Why there is no way to an API server. None of them is that it does not answer: that is waited for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not in a pod.
    #[error(
        "this process has no service account of a pod, so it does not know the API server; run it in a pod that mounts its \
         service account's token, or name a kubeconfig file"
    )]
    NotInPod(#[source] Box<kube::config::InClusterError>),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {} cannot be used; `kubectl --kubeconfig {0} config view` shows what is in it", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// A context without a file to have it.
    #[error("context {0:?} is named, but no kubeconfig file that has it; name the file too")]
    ContextAlone(String),
    /// Certificates or keys that are none.
    #[error(
        "the way to API server {url} cannot be set up; its certificate authority, or the own certificate, is broken"
    )]
    Unusable {
        /// Its address.
        url: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

impl Access {
    /// A client; nothing is asked of the API server yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn client(&self) -> Result<Client, ClientError> {
        let mut config = match (&self.kubeconfig, &self.context) {
            (None, Some(context)) => return Err(ClientError::ContextAlone(context.clone())),
            (None, None) => Config::incluster().map_err(|source| ClientError::NotInPod(Box::new(source)))?,
            (Some(file), context) => {
                let wrong = |source| ClientError::Kubeconfig { file: file.clone(), source: Box::new(source) };
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                let kubeconfig = Kubeconfig::read_from(file).map_err(wrong)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?
            }
        };
        config.read_timeout = Some(SILENT);
        let url = config.cluster_url.to_string();
        let client = ClientBuilder::try_from(config);
        let client = client.map_err(|source| ClientError::Unusable { url, source: Box::new(source) })?;
        Ok(client.with_layer(&Counting).build())
    }
}

/// The message of the last cause: those before it say only which layer failed.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(access: Access) -> String {
        match access.client().await {
            Ok(_) => panic!("{access:?} gave a client"),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_what_to_do() {
        let alone = refused(Access { context: Some("east".into()), ..Access::default() }).await;
        assert!(alone.contains("\"east\"") && alone.contains("name the file too"), "{alone}");
        let nowhere = refused(Access { kubeconfig: Some("/nowhere/config".into()), ..Access::default() }).await;
        assert!(nowhere.contains("/nowhere/config"), "{nowhere}");
        let no_pod = refused(Access::default()).await;
        assert!(no_pod.contains("name a kubeconfig file"), "{no_pod}");
    }

    #[tokio::test]
    async fn a_context_that_the_file_does_not_have_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\n").unwrap();
        let access = Access { kubeconfig: Some(file.path().into()), context: Some("west".into()), ..Access::default() };
        let error = access.client().await.err().unwrap();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("west"), "{error}: {cause}");
    }
}
