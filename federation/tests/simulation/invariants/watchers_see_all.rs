//! Every watcher sees every revision once and in order, or a snapshot and every later one; in the end it holds what its
//! member's view holds.
//!
//! Source: issue 3; the watch API of `federation.proto` (leases and standings are not counted as revisions).

use std::collections::BTreeMap;

use isthmus_wire::federation::watch_event::Event;

use crate::witness::{Invariant, Seen};

/// The last revision of each watcher, and the history it is of.
#[derive(Default)]
pub struct WatchersSeeAll(BTreeMap<String, (String, u64)>);

impl Invariant for WatchersSeeAll {
    fn name(&self) -> &'static str {
        "watchers_see_all"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Watched { cluster, event } => {
                let now = (event.history.clone(), event.revision);
                let last = self.0.insert((*cluster).to_owned(), now);
                let counted = matches!(event.event, Some(Event::Statement(_) | Event::Member(_) | Event::Gone(_)));
                match (&event.event, last) {
                    (Some(Event::Snapshot(_)), _) => Ok(()),
                    (_, Some((history, last)))
                        if history == event.history && last + u64::from(counted) == event.revision =>
                    {
                        Ok(())
                    }
                    (_, last) => {
                        Err(format!("the watcher at {cluster} saw revision {} after {last:?}", event.revision))
                    }
                }
            }
            Seen::Over { members, .. } => match members.iter().find(|member| member.view != member.watched) {
                Some(member) => Err(format!("the watcher at {} does not hold what the view holds", member.cluster)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
