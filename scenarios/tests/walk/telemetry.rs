//! What was called before is told by both sides: metrics under Istio's names and labels, lines in Envoy's format.

use std::collections::BTreeSet;

use crate::{
    PATIENCE,
    support::{
        Raised, eventually,
        load::get,
        prometheus::{self, Scrape},
        url,
    },
};

/// Istio's standard labels (Istio documentation, "Istio Standard Metrics").
const LABELS: &str = "reporter source_workload source_workload_namespace source_principal source_app source_version \
    source_cluster source_canonical_service source_canonical_revision destination_workload \
    destination_workload_namespace destination_principal destination_app destination_version destination_cluster \
    destination_canonical_service destination_canonical_revision destination_service destination_service_name \
    destination_service_namespace request_protocol response_flags connection_security_policy";
const OF_REQUESTS: &str = "response_code grpc_response_status";

/// us-west's `curl` has called the echo of other clusters by every protocol.
pub async fn both_sides_tell_of_every_request(mesh: &Raised) {
    // What is none of the mesh's is passed on, and told of too.
    let outside = format!("http://{}:15020/metrics", mesh.cluster("us-west").addresses().control());
    assert_eq!(get(mesh.curl("us-west"), &outside).await.expect("it is passed on").status, 200);
    let nowhere = url("nobody", "/");
    assert_eq!(get(mesh.curl("us-west"), &nowhere).await.expect("it is refused").status, 404);
    every_role_gives_metrics_that_a_strict_reader_takes(mesh).await;
    eventually("both sides have told the same", PATIENCE, || async {
        let source = prometheus::parse(&mesh.metrics("us-west", "curl").await);
        let mut destinations = vec![];
        for (cluster, workload) in [("us-east", "echo-v1-b"), ("eu-west", "echo-v1-a"), ("eu-west", "echo-v2-b")] {
            destinations.push(prometheus::parse(&mesh.metrics(cluster, workload).await));
        }
        told_alike(&source, &destinations)
    })
    .await;
    details_are_named_whole(&prometheus::parse(&mesh.metrics("us-east", "curl").await));
    lines_are_in_envoys_format(mesh);
}

async fn every_role_gives_metrics_that_a_strict_reader_takes(mesh: &Raised) {
    for cluster in &mesh.mesh.plan.clusters {
        let sidecars = cluster.workloads.iter().map(|workload| workload.name.as_str());
        for process in ["control", "federation", "gateway"].into_iter().chain(sidecars) {
            let scrape = prometheus::parse(&mesh.metrics(cluster.name.as_str(), process).await);
            assert!(scrape.samples.iter().any(|one| one.name == "isthmus_build_info"), "{process} says who it is");
            standard_labels_are_whole(&scrape);
        }
    }
}

fn standard_labels_are_whole(scrape: &Scrape) {
    for sample in scrape.samples.iter().filter(|one| one.name.starts_with("istio_")) {
        let mut expected: BTreeSet<_> = LABELS.split_whitespace().collect();
        if !sample.name.starts_with("istio_tcp_") {
            expected.extend(OF_REQUESTS.split_whitespace());
        }
        let labels: BTreeSet<_> = sample.labels.keys().map(String::as_str).filter(|name| *name != "le").collect();
        assert_eq!(labels, expected, "{}", sample.name);
        for side in ["source_cluster", "destination_cluster"] {
            assert!(!["", "unknown"].contains(&sample.label(side)), "{side}: {sample:?}");
        }
    }
}

