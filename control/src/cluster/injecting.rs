//! The webhooks of this cluster: by what values, under which certificate, with which namespaces.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use isthmus_inject::Values;
use isthmus_kubernetes::namespaces::Namespaces;
use isthmus_runtime::{config, drain::Drain, listen};
use tokio::task::JoinSet;

use super::Shown;
use crate::{
    authority::Authority,
    config::Config,
    error::Error,
    webhook::{self, Injector},
};

/// A ConfigMap that changed is in the pod's volume within a minute; it is looked at so often.
const LOOK: Duration = Duration::from_secs(5);

/// Serves the webhooks until everything closes.
///
/// # Errors
/// [`Error::Injection`]: the values cannot be read; [`Error::Listen`]; [`Error::Webhook`]: no certificate.
pub(super) fn start(
    config: &Config,
    file: &Path,
    namespaces: Namespaces,
    authority: &Authority,
    shown: Shown<'_>,
    (tasks, drain): (&mut JoinSet<()>, &Drain),
) -> Result<(), Error> {
    let read = read(file).map_err(|reason| Error::Injection { file: file.to_owned(), reason })?;
    let values = Arc::new(ArcSwap::from_pointee(read));
    let injector = Injector::new(Arc::clone(&values), Arc::new(move |name: &str| namespaces.labels(name)));
    let address = SocketAddr::new(config.common.address, webhook::PORT);
    let listener = listen::tcp(address).map_err(|source| Error::Listen { address, source })?;
    let certificate = authority.webhooks()?;
    let shows = certificate.clone();
    shown.certificates.add("webhook", move || shows.validity());
    tasks.spawn(certificate.clone().keep_fresh(drain.clone()));
    let (metrics, serving) = (webhook::Metrics::new(shown.registry)?, drain.clone());
    tasks.spawn(async move { webhook::serve(listener, certificate, injector, metrics, serving).await });
    tasks.spawn(follow(file.to_owned(), values, drain.clone()));
    Ok(())
}

fn read(file: &Path) -> Result<Values, String> {
    let text = config::load_text(file).map_err(|error| error.to_string())?;
    Values::from_mesh_yaml(&text).map_err(|error| error.to_string())
}

/// New values are in force for the next pod; wrong ones are told, and the last good ones stay.
async fn follow(file: PathBuf, values: Arc<ArcSwap<Values>>, drain: Drain) {
    let mut said = String::new();
    while drain.unless(tokio::time::sleep(LOOK)).await.is_some() {
        match read(&file) {
            Ok(new) if new != **values.load() => {
                tracing::info!(file = %file.display(), "new values for injection are in force");
                values.store(Arc::new(new));
                said.clear();
            }
            Ok(_) => said.clear(),
            Err(reason) => {
                if reason != said {
                    tracing::error!(file = %file.display(), reason, "the values for injection are refused; the last good ones stay");
                    said = reason;
                }
            }
        }
    }
}
