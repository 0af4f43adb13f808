//! Pure: what a drill moves, from what the importing clusters say at each look.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_control::failover::{
    rows::{FailoverRow, PlaceRow},
    steersman::RATE_OVER,
};
use isthmus_core::{failover::drill, name::ClusterName};

use super::{
    rates::{Rate, kept_back, rate_of, rates},
    report::{End, Importer, Moved, Report, Rose},
};
use crate::failover::controls::Silent;

/// A part below this is none: what is left of a weight when a share is nothing.
const NOTHING: f64 = 0.0005;

/// A service as an importing cluster sends to it.
#[derive(Clone, Debug, Default)]
struct Service {
    before: BTreeMap<String, f64>,
    /// Whether it used the drilled cluster before.
    is_drilled: bool,
    /// When it first did not any more.
    moved_after: Option<Duration>,
    now: BTreeMap<String, f64>,
    shown_before: Rate,
    /// Since the drill began; rates of looks times the time between them.
    requests: f64,
    failed: f64,
}

impl Service {
    /// Whether more fail than before, by the rule by which a control stops a drill.
    fn rose(&self) -> bool {
        let now = Rate { requests: self.requests, failed: self.failed };
        drill::rose(&self.shown_before.shown(RATE_OVER.as_secs_f64()), &now.shown(1.0))
    }
}

/// An importing cluster.
#[derive(Clone, Debug, Default)]
struct Watched {
    services: BTreeMap<String, Service>,
    rate_before: f64,
    errors_before: f64,
    /// As of the last look.
    rate: f64,
    errors: f64,
    /// Since the drill began; rates of looks times the time between them.
    requests: f64,
    failed: f64,
    kept_back: f64,
    slowest_p90_ms: u64,
}

/// What was seen so far.
#[derive(Debug)]
pub struct Watch {
    cluster: String,
    importers: BTreeMap<String, Watched>,
    last: Duration,
    silent: BTreeMap<String, String>,
}

/// How far an importing cluster is.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The cluster.
    pub importer: &'a str,
    /// Services that used the drilled cluster and do not any more.
    pub moved: usize,
    /// Services that used it.
    pub of: usize,
    /// Requests a second.
    pub rate: f64,
    /// Part of them that fails.
    pub errors: f64,
}

impl Watch {
    /// With how it was before the drill.
    pub fn before(cluster: &ClusterName, said: &[(String, Vec<FailoverRow>)]) -> Self {
        let mut watch = Self {
            cluster: cluster.to_string(),
            importers: BTreeMap::new(),
            last: Duration::ZERO,
            silent: BTreeMap::new(),
        };
        for row in said.iter().flat_map(|(_, rows)| rows) {
            let importer = watch.importers.entry(row.importer.clone()).or_default();
            let before = parts(row);
            let is_drilled = before.contains_key(cluster.as_str());
            let shown_before = rate_of(row);
            let service = Service { now: before.clone(), before, is_drilled, shown_before, ..Service::default() };
            importer.services.insert(row.service.clone(), service);
        }
        for (name, importer) in &mut watch.importers {
            let (rate, errors) = rates(name, said);
            (importer.rate_before, importer.errors_before) = (rate, errors);
            (importer.rate, importer.errors) = (rate, errors);
        }
        watch
    }

    /// A look, so long after the drill began.
    pub fn look(&mut self, at: Duration, said: &[(String, Vec<FailoverRow>)], silent: Vec<Silent>) {
        let seconds = at.saturating_sub(self.last).as_secs_f64();
        self.last = at;
        self.silent.extend(silent.into_iter().map(|one| (one.cluster, one.why)));
        let seen: BTreeSet<_> = said.iter().flat_map(|(_, rows)| rows).map(|row| row.importer.as_str()).collect();
        for (name, importer) in self.importers.iter_mut().filter(|(name, _)| seen.contains(name.as_str())) {
            (importer.rate, importer.errors) = rates(name, said);
            importer.requests += importer.rate * seconds;
            importer.failed += importer.rate * importer.errors * seconds;
            importer.kept_back += kept_back(name, said) * seconds;
        }
        for row in said.iter().flat_map(|(_, rows)| rows) {
            let Some(importer) = self.importers.get_mut(&row.importer) else { continue };
            let p90 = row.places.iter().filter(|place| place.requests_per_second > 0.0).map(|place| place.p90_ms);
            importer.slowest_p90_ms = importer.slowest_p90_ms.max(p90.max().unwrap_or(0));
            let Some(service) = importer.services.get_mut(&row.service) else { continue };
            let rate = rate_of(row);
            service.requests += rate.requests * seconds;
            service.failed += rate.failed * seconds;
            service.now = parts(row);
            match (service.is_drilled, service.now.contains_key(&self.cluster)) {
                (true, false) => drop(service.moved_after.get_or_insert(at)),
                // It went back: nothing else could serve it.
                (true, true) => service.moved_after = None,
                _ => {}
            }
        }
    }

