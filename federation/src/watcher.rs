//! A watcher follows a view: everything from a revision on, once and in order; where that is no longer to be had, a
//! snapshot and everything after it.

use isthmus_wire::federation::WatchEvent;
use tokio::sync::{broadcast, mpsc};

use crate::view::View;

/// Plays everything from a revision on; a watcher that falls behind begins again with a snapshot.
pub async fn follow(view: &View, mut revision: u64, mut history: String, out: mpsc::Sender<WatchEvent>) {
    loop {
        let (missed, mut events) = view.watch(revision, &history);
        for event in missed {
            (revision, history) = (event.revision, event.history.clone());
            if out.send(event).await.is_err() {
                return;
            }
        }
        loop {
            match events.recv().await {
                Ok(event) => {
                    (revision, history) = (event.revision, event.history.clone());
                    if out.send(event).await.is_err() {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}
