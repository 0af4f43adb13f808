//! Connections of clients that are open in the process: a drain ends as soon as there are none.

use std::sync::Arc;

use tokio::sync::watch;

/// How many there are. Cheap to clone.
#[derive(Clone)]
pub(crate) struct UnderWay(Arc<watch::Sender<usize>>);

/// One of them, until it is dropped.
pub(crate) struct Entered(UnderWay);

impl Default for UnderWay {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl UnderWay {
    /// One more.
    pub(crate) fn enter(&self) -> Entered {
        self.0.send_modify(|count| *count += 1);
        Entered(self.clone())
    }

    /// Ends when there is none.
    pub(crate) async fn nothing(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_under_way_once_the_last_has_ended() {
        let under_way = UnderWay::default();
        let (first, second) = (under_way.enter(), under_way.enter());
        drop(first);
        let waiting = tokio::spawn({
            let under_way = under_way.clone();
            async move { under_way.nothing().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
