//! What the webhooks count.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// Metric handles, all `isthmus_control_webhook_*`.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Reviews by webhook (inject, validate) and outcome (injected, skipped, refused, denied, allowed, unknown,
    /// malformed, overloaded).
    pub reviews: IntCounterVec,
    /// Seconds from the last byte of a review to its answer.
    pub seconds: Histogram,
}

impl Metrics {
    /// New handles, registered.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("isthmus_control_webhook_reviews_total", "Admission reviews by webhook and outcome");
        let reviews = IntCounterVec::new(opts, &["webhook", "outcome"])?;
        let opts = HistogramOpts::new("isthmus_control_webhook_seconds", "Time from a whole review to its answer");
        let seconds = Histogram::with_opts(opts.buckets(vec![0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]))?;
        registry.register(Box::new(reviews.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { reviews, seconds })
    }

    pub(crate) fn count(&self, webhook: &str, outcome: &str) {
        self.reviews.with_label_values(&[webhook, outcome]).inc();
    }
}
