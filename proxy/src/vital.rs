//! What the process knows of single endpoints: their open requests and their failures, whichever worker saw them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use isthmus_core::{
    model::Outlier,
    name::ClusterName,
    outlier::{self, Showed},
};
use parking_lot::Mutex;

use crate::snapshot::now;

/// What is known of one endpoint.
#[derive(Debug)]
pub(crate) struct Vital {
    /// How the access log names it: its address, or its id in another cluster.
    pub(crate) upstream: Arc<str>,
    open: AtomicU32,
    /// Whether there is anything in the record: most endpoints never fail, and their requests take no lock.
    troubled: AtomicBool,
    record: Mutex<outlier::Record>,
}

/// Counts a request as open until it is dropped.
pub(crate) struct Open(Arc<Vital>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Vital {
    fn default() -> Self {
        Self::new("")
    }
}

impl Vital {
    pub(crate) fn new(upstream: &str) -> Self {
        let (open, troubled, record) = Default::default();
        Self { upstream: upstream.into(), open, troubled, record }
    }

    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.troubled.load(Ordering::Acquire) && self.record.lock().is_ejected(now())
    }

    /// Takes what a request showed; whether this ejects it, one of `total` of which so many are `resting`.
    pub(crate) fn observe(
        &self,
        showed: Showed,
        policy: &Outlier,
        total: usize,
        resting: impl FnOnce() -> usize,
    ) -> bool {
        if showed == Showed::Success && !self.troubled.load(Ordering::Acquire) {
            return false;
        }
        let resting = resting();
        let mut record = self.record.lock();
        let ejected = record.observe(showed, now(), policy, outlier::may_eject(total, resting, policy));
        self.troubled.store(*record != outlier::Record::default(), Ordering::Release);
        ejected
    }
}

impl Vital {
    /// It is not who it should be: it rests at once, whatever else there is. Whether it did not rest before.
    pub(crate) fn reject(&self) -> bool {
        let mut record = self.record.lock();
        let news = !record.is_ejected(now());
        if news {
            record.eject(now(), DISTRUST);
            self.troubled.store(true, Ordering::Release);
        }
        news
    }
}

/// The endpoints of other clusters that a service's requests met.
#[derive(Debug, Default)]
pub(crate) struct Remotes(Mutex<HashMap<ClusterName, HashMap<String, Arc<Vital>>>>);

/// Who is not who it should be is asked again after so long: its cluster may have renamed it meanwhile.
const DISTRUST: Duration = Duration::from_secs(30);
/// Endpoints that a header names to be avoided; it has room for some hundred ids.
const AVOIDED: usize = 32;
/// Endpoints of a cluster that are remembered; beyond it those that nobody uses are forgotten.
const REMEMBERED: usize = 1024;

impl Remotes {
    /// An endpoint of a cluster, by the id that its gateway gave.
    pub(crate) fn of(&self, cluster: &ClusterName, id: &str) -> Arc<Vital> {
        let mut all = self.0.lock();
        let of_cluster = all.entry(cluster.clone()).or_default();
        if of_cluster.len() >= REMEMBERED {
            of_cluster.retain(|_, vital| Arc::strong_count(vital) > 1);
        }
        Arc::clone(of_cluster.entry(id.to_owned()).or_insert_with(|| Arc::new(Vital::new(id))))
    }

    /// Ids of those of a cluster that rest, as many as a header takes.
    pub(crate) fn ejected(&self, cluster: &ClusterName) -> Vec<String> {
        let all = self.0.lock();
        let known = all.get(cluster).into_iter().flat_map(HashMap::iter);
        known.filter(|(_, vital)| vital.is_ejected()).map(|(id, _)| id.clone()).take(AVOIDED).collect()
    }

    /// How many of a cluster rest.
    pub(crate) fn resting(&self, cluster: &ClusterName) -> usize {
        self.0.lock().get(cluster).map_or(0, |known| known.values().filter(|vital| vital.is_ejected()).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_of_another_cluster_rests_after_failures_in_a_row_and_never_the_last_one() {
        let (remotes, policy) = (Remotes::default(), Outlier::default());
        let cluster: ClusterName = "us-east".parse().unwrap();
        let (a, b) = (remotes.of(&cluster, "a"), remotes.of(&cluster, "b"));
        let fail = |vital: &Vital| {
            let resting = || remotes.resting(&cluster);
            (0..policy.consecutive_errors).any(|_| vital.observe(Showed::Failure, &policy, 2, resting))
        };
        assert!(fail(&a) && a.is_ejected());
        assert!(!fail(&b) && !b.is_ejected());
        assert!(Arc::ptr_eq(&a, &remotes.of(&cluster, "a")));
    }

    #[test]
    fn who_is_not_who_it_should_be_rests_at_once_and_is_avoided_even_when_it_is_the_last() {
        let (remotes, cluster) = (Remotes::default(), "us-east".parse().unwrap());
        let imposter = remotes.of(&cluster, "imposter");
        remotes.of(&cluster, "honest");
        assert!(imposter.reject() && !imposter.reject(), "it is said once");
        assert_eq!(remotes.ejected(&cluster), ["imposter"]);
    }

    #[test]
    fn a_success_clears_the_record_of_failures() {
        let (vital, policy) = (Vital::new("a"), Outlier::default());
        for _ in 1..policy.consecutive_errors {
            assert!(!vital.observe(Showed::Failure, &policy, 2, || 0));
        }
        vital.observe(Showed::Success, &policy, 2, || 0);
        assert!(!vital.observe(Showed::Failure, &policy, 2, || 0));
    }
}
