//! Looks at a running mesh for `status`: readiness, links and request rates, from each role's own endpoints.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http_body_util::Full;
use serde_json::Value;

use crate::{
    admin,
    plan::{
        ClusterPlan, Plan, Role,
        roles::{ADMIN_PORT, HEALTH_PORT, METRICS_PORT},
    },
    status::{ClusterStatus, Link, ProcessState, ProcessStatus},
};

/// A process on the same machine answers at once or is stuck.
const LIMIT: Duration = Duration::from_millis(500);

/// Remembers the last look, to tell rates.
#[derive(Default)]
pub struct Observer {
    requests: BTreeMap<String, (Instant, f64)>,
}

impl Observer {
    /// Looks at every cluster.
    pub async fn look(&mut self, plan: &Plan, processes: Vec<ProcessStatus>) -> Vec<ClusterStatus> {
        let looks = plan.clusters.iter().map(|cluster| {
            let own = processes.iter().filter(|process| process.cluster == cluster.name).cloned().collect();
            look_at(cluster, own)
        });
        let mut clusters = Vec::new();
        for (mut cluster, requests) in join_all(looks).await {
            cluster.requests_per_second = self.rate(cluster.name.as_str(), requests);
            clusters.push(cluster);
        }
        clusters
    }

    /// Counters fall when a sidecar is new; that is no negative rate.
    fn rate(&mut self, cluster: &str, requests: f64) -> f64 {
        let now = Instant::now();
        let before = self.requests.insert(cluster.to_owned(), (now, requests));
        before.map_or(0.0, |(then, before)| {
            let seconds = now.duration_since(then).as_secs_f64();
            if seconds > 0.0 { ((requests - before) / seconds).max(0.0) } else { 0.0 }
        })
    }
}

async fn look_at(cluster: &ClusterPlan, mut processes: Vec<ProcessStatus>) -> (ClusterStatus, f64) {
    let ready = join_all(processes.iter().map(ready));
    let requests = join_all(processes.iter().filter(|p| p.role == Role::Proxy && is_running(p)).map(requests));
    let (ready, requests, links, refused, verbs) =
        tokio::join!(ready, requests, links(cluster), refused(cluster), verbs(cluster));
    for (process, ready) in processes.iter_mut().zip(ready) {
        process.ready = ready;
    }
    let status = ClusterStatus {
        name: cluster.name.clone(),
        region: cluster.region.clone(),
        processes,
        requests_per_second: 0.0,
        links,
        refused,
        verbs,
    };
    // A sum of nothing would be -0.
    (status, requests.iter().fold(0.0, |sum, one| sum + one))
}

fn is_running(process: &ProcessStatus) -> bool {
    process.state == ProcessState::Running
}

/// Whether a process says that it is ready; `None`: it says nothing.
pub(crate) async fn ready(process: &ProcessStatus) -> Option<bool> {
    if process.role == Role::App || !is_running(process) {
        return None;
    }
    let answer = get(SocketAddr::new(process.address, HEALTH_PORT), "/healthz/ready").await;
    Some(answer.is_some_and(|answer| answer.status.is_success()))
}

async fn requests(sidecar: &ProcessStatus) -> f64 {
    match get(SocketAddr::new(sidecar.address, METRICS_PORT), "/metrics").await {
        Some(answer) => sent(&String::from_utf8_lossy(&answer.body)),
        None => 0.0,
    }
}

/// Requests that a sidecar sent, of its Prometheus text.
fn sent(metrics: &str) -> f64 {
    let source = |line: &&str| line.starts_with("istio_requests_total{") && line.contains("reporter=\"source\"");
    let count = |line: &str| line.rsplit_once(' ').and_then(|(_, count)| count.parse::<f64>().ok());
    metrics.lines().filter(source).filter_map(count).sum()
}

/// A list of what the cluster's control knows; empty when it does not answer.
async fn known(cluster: &ClusterPlan, path: &str) -> Vec<Value> {
    let Some(answer) = get(SocketAddr::new(cluster.addresses().control(), ADMIN_PORT), path).await else {
        return Vec::new();
    };
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

async fn refused(cluster: &ClusterPlan) -> Vec<String> {
    let files = known(cluster, "/api/config").await;
    let faults = files.iter().filter_map(|file| file.get("errors")?.as_array()).flatten();
    faults.map(fault).collect()
}

/// `file:line: field: reason`, without what is not known.
fn fault(fault: &Value) -> String {
    let line = fault.get("line").and_then(Value::as_u64).filter(|line| *line > 0);
    let line = line.map_or_else(String::new, |line| format!(":{line}"));
    let field = Some(text(fault, "field")).filter(|field| !field.is_empty());
    let field = field.map_or_else(String::new, |field| format!("{field}: "));
    format!("{}{line}: {field}{}", text(fault, "file"), text(fault, "reason"))
}

async fn verbs(cluster: &ClusterPlan) -> Vec<String> {
    known(cluster, "/api/verbs").await.iter().map(verb).collect()
}

/// `what, by whom at where: why`: the same of every cluster that knows it.
fn verb(verb: &Value) -> String {
    let why = Some(text(verb, "reason")).filter(|why| !why.is_empty());
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    format!("{}, by {} at {}{why}", text(verb, "what"), text(verb, "by"), text(verb, "writer"))
}

async fn links(cluster: &ClusterPlan) -> Vec<Link> {
    let clusters = known(cluster, "/api/clusters").await;
    let others = clusters.iter().filter(|other| text(other, "name") != cluster.name.as_str());
    others.map(link).collect()
}

fn link(other: &Value) -> Link {
    let number = |key: &str| other.get(key).and_then(Value::as_u64).unwrap_or(0);
    Link {
        to: text(other, "name"),
        standing: text(other, "standing"),
        share: other.get("share").and_then(Value::as_f64).unwrap_or(0.0),
        rtt_us: number("rtt_us"),
        loss_ppm: number("loss_ppm"),
        transport: text(other, "transport"),
        why: text(other, "why"),
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

async fn get(to: SocketAddr, path: &str) -> Option<admin::Answer> {
    let request = http::Request::get(path).header(http::header::HOST, to.to_string()).body(Full::default()).ok()?;
    admin::exchange(to, request, LIMIT).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_without_what_is_not_known() {
        let whole = serde_json::json!({"file": "a.yaml", "line": 9, "field": "spec.ports", "reason": "not a list"});
        assert_eq!(fault(&whole), "a.yaml:9: spec.ports: not a list");
        let file = serde_json::json!({"file": "a.yaml", "line": 0, "field": "", "reason": "too large"});
        assert_eq!(fault(&file), "a.yaml: too large");
    }

    #[test]
    fn a_verb_is_one_line_with_its_reason_if_it_has_one() {
        let mut drain = serde_json::json!({"what": "drain of eu over 10m", "by": "ann", "writer": "us", "reason": ""});
        assert_eq!(verb(&drain), "drain of eu over 10m, by ann at us");
        drain["reason"] = "kernel".into();
        assert_eq!(verb(&drain), "drain of eu over 10m, by ann at us: kernel");
    }

    #[test]
    fn only_what_a_sidecar_sent_itself_counts() {
        let metrics = "# TYPE istio_requests_total counter\n\
                       istio_requests_total{reporter=\"source\",a=\"b\"} 3\n\
                       istio_requests_total{reporter=\"source\",a=\"c\"} 4\n\
                       istio_requests_total{reporter=\"destination\"} 50\n";
        assert!((sent(metrics) - 7.0).abs() < f64::EPSILON);
    }
}
