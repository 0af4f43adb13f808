//! No summary goes back: what a watcher is shown under a cluster's key is newer each time, and so is what the log makes.
//!
//! Source: DESIGN.md decision 12. Counted for each federation key of a cluster (a reinstalled cluster begins anew), for a
//! watcher within one run of its member (what only deltas brought is not on a member's disk), and for a log up the
//! indices (a restarted member applies some of them again).

use std::collections::BTreeMap;

use isthmus_core::statement::Version;
use isthmus_federation::state::version;
use isthmus_wire::federation::{SignedStatement, watch_event::Event};

use crate::witness::{Invariant, Seen};

/// Who looks, in which run; the cluster, its key of the moment, the statement's key.
type Place = (String, String, String, Vec<u8>, String);

/// The newest of each.
#[derive(Default)]
pub struct NothingGoesBack {
    shown: BTreeMap<Place, Version>,
    applied: BTreeMap<Place, Version>,
    index: BTreeMap<String, u64>,
    keys: BTreeMap<(String, String), Vec<u8>>,
}

impl NothingGoesBack {
    fn show(&mut self, at: &str, history: &str, said: &SignedStatement) -> Result<(), String> {
        let key = self.keys.get(&(at.to_owned(), said.cluster.clone())).cloned().unwrap_or_default();
        let place = (at.to_owned(), history.to_owned(), said.cluster.clone(), key, said.key.clone());
        let (is, was) = (version(said), self.shown.insert(place, version(said)));
        match was.filter(|was| *was >= is) {
            Some(was) => Err(format!("{at} was shown {}/{} at {was:?}, then at {is:?}", said.cluster, said.key)),
            None => Ok(()),
        }
    }
}

impl Invariant for NothingGoesBack {
    fn name(&self) -> &'static str {
        "nothing_goes_back"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Watched { cluster, event } => match &event.event {
                Some(Event::Statement(said)) => self.show(cluster, &event.history, said),
                Some(Event::Member(record)) => {
                    let place = ((*cluster).to_owned(), record.cluster.clone());
                    self.keys.insert(place, record.federation_key.clone());
                    Ok(())
                }
                Some(Event::Snapshot(all)) => {
                    for record in &all.members {
                        let place = ((*cluster).to_owned(), record.cluster.clone());
                        self.keys.insert(place, record.federation_key.clone());
                    }
                    Ok(())
                }
                _ => Ok(()),
            },
            Seen::Applied { cluster: at, index, state, command: Some(_), .. } => {
                if self.index.insert((*at).to_owned(), *index).is_some_and(|last| *index <= last) {
                    self.applied.retain(|place, _| place.0 != **at);
                }
                for said in state.statements() {
                    let key =
                        state.member(&said.cluster).map(|record| record.federation_key.clone()).unwrap_or_default();
                    let place = ((*at).to_owned(), String::new(), said.cluster.clone(), key, said.key.clone());
                    let is = version(&said);
                    if let Some(was) = self.applied.insert(place, is).filter(|was| *was > is) {
                        return Err(format!("{at} applied {}/{} at {was:?}, then at {is:?}", said.cluster, said.key));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
