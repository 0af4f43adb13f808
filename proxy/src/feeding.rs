//! Between control and this sidecar: pictures in, registration and evidence out.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use isthmus_runtime::{
    drain::Drain,
    feed::{ClusterEvidence, Registration, Report, Reporter, ServiceEvidence, Updates},
    readiness::{Part, Readiness},
};

use crate::{
    config::Config,
    passage::Counted,
    resting::Resting,
    snapshot::{Painter, Resources, View},
    telemetry::Metrics,
    worker::Shared,
};

/// What the feed brought, for people.
pub(crate) type Dump = Arc<ArcSwap<Resources>>;

/// The same as JSON.
pub(crate) fn told(dump: &Dump) -> serde_json::Value {
    let resources = dump.load();
    let by_key: BTreeMap<_, _> = resources.iter().map(|(key, resource)| (&**key, &**resource)).collect();
    serde_json::to_value(by_key).unwrap_or_default()
}

/// How often evidence is reported (DESIGN.md decision 26).
const REPORT: Duration = Duration::from_millis(500);
/// How often the application is probed: often until it is there, then calmly.
const PROBE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long a probe may take.
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// Puts every update in force until the process closes.
pub(crate) async fn follow(shared: Arc<Shared>, mut updates: Updates, dump: Dump, ready: Part) {
    let mut painter = Painter::new(shared.config.common.clone(), shared.config.workers);
    let mut resting = Resting::default();
    while let Some(update) = updates.next().await {
        let has_model = update.synced || update.from_disk;
        if resting.begins(update.upserts.iter().map(|(.., resource)| resource), |one| shared.config.is_own(one)) {
            shared.rest();
        }
        shared.show(painter.apply(update.upserts, &update.removals, has_model));
        dump.store(Arc::new(painter.resources().clone()));
        update.ack.accept();
        if has_model {
            ready.ready();
        }
    }
}

/// Registers the workload, again whenever the application comes or goes. Of a captured one the kubelet says that; the
/// sidecar says only whether it serves itself.
pub(crate) async fn register(config: Config, readiness: Readiness, reporter: Reporter, drain: Drain) {
    let Some(port) = config.probe else {
        if config.capture.is_some() && drain.unless(readiness.wait()).await.is_some() {
            reporter.register(registration(&config, "ready"));
            drain.draining().await;
            reporter.register(registration(&config, "draining"));
        }
        return;
    };
    let application = std::net::SocketAddr::new(config.application, port);
    let mut was = None;
    loop {
        let probing = tokio::time::timeout(PROBE_LIMIT, tokio::net::TcpStream::connect(application));
        let there = probing.await.is_ok_and(|connected| connected.is_ok());
        if was != Some(there) {
            was = Some(there);
            reporter.register(registration(&config, if there { "ready" } else { "unready" }));
        }
        let pause = if there { PROBE.1 } else { PROBE.0 };
        if drain.unless(tokio::time::sleep(pause)).await.is_none() {
            reporter.register(registration(&config, "draining"));
            return;
        }
    }
}

fn registration(config: &Config, state: &str) -> Registration {
    Registration {
        workload: config.common.name.clone(),
        namespace: config.namespace.clone(),
        labels: config.labels.clone().into_iter().collect(),
        inbound: std::net::SocketAddr::new(config.common.address, crate::listeners::INBOUND).to_string(),
        region: config.common.locality.region.clone(),
        zone: config.common.locality.zone.clone(),
        state: state.into(),
        weight: 1,
    }
}

/// Reports what requests showed, by cluster, and by service and cluster.
pub(crate) async fn report(shared: Arc<Shared>, metrics: Metrics, reporter: Reporter, drain: Drain) {
    while drain.unless(tokio::time::sleep(REPORT)).await.is_some() {
        let evidence = std::mem::take(&mut *shared.evidence.lock());
        let clusters = evidence.into_iter().map(|(cluster, of)| ClusterEvidence {
            cluster: cluster.to_string(),
            succeeded: of.succeeded,
            failed: of.failed,
            unanswered: of.unanswered,
        });
        let report =
            Report { clusters: clusters.collect(), services: services(&shared, &metrics), ..Report::default() };
        if report != Report::default() {
            reporter.report(report);
        }
    }
}

fn services(shared: &Shared, metrics: &Metrics) -> Vec<ServiceEvidence> {
    let mut services = vec![];
    for view in shared.snapshot.load().views.values() {
        let refused = view.refused.swap(0, Ordering::Relaxed);
        if refused > 0 {
            let service = view.service.name.to_string();
            services.push(ServiceEvidence { service, refused, ..ServiceEvidence::default() });
        }
        for passage in &view.passages {
            let Some(counted) = passage.take_counted() else { continue };
            if counted.limited > 0 {
                let labels = [&*view.called.host, passage.cluster.as_str()];
                metrics.limited.with_label_values(&labels).inc_by(counted.limited);
            }
            services.push(of_service(view, passage.cluster.to_string(), &counted));
        }
    }
    services
}

fn of_service(view: &View, cluster: String, counted: &Counted) -> ServiceEvidence {
    ServiceEvidence {
        service: view.service.name.to_string(),
        cluster,
        requests: counted.requests(),
        errors: counted.errors,
        latency: counted.latency.to_vec(),
        wanted: counted.wanted,
        limited: counted.limited,
        refused: 0,
    }
}
