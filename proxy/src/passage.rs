//! What the process knows of a service's requests to one cluster: how many more a limit lets through, and how they went.
//!
//! It outlives pictures. Each worker counts in a tally of its own, which the reporter empties: no request waits for
//! another one to be counted, and only one that meets a limit takes a lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use isthmus_core::{
    failover::{
        cap::Bucket,
        window::{BUCKETS, bucket, is_grpc_failure},
    },
    name::ClusterName,
};
use parking_lot::Mutex;

use crate::snapshot::now;

/// The place that comes next is seen to so often, milliseconds.
const SEE_TO_NEXT: u64 = 500;

/// The way of a service's requests to one cluster, perhaps the own one.
pub(crate) struct Passage {
    pub(crate) cluster: ClusterName,
    is_limited: AtomicBool,
    limit: Mutex<Option<(f64, Bucket)>>,
    /// One a worker.
    tallies: Box<[Tally]>,
}

/// What one worker counted. On cache lines of its own: two workers that count must not wait for each other.
#[derive(Default)]
#[repr(align(128))]
struct Tally {
    /// Whether there is anything to report.
    touched: AtomicBool,
    wanted: AtomicU32,
    limited: AtomicU32,
    errors: AtomicU32,
    latency: [AtomicU32; BUCKETS],
    /// When its worker last saw to the place that comes next, milliseconds of this process.
    seen_to: AtomicU64,
}

/// What was counted since it was taken last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Tries that were to go there, those that a limit kept back among them.
    pub(crate) wanted: u64,
    /// Those that a limit kept back.
    pub(crate) limited: u64,
    /// Those that brought no answer, a 5xx, or a status of gRPC that means as much.
    pub(crate) errors: u64,
    /// By time to the answer's head.
    pub(crate) latency: [u64; BUCKETS],
}

impl Counted {
    /// Tries that ended.
    pub(crate) fn requests(&self) -> u64 {
        self.latency.iter().sum()
    }
}

impl Passage {
    pub(crate) fn new(cluster: ClusterName, workers: usize) -> Self {
        let tallies = std::iter::repeat_with(Tally::default).take(workers.max(1)).collect();
        let (is_limited, limit) = Default::default();
        Self { cluster, is_limited, limit, tallies }
    }

    /// Whether it is time for a worker, which has connections of its own, to see to the place that comes next: once in a
    /// while as long as this one is in use.
    pub(crate) fn sees_to_next(&self, worker: usize) -> bool {
        let Some(tally) = self.tally(worker) else { return false };
        let now = u64::try_from(now().as_millis()).unwrap_or(u64::MAX).max(1);
        let last = tally.seen_to.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= SEE_TO_NEXT;
        if due {
            tally.seen_to.store(now, Ordering::Relaxed);
        }
        due
    }

    /// The limit from now on, requests a second; what a limit before it left to take stays.
    pub(crate) fn limit(&self, now: Duration, rate: Option<f64>) {
        let mut limit = self.limit.lock();
        match (&mut *limit, rate) {
            (Some((was, bucket)), Some(rate)) => {
                *was = rate;
                bucket.set_rate(now, rate);
            }
            (limit, rate) => *limit = rate.map(|rate| (rate, Bucket::new(now, rate))),
        }
        self.is_limited.store(rate.is_some(), Ordering::Release);
    }

    /// Begins a try of a worker.
    ///
    /// # Errors
    /// When a limit, so many requests a second, keeps it back.
    pub(crate) fn enter(&self, worker: usize, deadline: Option<Duration>) -> Result<Trying<'_>, f64> {
        let began = now();
        let kept_back = self.is_limited.load(Ordering::Acquire).then(|| self.take_token(began)).flatten();
        if let Some(tally) = self.tally(worker) {
            tally.wanted.fetch_add(1, Ordering::Relaxed);
            tally.limited.fetch_add(u32::from(kept_back.is_some()), Ordering::Relaxed);
            tally.touched.store(true, Ordering::Release);
        }
        match kept_back {
            Some(limit) => Err(limit),
            None => Ok(Trying { passage: self, worker, began, deadline, is_open: true }),
        }
    }

    /// The limit, when it is used up.
    fn take_token(&self, now: Duration) -> Option<f64> {
        let mut limit = self.limit.lock();
        let (rate, bucket) = limit.as_mut()?;
        (!bucket.take(now)).then_some(*rate)
    }

    fn tally(&self, worker: usize) -> Option<&Tally> {
        self.tallies.get(worker % self.tallies.len().max(1))
    }

    fn ended(&self, worker: usize, failed: bool, took: Duration) {
        let Some(tally) = self.tally(worker) else { return };
        tally.errors.fetch_add(u32::from(failed), Ordering::Relaxed);
        if let Some(count) = tally.latency.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        tally.touched.store(true, Ordering::Release);
    }

    /// Takes what was counted, if anything was.
    pub(crate) fn take_counted(&self) -> Option<Counted> {
        let mut sum = None;
        for tally in self.tallies.iter().filter(|tally| tally.touched.swap(false, Ordering::AcqRel)) {
            let sum: &mut Counted = sum.get_or_insert_default();
            let take = |count: &AtomicU32| u64::from(count.swap(0, Ordering::Relaxed));
            sum.wanted += take(&tally.wanted);
            sum.limited += take(&tally.limited);
            sum.errors += take(&tally.errors);
            for (sum, count) in sum.latency.iter_mut().zip(&tally.latency) {
                *sum += take(count);
            }
        }
        sum
    }
}

