//! Ready when every part is; what is missing is named.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// What a process still waits for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<BTreeMap<String, bool>>>);

/// One part that readiness waits for.
#[derive(Clone, Debug)]
pub struct Part {
    readiness: Readiness,
    name: String,
}

impl Readiness {
    /// Waits for nothing yet, and so is ready.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }

    /// One more part to wait for.
    #[must_use]
    pub fn needs(&self, name: &str) -> Part {
        self.0.send_modify(|parts| {
            parts.insert(name.to_owned(), false);
        });
        Part { readiness: self.clone(), name: name.to_owned() }
    }

    /// Whether every part is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.borrow().values().all(|ready| *ready)
    }

    /// Parts that are not ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.0.borrow().iter().filter(|(_, ready)| !**ready).map(|(name, _)| name.clone()).collect()
    }

    /// Ends when every part is ready.
    pub async fn wait(&self) {
        let _ = self.0.subscribe().wait_for(|parts| parts.values().all(|ready| *ready)).await;
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Part {
    /// The part is ready.
    pub fn ready(&self) {
        self.set(true);
    }

    /// The part is not ready any more.
    pub fn lost(&self) {
        self.set(false);
    }

    fn set(&self, ready: bool) {
        self.readiness.0.send_if_modified(|parts| parts.insert(self.name.clone(), ready) != Some(ready));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_when_every_part_is_and_names_what_is_missing() {
        let readiness = Readiness::new();
        let (feed, tls) = (readiness.needs("feed"), readiness.needs("identity"));
        tls.ready();
        assert_eq!(readiness.missing(), ["feed"]);
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.wait().await }
        });
        feed.ready();
        waiting.await.unwrap();
        feed.lost();
        assert!(!readiness.is_ready());
    }
}