    /// Whether nothing uses the drilled cluster any more.
    pub fn has_moved(&self) -> bool {
        self.progress().all(|one| one.moved == one.of)
    }

    /// An importing cluster and a service that it has nowhere to send to any more: what is refused at once fails no try,
    /// so error rates would not tell.
    pub fn stranded(&self) -> Option<(&str, &str)> {
        let stranded = |service: &Service| service.is_drilled && service.now.is_empty();
        self.importers.iter().find_map(|(importer, one)| {
            let (service, _) = one.services.iter().find(|(_, service)| stranded(service))?;
            Some((importer.as_str(), service.as_str()))
        })
    }

    /// How far the importing clusters are that used the drilled one.
    pub fn progress(&self) -> impl Iterator<Item = Progress<'_>> {
        self.importers.iter().map(|(name, one)| {
            let drilled = || one.services.values().filter(|service| service.is_drilled);
            Progress {
                importer: name,
                moved: drilled().filter(|service| service.moved_after.is_some()).count(),
                of: drilled().count(),
                rate: one.rate,
                errors: one.errors,
            }
        })
    }

    /// What came of it.
    pub fn report(self, at: &str, lasted: Duration, end: End) -> Report {
        let rose = self.rose();
        let importers = self.importers.into_iter().map(|(importer, one)| one.report(importer)).collect();
        Report {
            cluster: self.cluster,
            done_in: at.to_owned(),
            seconds: (lasted.as_secs_f64() * 10.0).round() / 10.0,
            end,
            importers,
            rose,
            silent: self.silent,
        }
    }

    fn rose(&self) -> Vec<Rose> {
        let of = |(importer, watched): (&String, &Watched)| {
            let rose = watched.services.iter().filter(|(_, service)| service.rose());
            let one = |(name, service): (&String, &Service)| Rose {
                importer: importer.clone(),
                service: name.clone(),
                error_rate_before: service.shown_before.part(),
                error_rate: Rate { requests: service.requests, failed: service.failed }.part(),
            };
            rose.map(one).collect::<Vec<_>>()
        };
        self.importers.iter().flat_map(of).collect()
    }
}

impl Watched {
    fn report(self, importer: String) -> Importer {
        let drilled = || self.services.iter().filter(|(_, service)| service.is_drilled);
        let moved = drilled().filter(|(_, service)| service.moved_after.is_some());
        let moves = drilled().map(|(name, service)| Moved {
            service: name.clone(),
            before: service.before.clone(),
            during: service.now.clone(),
            after_seconds: service.moved_after.map(|after| after.as_secs_f64()),
        });
        Importer {
            importer,
            moved: moved.clone().count(),
            of: drilled().count(),
            move_took_seconds: moved
                .filter_map(|(_, service)| service.moved_after)
                .max()
                .map(|took| took.as_secs_f64()),
            requests: self.requests.round(),
            failed: self.failed.round(),
            kept_back: self.kept_back.round(),
            error_rate_before: self.errors_before,
            error_rate: if self.requests > 0.0 { self.failed / self.requests } else { 0.0 },
            requests_per_second_before: self.rate_before,
            slowest_p90_ms: self.slowest_p90_ms,
            services: moves.collect(),
        }
    }
}

