//! What control counts. Label sets are bounded: kinds and outcomes, never names from the outside.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metric handles, all `isthmus_control_*`.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Seconds one compilation took.
    pub compile_seconds: Histogram,
    /// Resources in force.
    pub resources: IntGauge,
    /// Resources that got a new version.
    pub resource_changes: IntCounter,
    /// Feed streams open.
    pub clients: IntGauge,
    /// Resources refused by proxies and gateways.
    pub nacks: IntCounter,
    /// Registrations refused.
    pub registrations_refused: IntCounter,
    /// Faults in files and objects now.
    pub faults: IntGauge,
    /// Statements signed and taken, by outcome: taken, refused.
    pub said: IntCounterVec,
    /// Statements of other clusters, by outcome: applied, old, forged, malformed.
    pub heard: IntCounterVec,
    /// Leases heard, by way: member, tunnel.
    pub leases: IntCounterVec,
    /// Moves decided, by the standing moved to.
    pub decisions: IntCounterVec,
    /// 1 while the own member takes statements.
    pub member_up: IntGauge,
}

impl Metrics {
    /// New handles, registered.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let compile = HistogramOpts::new("isthmus_control_compile_seconds", "Time of one compilation of the model")
            .buckets(vec![0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);
        let metrics = Self {
            compile_seconds: Histogram::with_opts(compile)?,
            resources: gauge("resources", "Compiled resources in force")?,
            resource_changes: counter("resource_changes_total", "Compiled resources that changed")?,
            clients: gauge("clients", "Proxies and gateways on the feed")?,
            nacks: counter("refusals_total", "Resources that proxies and gateways refused")?,
            registrations_refused: counter("registrations_refused_total", "Registrations refused")?,
            faults: gauge("faults", "Faults in the configuration now")?,
            said: counters("statements_said_total", "Statements answered by the own member", "outcome")?,
            heard: counters("statements_heard_total", "Statements of other clusters", "outcome")?,
            leases: counters("leases_heard_total", "Leases of other clusters", "way")?,
            decisions: counters("decisions_total", "Moves of other clusters' standing", "standing")?,
            member_up: gauge("member_up", "Whether the own member takes statements")?,
        };
        metrics.register(registry)?;
        Ok(metrics)
    }

    fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.compile_seconds.clone()))?;
        for gauge in [&self.resources, &self.clients, &self.faults, &self.member_up] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for counter in [&self.resource_changes, &self.nacks, &self.registrations_refused] {
            registry.register(Box::new(counter.clone()))?;
        }
        for counters in [&self.said, &self.heard, &self.leases, &self.decisions] {
            registry.register(Box::new(counters.clone()))?;
        }
        Ok(())
    }
}

fn gauge(name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    IntGauge::new(format!("isthmus_control_{name}"), help)
}

fn counter(name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    IntCounter::new(format!("isthmus_control_{name}"), help)
}

fn counters(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("isthmus_control_{name}"), help), &[label])
}
