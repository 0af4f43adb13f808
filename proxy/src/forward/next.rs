//! A connection that is kept to the cluster that comes next: when the one in use falls silent, its requests go on at once,
//! and not over three round trips that open one.

use std::{rc::Rc, sync::Arc};

use isthmus_core::ladder::{Place, Tier};

use super::{Opening, Target};
use crate::{passage::Passage, snapshot::Rungs, worker::Worker};

/// Opens one in the background where there is none, while another cluster serves the requests. Where the own cluster
/// does, its own endpoints come next, and no other cluster shall hold connections for that.
pub(super) fn keep_warm(worker: &Rc<Worker>, target: &Target<'_>, rungs: &Rungs, chosen: usize) {
    let is_remote = |place: &Place| matches!(place, Place::Remote(_));
    let due = |(tier, passage): (&Tier, &Arc<Passage>)| is_remote(&tier.place) && passage.sees_to_next(worker.number);
    let due = rungs.at(chosen).is_some_and(due);
    let next = rungs.ladder.fallbacks(chosen).next().filter(|_| due);
    let Some((tier, _)) = next.and_then(|index| rungs.at(index)).filter(|(tier, _)| tier.share > 0.0) else { return };
    let Place::Remote(cluster) = &tier.place else { return };
    let key = target.link_to(cluster);
    if worker.shared.has_way(cluster) && worker.links.lacks(&key) {
        let opening = Opening::new(target, tier, &key, vec![]);
        let worker = Rc::clone(worker);
        tokio::task::spawn_local(async move {
            let _ = opening.open(&worker).await;
        });
    }
}