/// Where a service's requests go, without what gets none.
fn parts(row: &FailoverRow) -> BTreeMap<String, f64> {
    let some = |place: &&PlaceRow| place.part > NOTHING;
    row.places.iter().filter(some).map(|place| (place.cluster.clone(), place.part)).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::failover::status::tests::{place_of, row_of};

    pub fn said(eu: f64, errors: f64) -> Vec<(String, Vec<FailoverRow>)> {
        let mut places = vec![place_of("eu", eu), place_of("us", 1.0 - eu)];
        places.iter_mut().for_each(|place| (place.error_rate, place.kept_back_per_second) = (errors, errors * 50.0));
        let only = row_of("shop/only", "us", vec![place_of("eu", 1.0)]);
        vec![("us".into(), vec![row_of("shop/cart", "us", places), only])]
    }

    /// A drill of eu: shop/cart leaves it in 400 ms, and nothing else has shop/only.
    pub fn watch() -> Watch {
        let mut watch = Watch::before(&"eu".parse().unwrap(), &said(1.0, 0.0));
        watch.look(Duration::from_millis(200), &said(0.5, 0.0), vec![]);
        watch.look(Duration::from_millis(400), &said(0.0, 0.1), vec![]);
        let silent = vec![Silent { cluster: "ap".into(), why: "refused".into() }];
        watch.look(Duration::from_millis(1400), &said(0.0, 0.1), silent);
        watch
    }

    #[test]
    fn what_moves_is_timed_and_what_fails_is_counted() {
        let watch = watch();
        assert!(!watch.has_moved(), "nothing else has shop/only");
        let progress: Vec<_> = watch.progress().map(|one| (one.importer, one.moved, one.of)).collect();
        assert_eq!(progress, [("us", 1, 2)]);
        let report = watch.report("us", Duration::from_millis(1400), End::Over);
        let us = &report.importers[0];
        assert_eq!((us.moved, us.of, us.move_took_seconds), (1, 2, Some(0.4)));
        assert_eq!(
            (us.requests, us.failed),
            (28.0, 1.0),
            "20 a second over 1.4 s; of 10 a second each tenth over 1.2 s"
        );
        assert_eq!(us.kept_back, 12.0, "5 a second at each of two places, over 1.2 s");
        assert_eq!((us.error_rate_before, us.slowest_p90_ms), (0.0, 4));
        assert_eq!(us.services[0].during, [("us".to_owned(), 1.0)].into());
        assert_eq!(us.services[1].after_seconds, None);
        assert_eq!(report.silent["ap"], "refused");
    }

    #[test]
    fn a_service_that_has_nowhere_to_go_is_found() {
        let mut watch = watch();
        assert_eq!(watch.stranded(), None);
        watch.look(
            Duration::from_secs(2),
            &[("us".into(), vec![row_of("shop/only", "us", vec![place_of("eu", 0.0)])])],
            vec![],
        );
        assert_eq!(watch.stranded(), Some(("us", "shop/only")));
    }

    #[test]
    fn a_service_of_which_more_requests_fail_than_before_is_found_also_when_they_are_refused() {
        let mut failing = watch();
        assert!(failing.rose().is_empty(), "one of 28 may be chance");
        failing.look(Duration::from_secs(20), &said(0.0, 0.5), vec![]);
        let report = failing.report("us", Duration::from_secs(20), End::Over);
        assert_eq!(report.rose().unwrap(), "shop/cart from us: 47.1 %, 0.0 % before");
        let mut refused = watch();
        let row = FailoverRow { refused_per_second: 10.0, ..row_of("shop/only", "us", vec![]) };
        refused.look(Duration::from_secs(3), &[("us".into(), vec![row])], vec![]);
        let report = refused.report("us", Duration::from_secs(3), End::Over);
        assert_eq!((report.rose.len(), report.rose[0].service.as_str()), (1, "shop/only"));
        assert!(report.importers[0].failed >= 16.0, "refused requests are counted");
    }

    #[test]
    fn what_goes_back_has_not_moved() {
        let mut watch = watch();
        watch.look(Duration::from_secs(2), &said(1.0, 0.0), vec![]);
        assert_eq!(watch.progress().map(|one| one.moved).sum::<usize>(), 0);
    }
}
