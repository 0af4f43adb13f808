//! What a gateway counts. Label sets are bounded: states, outcomes and clusters of the feed, never what a peer wrote.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Metric handles, all `isthmus_gateway_*`.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Streams begun, by direction (out, in), cluster and outcome (accepted, or the reason of the refusal).
    pub streams: IntCounterVec,
    /// Streams that a drain's deadline closed, this gateway's or its peer's, by direction and cluster.
    pub closed_at_drain: IntCounterVec,
    /// Streams open now, by direction and cluster.
    pub open: IntGaugeVec,
    /// Bytes carried, by direction of the stream, cluster and way (sent, received) over the tunnel.
    pub bytes: IntCounterVec,
    /// Seconds from the local header to the remote answer, by cluster.
    pub answer_seconds: HistogramVec,
    /// Tunnels up, by cluster.
    pub tunnels: IntGaugeVec,
    /// 1 for the state each path is in, by cluster and state.
    pub path: IntGaugeVec,
    /// Dials of tunnels, by cluster and outcome.
    pub dials: IntCounterVec,
    /// Connections on 15443/tcp, by outcome.
    pub edge: IntCounterVec,
    /// Connections on 15444/tcp that were turned away, by reason.
    pub turned_away: IntCounterVec,
    /// Tunnels that peers dialled, by outcome.
    pub incoming: IntCounterVec,
    /// Sidecars that subscribed to notices.
    pub subscribers: IntGauge,
}

impl Metrics {
    /// New handles, registered.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let answer = HistogramOpts::new("isthmus_gateway_answer_seconds", "From a local header to the remote answer")
            .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]);
        let subscribers = IntGauge::new("isthmus_gateway_notice_subscribers", "Sidecars that hear notices")?;
        let metrics = Self {
            streams: counters("streams_total", "Streams begun", &["direction", "cluster", "outcome"])?,
            closed_at_drain: counters(
                "streams_closed_at_drain_total",
                "Streams closed because a gateway's drain came to its deadline",
                &["direction", "cluster"],
            )?,
            open: gauges("streams_open", "Streams open", &["direction", "cluster"])?,
            bytes: counters("bytes_total", "Bytes of streams over tunnels", &["direction", "cluster", "way"])?,
            answer_seconds: HistogramVec::new(answer, &["cluster"])?,
            tunnels: gauges("tunnels", "Tunnels up that this gateway dialled", &["cluster"])?,
            path: gauges("path_state", "1 for the state a path is in", &["cluster", "state"])?,
            dials: counters("dials_total", "Dials of tunnels", &["cluster", "outcome"])?,
            edge: counters("edge_connections_total", "Connections on 15443/tcp", &["outcome"])?,
            turned_away: counters("local_turned_away_total", "Connections on 15444/tcp turned away", &["reason"])?,
            incoming: counters("incoming_tunnels_total", "Tunnels that peers dialled", &["outcome"])?,
            subscribers,
        };
        let counters = [&metrics.streams, &metrics.closed_at_drain, &metrics.bytes, &metrics.dials, &metrics.edge];
        for counter in counters.into_iter().chain([&metrics.turned_away, &metrics.incoming]) {
            registry.register(Box::new(counter.clone()))?;
        }
        for gauge in [&metrics.open, &metrics.tunnels, &metrics.path] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(metrics.answer_seconds.clone()))?;
        registry.register(Box::new(metrics.subscribers.clone()))?;
        Ok(metrics)
    }
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(format!("isthmus_gateway_{name}"), help), labels)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("isthmus_gateway_{name}"), help), labels)
}
