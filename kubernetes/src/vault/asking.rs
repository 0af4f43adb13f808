//! Asks an API server that may be away: again and again, or not at all where there is something to begin with.

use std::time::Duration;

use isthmus_runtime::{backoff::Backoff, drain::Drain};
use kube::Client;

use super::{ANSWERS_WITHIN, Held, Vault, VaultError};

/// A Secret of somebody else's, as it is; `None`: there is none.
///
/// # Errors
/// [`VaultError::Refused`].
pub async fn find(client: &Client, namespace: &str, name: &str) -> Result<Option<Held>, VaultError> {
    Vault::new(client, namespace, name, &[]).look().await
}

/// As [`find`]; an API server that does not answer is asked again until the drain. `need_not`: there is something to begin
/// with, and nothing is found there then.
///
/// # Errors
/// [`VaultError`].
pub async fn wait_for(
    client: &Client,
    (namespace, name): (&str, &str),
    need_not: bool,
    drain: &Drain,
) -> Result<Option<Held>, VaultError> {
    if !need_not {
        return insist(name, drain, || find(client, namespace, name)).await;
    }
    match tokio::time::timeout(ANSWERS_WITHIN, find(client, namespace, name)).await {
        Ok(Err(error)) if error.is_passing() => Ok(None),
        Ok(outcome) => outcome,
        Err(_) => Ok(None),
    }
}

/// Tries again as long as that may help.
pub(super) async fn insist<T, F>(name: &str, drain: &Drain, mut one: impl FnMut() -> F) -> Result<T, VaultError>
where
    F: Future<Output = Result<T, VaultError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match one().await {
            Err(error) if error.is_passing() => {
                tracing::info!(secret = name, error = error.cause(), "waiting for the API server");
            }
            outcome => return outcome,
        }
        drain.unless(tokio::time::sleep(backoff.next())).await.ok_or(VaultError::Drained)?;
    }
}
