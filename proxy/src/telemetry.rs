//! One record ends a request or a connection and writes both metric and access-log line, so they cannot disagree.

pub(crate) mod head;
pub(crate) mod log;
mod record;

use std::{collections::HashMap, sync::Arc};

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

pub(crate) use self::record::{Called, Party, Record, Reporter};

/// Istio's standard labels of requests (Istio Standard Metrics).
const REQUEST_LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "response_code",
    "grpc_response_status",
];
/// Of connections: without response code and gRPC status.
const CONNECTION_LABELS: usize = 23;

/// Istio's buckets, milliseconds.
const DURATION_BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];
/// Istio's buckets, bytes.
const SIZE_BUCKETS: [f64; 8] = [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0];

/// The metric families of a process.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    request_bytes: HistogramVec,
    response_bytes: HistogramVec,
    sent: IntCounterVec,
    received: IntCounterVec,
    opened: IntCounterVec,
    closed: IntCounterVec,
    pub(crate) refused: IntCounterVec,
    pub(crate) retries: IntCounterVec,
    pub(crate) limited: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let of_requests = REQUEST_LABELS.as_slice();
        let of_connections = REQUEST_LABELS.get(..CONNECTION_LABELS).unwrap_or_default();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let histogram = HistogramVec::new(opts, of_requests)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let tcp = |what: &str, help: &str| counter(&format!("istio_tcp_{what}_total"), help, of_connections);
        Ok(Self {
            requests: counter("istio_requests_total", "Requests.", of_requests)?,
            durations: histogram("istio_request_duration_milliseconds", "Duration of requests.", &DURATION_BUCKETS)?,
            request_bytes: histogram("istio_request_bytes", "Bytes of request bodies.", &SIZE_BUCKETS)?,
            response_bytes: histogram("istio_response_bytes", "Bytes of response bodies.", &SIZE_BUCKETS)?,
            sent: tcp("sent_bytes", "Bytes sent in answers.")?,
            received: tcp("received_bytes", "Bytes received in requests.")?,
            opened: tcp("connections_opened", "Connections opened.")?,
            closed: tcp("connections_closed", "Connections closed.")?,
            refused: counter("isthmus_proxy_refused_total", "Connections refused, by reason.", &["port", "reason"])?,
            limited: counter(
                "isthmus_limited_requests_total",
                "Requests and connections that a limit kept back from a cluster.",
                &["destination_service", "destination_cluster"],
            )?,
            retries: counter("isthmus_proxy_retries_total", "Tries after the first, by why.", &["why"])?,
        })
    }
}

/// Handles of one label set.
struct Handles {
    requests: IntCounter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

/// What makes a label set, compared by identity where identity is enough: parties live as long as connections do.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    source: *const Party,
    destination: *const Party,
    called: *const Called,
    reporter: Reporter,
    protocol: &'static str,
    flag: &'static str,
    code: u16,
    grpc_status: String,
}

/// Handles, and what their key names by address.
type Cached = (Handles, [Arc<Party>; 2], Arc<Called>);

/// A worker's door to telemetry: handles cached, lines handed on.
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    log: log::Log,
    cache: HashMap<Key, Cached>,
}

/// Label sets a worker keeps at hand; beyond it the cache begins anew.
const CACHE: usize = 1024;

impl Telemetry {
    pub(crate) fn new(metrics: Metrics, log: log::Log) -> Self {
        Self { metrics, log, cache: HashMap::new() }
    }

    /// A request ended.
    pub(crate) fn request(&mut self, record: &Record) {
        let key = Key {
            source: Arc::as_ptr(&record.source),
            destination: Arc::as_ptr(&record.destination),
            called: Arc::as_ptr(&record.called),
            reporter: record.reporter,
            protocol: record.protocol,
            flag: record.flag(),
            code: record.code,
            grpc_status: record.grpc_status.clone(),
        };
        if self.cache.len() >= CACHE {
            self.cache.clear();
        }
        let metrics = &self.metrics;
        let (handles, ..) = self.cache.entry(key).or_insert_with(|| {
            // What the key names by address is kept beside the handles: it names the same as long as the entry lives.
            let parties = [Arc::clone(&record.source), Arc::clone(&record.destination)];
            (Handles::new(metrics, record), parties, Arc::clone(&record.called))
        });
        handles.requests.inc();
        handles.duration.observe(record.duration.as_secs_f64() * 1000.0);
        handles.request_bytes.observe(record.received as f64);
        handles.response_bytes.observe(record.sent as f64);
        self.log.write(record);
    }

    /// A connection began.
    pub(crate) fn opened(&self, record: &Record) {
        self.metrics.opened.with_label_values(&record.labels("")).inc();
    }

    /// A connection ended.
    pub(crate) fn closed(&mut self, record: &Record) {
        let labels = record.labels("");
        self.metrics.closed.with_label_values(&labels).inc();
        self.metrics.sent.with_label_values(&labels).inc_by(record.sent);
        self.metrics.received.with_label_values(&labels).inc_by(record.received);
        self.log.write(record);
    }
}

impl Handles {
    fn new(metrics: &Metrics, record: &Record) -> Self {
        let code = record.code.to_string();
        let labels = record.labels(&code);
        Self {
            requests: metrics.requests.with_label_values(&labels),
            duration: metrics.durations.with_label_values(&labels),
            request_bytes: metrics.request_bytes.with_label_values(&labels),
            response_bytes: metrics.response_bytes.with_label_values(&labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_core::retry::Fault;

    use super::*;
    use crate::config::{AccessLog, Format};

    #[test]
    fn handles_are_looked_up_once_a_label_set_and_not_once_a_request() {
        let registry = Registry::new();
        let off = log::Log::open(&AccessLog { format: Format::Off, path: None }).unwrap();
        let mut telemetry = Telemetry::new(Metrics::new(&registry).unwrap(), off);
        let (party, called) = (Arc::<Party>::default(), Arc::new(Called::passthrough()));
        let record = || {
            let parties = [Arc::clone(&party), Arc::clone(&party)];
            Record { protocol: "http", ..Record::new(Reporter::Source, parties, Arc::clone(&called), "".into()) }
        };
        for _ in 0..3 {
            telemetry.request(&record());
        }
        assert_eq!(telemetry.cache.len(), 1);
        telemetry.request(&Record { fault: Some(Fault::NoRouteFound), ..record() });
        assert_eq!(telemetry.cache.len(), 2);
        let counted: u64 = telemetry.cache.values().map(|(handles, ..)| handles.requests.get()).sum();
        assert_eq!(counted, 4);
    }
}
