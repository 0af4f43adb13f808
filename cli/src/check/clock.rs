//! Pure: whose clock is wrong. Certificates begin and end by the clocks of those who look at them.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use serde_json::Value;

use super::finding::Finding;
use crate::rollout::text;

/// Headers count whole seconds, and so much is no trouble.
const SMALL: i64 = 5;
/// Certificates begin a minute before they are issued.
const LARGE: i64 = 60;
/// The kubelet renews its lease every ten seconds; Kubernetes gives a node up after forty.
const SILENT: i64 = 40;

/// What clocks show.
#[derive(Debug, Default)]
pub struct Clock {
    /// The API server's, unix seconds.
    pub server: Option<i64>,
    /// This machine's, at the same time.
    pub here: i64,
    /// Leases of nodes, by which the kubelets say the time.
    pub leases: Vec<Value>,
}

/// Unix seconds.
pub fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// This machine's clock.
pub fn now() -> i64 {
    seconds(SystemTime::now())
}

/// A header `Date`.
pub fn of_header(date: &str) -> Option<i64> {
    DateTime::parse_from_rfc2822(date).ok().map(|date| date.timestamp())
}

pub fn verdicts(clock: &Clock) -> Vec<Finding> {
    let Some(server) = clock.server else {
        return vec![Finding::note("Clocks", "the API server does not say what time it is")];
    };
    let off: Vec<_> = clock.leases.iter().filter_map(|lease| of_node(lease, server)).collect();
    let ahead = clock.here - server;
    let here = match ahead.abs() {
        0..=SMALL => None,
        _ => Some(
            Finding::warning("Clock of this machine", format!("it is {} the API server's", distance(ahead)))
                .remedy("set this machine's clock by NTP; tokens made here say when they end"),
        ),
    };
    if off.is_empty() && here.is_none() {
        let nodes = clock.leases.len();
        return vec![Finding::ok("Clocks", format!("they agree: this machine's, the API server's, nodes' ({nodes})"))];
    }
    here.into_iter().chain(off).collect()
}

fn distance(ahead: i64) -> String {
    if ahead > 0 { format!("{ahead} s ahead of") } else { format!("{} s behind", -ahead) }
}

/// What is wrong with a node's clock, by when it last renewed its lease.
fn of_node(lease: &Value, server: i64) -> Option<Finding> {
    let renewed = DateTime::parse_from_rfc3339(text(lease, "/spec/renewTime")).ok()?.timestamp();
    let what = format!("Clock of node {}", text(lease, "/metadata/name"));
    let ahead = renewed - server;
    let ntp = "set its clock by NTP";
    match ahead {
        LARGE.. => Some(Finding::error(what, format!("it is {}", distance(ahead) + " the API server's")).remedy(ntp)),
        SMALL.. => Some(Finding::warning(what, format!("it is {}", distance(ahead) + " the API server's")).remedy(ntp)),
        _ if ahead < -SILENT => {
            Some(Finding::error(what, format!("its kubelet last said the time {} s ago", -ahead)).remedy(
                "the node is down, or its clock is behind: look at `kubectl get nodes`, and set the clock by NTP",
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::finding::Severity;

    fn of(here: i64, renewed: &str) -> Vec<(Severity, String)> {
        let server = of_header("Fri, 27 Nov 2026 11:00:00 GMT");
        let leases = vec![json!({ "metadata": { "name": "n1" }, "spec": { "renewTime": renewed } })];
        let clock = Clock { here: server.unwrap() + here, server, leases };
        verdicts(&clock).into_iter().map(|finding| (finding.severity, finding.why)).collect()
    }

    #[test]
    fn each_clock_that_is_off_is_named_with_how_far() {
        assert_eq!(of(1, "2026-11-27T10:59:52.123456Z")[0].0, Severity::Ok);
        assert_eq!(of(-90, "2026-11-27T10:59:52Z"), [(Severity::Warning, "it is 90 s behind the API server's".into())]);
        assert_eq!(of(0, "2026-11-27T11:00:10Z"), [(Severity::Warning, "it is 10 s ahead of the API server's".into())]);
        assert_eq!(of(0, "2026-11-27T11:02:00Z")[0].0, Severity::Error);
        assert_eq!(
            of(0, "2026-11-27T10:58:00Z"),
            [(Severity::Error, "its kubelet last said the time 120 s ago".into())]
        );
        assert_eq!(verdicts(&Clock::default())[0].severity, Severity::Note);
    }
}
