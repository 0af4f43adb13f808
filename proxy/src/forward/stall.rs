//! When no local gateway reaches any place at the moment, and none of them was left: this machine stalled, or the way is
//! lost since less than it takes to decide. A request of which nothing was sent waits for that moment to pass: the last
//! living place is not left for nothing.

use std::{rc::Rc, time::Duration};

use isthmus_core::ladder::{Ladder, Place};

use crate::worker::Worker;

/// What is not back then, control decides on.
const MOMENT: Duration = Duration::from_secs(1);

/// Waits until a place that was not left is reached again; `false`: there is none, or it did not come back in time.
pub(super) async fn way_comes_back(worker: &Rc<Worker>, ladder: &Ladder) -> bool {
    let mut back = worker.shared.notices.back();
    if !is_way_missing(worker, ladder) {
        return false;
    }
    let waited = tokio::time::timeout(MOMENT, async {
        while is_way_missing(worker, ladder) {
            if back.changed().await.is_err() {
                return false;
            }
        }
        true
    });
    waited.await.unwrap_or(false)
}

/// Whether there are places that were not left, all in other clusters, and no way to any of them.
fn is_way_missing(worker: &Rc<Worker>, ladder: &Ladder) -> bool {
    let mut held = ladder.tiers().iter().filter(|tier| tier.usable > 0 && tier.share > 0.0).peekable();
    let lacks_way = |place: &Place| match place {
        Place::Remote(cluster) => !worker.shared.has_way(cluster),
        _ => false,
    };
    held.peek().is_some() && held.all(|tier| lacks_way(&tier.place))
}
