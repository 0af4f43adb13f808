//! Room for those who have not shown yet who they are: bounded, and never closed by those who only hold it.
//!
//! When all places are taken, the newcomer gets one all the same: of the source that holds most, the one that came
//! first has to leave. So a flood of half-open connections costs the flood its own places, and whoever comes with an
//! honest word finds one at once. A place is given back as soon as its holder is known, or gone.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The places. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Places {
    most: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    by_source: HashMap<IpAddr, BTreeMap<u64, Arc<Notify>>>,
    count: usize,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    held: Arc<Mutex<Held>>,
    source: IpAddr,
    number: u64,
    leave: Arc<Notify>,
}

impl Places {
    /// So many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), held: Arc::default() }
    }

    /// A place for a connection from `source`; somebody else may have to leave for it.
    #[must_use]
    pub fn take(&self, source: IpAddr) -> Place {
        let leave = Arc::new(Notify::new());
        let mut held = self.held.lock();
        if held.count >= self.most {
            held.make_room();
        }
        let number = held.next;
        held.next += 1;
        held.count += 1;
        held.by_source.entry(source).or_default().insert(number, leave.clone());
        drop(held);
        Place { held: self.held.clone(), source, number, leave }
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.held.lock().count
    }
}

impl Held {
    fn make_room(&mut self) {
        let fullest = self.by_source.iter().max_by_key(|(_, places)| places.len()).map(|(source, _)| *source);
        let Some(source) = fullest else { return };
        let first = self.by_source.get_mut(&source).and_then(BTreeMap::pop_first);
        if let Some((_, leave)) = first {
            self.count = self.count.saturating_sub(1);
            // Kept until its holder looks: nobody misses it.
            leave.notify_one();
        }
        self.by_source.retain(|_, places| !places.is_empty());
    }

    fn give_back(&mut self, source: IpAddr, number: u64) {
        let Some(places) = self.by_source.get_mut(&source) else { return };
        if places.remove(&number).is_some() {
            self.count = self.count.saturating_sub(1);
        }
        if places.is_empty() {
            self.by_source.remove(&source);
        }
    }
}

impl Place {
    /// The future's output, or `None` when the place is needed by somebody else first.
    pub async fn unless_needed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            output = future => Some(output),
            () = self.needed() => None,
        }
    }

    /// Ends when the place is needed by somebody else.
    pub async fn needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.lock().give_back(self.source, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    async fn has_to_leave(place: &Place) -> bool {
        place.unless_needed(std::future::ready(())).await.is_none()
            || place.unless_needed(tokio::task::yield_now()).await.is_none()
    }

    #[tokio::test]
    async fn a_newcomer_always_gets_a_place_and_who_floods_pays_for_it() {
        let places = Places::new(4);
        let honest = places.take(from(1));
        let mut flood: Vec<_> = (0..100).map(|_| places.take(from(2))).collect();
        assert_eq!(places.taken(), 4);
        assert!(!has_to_leave(&honest).await, "it holds one, the flood holds three");
        let last = flood.split_off(97);
        for place in &flood {
            place.needed().await;
        }
        for place in &last {
            assert!(!has_to_leave(place).await, "the last three stay");
        }
        drop((flood, last));
        assert_eq!(places.taken(), 1, "what had to leave is not given back twice");
        drop(honest);
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test]
    async fn of_one_source_the_first_leaves_first() {
        let places = Places::new(2);
        let (first, second) = (places.take(from(1)), places.take(from(1)));
        let third = places.take(from(1));
        first.needed().await;
        assert!(!has_to_leave(&second).await && !has_to_leave(&third).await);
    }
}