/// The destinations' sums of what us-west's `curl` sent are the source's.
fn told_alike(source: &Scrape, destinations: &[Scrape]) -> anyhow::Result<()> {
    let caller = [
        ("source_workload", "curl"),
        ("source_cluster", "us-west"),
        ("source_principal", "spiffe://us-west.mesh.local/ns/bookinfo/sa/bookinfo-curl"),
        ("destination_app", "echo"),
    ];
    let both = |name: &str, more: &[(&str, &str)]| {
        let labels = |reporter, policy| {
            let own = [("reporter", reporter), ("connection_security_policy", policy)];
            [&caller[..], &own, more].concat()
        };
        let sent = source.sum(name, &labels("source", "unknown"));
        let received = destinations.iter().map(|one| one.sum(name, &labels("destination", "mutual_tls"))).sum::<f64>();
        (sent, received)
    };
    for (name, more) in [
        ("istio_requests_total", &[("request_protocol", "http"), ("response_code", "200")][..]),
        ("istio_requests_total", &[("request_protocol", "http"), ("response_code", "101")]),
        ("istio_requests_total", &[("request_protocol", "grpc"), ("grpc_response_status", "0")]),
        ("istio_requests_total", &[("request_protocol", "grpc"), ("grpc_response_status", "3")]),
        ("istio_request_duration_milliseconds_count", &[("request_protocol", "grpc")]),
        ("istio_request_bytes_sum", &[("request_protocol", "grpc")]),
        ("istio_request_bytes_sum", &[("request_protocol", "http"), ("response_code", "101")]),
        ("istio_response_bytes_sum", &[("request_protocol", "grpc")]),
        ("istio_response_bytes_sum", &[("request_protocol", "http"), ("response_code", "101")]),
        ("istio_tcp_connections_opened_total", &[("request_protocol", "tcp")]),
        ("istio_tcp_connections_closed_total", &[("request_protocol", "tcp")]),
        ("istio_tcp_received_bytes_total", &[("request_protocol", "tcp")]),
        ("istio_tcp_sent_bytes_total", &[("request_protocol", "tcp")]),
    ] {
        let (sent, received) = both(name, more);
        anyhow::ensure!(sent > 0.0 && sent == received, "{name} {more:?}: {sent} sent, {received} received");
    }
    let open = |what: &str| source.sum(&format!("istio_tcp_connections_{what}_total"), &[]);
    anyhow::ensure!(open("opened") == open("closed"), "{} and {}", open("opened"), open("closed"));
    Ok(())
}

fn details_are_named_whole(source: &Scrape) {
    let details = [
        ("reporter", "source"),
        ("source_workload", "curl"),
        ("source_workload_namespace", "bookinfo"),
        ("source_app", "curl"),
        ("source_version", "unknown"),
        ("source_cluster", "us-east"),
        ("source_canonical_service", "curl"),
        ("source_canonical_revision", "latest"),
        ("destination_workload", "details-v1-b"),
        ("destination_workload_namespace", "bookinfo"),
        ("destination_principal", "spiffe://us-west.mesh.local/ns/bookinfo/sa/bookinfo-details"),
        ("destination_app", "details"),
        ("destination_version", "v1"),
        ("destination_cluster", "us-west"),
        ("destination_canonical_service", "details"),
        ("destination_canonical_revision", "v1"),
        ("destination_service", "details.bookinfo.svc.clusterset.local"),
        ("destination_service_name", "details"),
        ("destination_service_namespace", "bookinfo"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
    ];
    assert!(source.sum("istio_requests_total", &details) > 0.0, "{details:?}");
}

/// `[start] "method path protocol" code flags received sent duration - "forwarded for" "user agent" "request id"
/// "authority" "upstream"`.
fn lines_are_in_envoys_format(mesh: &Raised) {
    let path = mesh.mesh.state.access_log(&mesh.cluster("us-west").name, "curl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut kinds = BTreeSet::new();
    for line in text.lines() {
        let parts: Vec<_> = line.split('"').collect();
        assert_eq!(parts.len(), 13, "{line}");
        let (start, request, numbers) = (parts[0], parts[1], parts[2].split_whitespace().collect::<Vec<_>>());
        assert!(start.starts_with("[20") && start.ends_with("Z] ") && start.len() == 27, "{line}");
        assert_eq!(request.split(' ').count(), 3, "{line}");
        let [code, flags, received, sent, duration, service] = numbers[..] else { panic!("{line}") };
        assert!([code, received, sent, duration].iter().all(|number| number.parse::<u64>().is_ok()), "{line}");
        assert!(service == "-" && flags.chars().all(|char| char.is_ascii_uppercase() || char == '-'), "{line}");
        let protocol = request.rsplit(' ').next().expect("a protocol");
        kinds.insert(format!("{protocol} {code} {flags}"));
        let empty_chat = code == "101" && (received == "0" || sent == "0");
        assert!(!empty_chat, "what passed after the switch counts: {line}");
    }
    for kind in ["HTTP/1.1 200 -", "HTTP/1.1 101 -", "HTTP/1.1 504 UT", "HTTP/2 200 -", "- 0 -"] {
        assert!(kinds.contains(kind), "no {kind} in {kinds:?}");
    }
}