/// A try under way. One that is given up before it ended took at least so long; it failed when its request's time was up,
/// and not when the client went away.
pub(crate) struct Trying<'a> {
    passage: &'a Passage,
    worker: usize,
    began: Duration,
    deadline: Option<Duration>,
    is_open: bool,
}

impl Trying<'_> {
    /// The answer's head is there, or there will be none.
    pub(crate) fn ended(mut self, failed: bool) {
        self.is_open = false;
        self.passage.ended(self.worker, failed, now().saturating_sub(self.began));
    }

    /// It says nothing of the cluster.
    pub(crate) fn void(mut self) {
        self.is_open = false;
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let now = now();
            let is_late = self.deadline.is_some_and(|deadline| now >= deadline);
            self.passage.ended(self.worker, is_late, now.saturating_sub(self.began));
        }
    }
}

/// An answer whose status comes at its end, as gRPC's does. It is counted already, and as a failure once it says so.
pub(crate) struct Late {
    pub(crate) passage: Arc<Passage>,
    pub(crate) worker: usize,
}

impl Late {
    /// The status that its end brought.
    pub(crate) fn ended(self, status: &str) {
        if let Some(tally) = self.passage.tally(self.worker).filter(|_| is_grpc_failure(status)) {
            tally.errors.fetch_add(1, Ordering::Relaxed);
            tally.touched.store(true, Ordering::Release);
        }
    }
}

/// Passages of one service, by cluster.
#[derive(Default)]
pub(crate) struct Passages(Vec<Arc<Passage>>);

impl Passages {
    pub(crate) fn to(&mut self, cluster: &ClusterName, workers: usize) -> Arc<Passage> {
        if let Some(known) = self.0.iter().find(|passage| passage.cluster == *cluster) {
            return Arc::clone(known);
        }
        let passage = Arc::new(Passage::new(cluster.clone(), workers));
        self.0.push(Arc::clone(&passage));
        passage
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Passage>> {
        self.0.clone()
    }

    /// Forgets those that lead to none of these clusters.
    pub(crate) fn retain(&mut self, known: impl Fn(&ClusterName) -> bool) {
        self.0.retain(|passage| known(&passage.cluster));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage() -> Passage {
        Passage::new("west".parse().unwrap(), 2)
    }

    #[test]
    fn what_workers_counted_is_taken_once_and_together() {
        let passage = passage();
        assert_eq!(passage.take_counted(), None);
        for worker in [0, 1, 1] {
            passage.enter(worker, None).unwrap_or_else(|_| panic!("no limit")).ended(worker == 0);
        }
        let counted = passage.take_counted().unwrap();
        assert_eq!((counted.wanted, counted.limited, counted.errors, counted.requests()), (3, 0, 1, 3));
        assert_eq!(passage.take_counted(), None);
    }

    #[test]
    fn a_status_at_the_end_of_an_answer_counts_as_a_failure_where_it_means_one() {
        let passage = Arc::new(passage());
        for status in ["0", "5", "14", "13", "x"] {
            passage.enter(1, None).unwrap_or_else(|_| panic!("no limit")).ended(false);
            Late { passage: Arc::clone(&passage), worker: 1 }.ended(status);
        }
        let counted = passage.take_counted().unwrap();
        assert_eq!((counted.requests(), counted.errors), (5, 2));
    }

    #[test]
    fn each_worker_sees_to_what_comes_next_by_itself() {
        let passage = passage();
        assert_eq!([0, 1, 0, 1].map(|worker| passage.sees_to_next(worker)), [true, true, false, false]);
    }

    #[test]
    fn a_limit_keeps_back_and_another_rate_gives_nothing_anew() {
        let passage = passage();
        passage.limit(now(), Some(0.002));
        assert!(passage.enter(0, None).is_ok());
        assert_eq!(passage.enter(1, None).err(), Some(0.002), "workers share it");
        passage.limit(now(), Some(0.001));
        assert_eq!(passage.enter(0, None).err(), Some(0.001));
        let counted = passage.take_counted().unwrap();
        assert_eq!((counted.wanted, counted.limited), (3, 2));
        passage.limit(now(), None);
        assert!((0..100).all(|_| passage.enter(0, None).is_ok()), "no limit is none");
    }

    #[test]
    fn a_try_that_is_given_up_counts_and_failed_only_when_its_time_was_up() {
        let passage = passage();
        drop(passage.enter(0, None));
        drop(passage.enter(0, Some(now() + Duration::from_secs(60))));
        drop(passage.enter(0, Some(now())));
        passage.enter(0, None).unwrap_or_else(|_| panic!("no limit")).void();
        let counted = passage.take_counted().unwrap();
        assert_eq!((counted.wanted, counted.requests(), counted.errors), (4, 3, 1));
    }
}
