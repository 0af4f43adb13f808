//! Open connections by endpoint, exact: a count goes up where an endpoint is picked, under the same lock, and down
//! when its guard is dropped.

use std::{collections::HashMap, sync::Arc};

use isthmus_core::name::EndpointId;
use parking_lot::Mutex;

/// The counts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<Mutex<HashMap<EndpointId, usize>>>);

/// One open connection.
#[derive(Debug)]
pub struct Guard {
    open: Open,
    endpoint: EndpointId,
}

impl Open {
    /// Asks `choose` with the counts of this moment and counts what it chose.
    pub fn choose<T>(
        &self,
        choose: impl FnOnce(&dyn Fn(&EndpointId) -> usize) -> Option<(EndpointId, T)>,
    ) -> Option<(T, Guard)> {
        let mut counts = self.0.lock();
        let (endpoint, chosen) = choose(&|id| counts.get(id).copied().unwrap_or(0))?;
        *counts.entry(endpoint.clone()).or_default() += 1;
        drop(counts);
        Some((chosen, Guard { open: self.clone(), endpoint }))
    }

    /// Open connections of an endpoint.
    #[must_use]
    pub fn count(&self, endpoint: &EndpointId) -> usize {
        self.0.lock().get(endpoint).copied().unwrap_or(0)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut counts = self.open.0.lock();
        if let Some(count) = counts.get_mut(&self.endpoint) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_from_its_choice_to_the_end_of_its_guard() {
        let (open, id): (_, EndpointId) = (Open::default(), "a".parse().unwrap());
        let take = |expected: usize| {
            let chosen = open.choose(|count| Some((id.clone(), count(&id))));
            let (seen, guard) = chosen.unwrap();
            assert_eq!(seen, expected);
            guard
        };
        let first = take(0);
        let second = take(1);
        drop(first);
        assert_eq!(open.count(&id), 1);
        drop(second);
        assert_eq!(open.count(&id), 0);
        assert!(open.choose(|_| None::<(EndpointId, ())>).is_none());
    }
}
