//! Envoy as a hop and as a pair: router filter only, statistics on as by default, no access log, two workers.
//!
//! In the pair both ends hold a P-256 leaf, speak TLS 1.3 and accept only the other's SPIFFE id, as our sidecars do.

use std::{net::SocketAddr, process::Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Case, Running, WORKERS};
use crate::{
    certificates::{CLIENT, Certificates, SERVER},
    counters::Counter,
    http::Target,
    process::Process,
    yard::{Yard, address},
};

/// Where the counters of a process are.
const ADMIN: u16 = 15000;

/// Starts Envoy for `case`.
///
/// # Errors
/// A file cannot be written or Envoy not be started.
pub fn start(case: Case, yard: &Yard) -> Result<Running> {
    let (entry, admin) = (SocketAddr::from((address(2, 1), 8080)), SocketAddr::from((address(2, 1), ADMIN)));
    let (measured, counted) = match case {
        Case::Hop => {
            let config = bootstrap(admin, &listener(entry, None), &cluster(yard.backend, None));
            (vec![run(yard, "envoy", &config)?], vec![admin])
        }
        Case::Pair => {
            let middle = SocketAddr::from((address(2, 2), 15006));
            let behind = SocketAddr::from((address(2, 2), ADMIN));
            let server = listener(middle, Some(tls(&yard.certificates, "server", CLIENT, "DownstreamTlsContext")));
            let client = cluster(middle, Some(tls(&yard.certificates, "client", SERVER, "UpstreamTlsContext")));
            let server = run(yard, "envoy-server", &bootstrap(behind, &server, &cluster(yard.backend, None)))?;
            let client = run(yard, "envoy-client", &bootstrap(admin, &listener(entry, None), &client))?;
            (vec![server, client], vec![behind, admin])
        }
    };
    let counter = |address: SocketAddr| Counter::envoy(Target { address, host: address.to_string() });
    Ok(Running {
        target: Target { address: entry, host: "backend".to_owned() },
        measured,
        aside: Vec::new(),
        counters: counted.into_iter().map(counter).collect(),
    })
}

fn bootstrap(admin: SocketAddr, listener: &Value, cluster: &Value) -> Value {
    json!({
        "admin": { "address": socket(admin) },
        "static_resources": { "listeners": [listener], "clusters": [cluster] },
    })
}

fn run(yard: &Yard, name: &str, config: &Value) -> Result<Process> {
    let directory = yard.directory(name)?;
    let path = directory.join("envoy.json");
    std::fs::write(&path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new(&yard.tools.envoy);
    command.arg("-c").arg(&path).args([
        "--concurrency",
        &WORKERS.to_string(),
        "--disable-hot-restart",
        "-l",
        "warning",
    ]);
    Process::start(name, &directory, &mut command)
}

fn socket(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

fn listener(at: SocketAddr, tls: Option<Value>) -> Value {
    let route = json!({ "name": "local", "virtual_hosts": [{
        "name": "backend", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "next" } }],
    }] });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress", "codec_type": "HTTP1", "route_config": route,
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    let mut chain =
        json!({ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] });
    add_tls(&mut chain, tls);
    json!({ "name": "entry", "address": socket(at), "filter_chains": [chain] })
}

fn cluster(next: SocketAddr, tls: Option<Value>) -> Value {
    let endpoint = json!({ "endpoint": { "address": socket(next) } });
    let mut cluster = json!({
        "name": "next", "type": "STATIC", "connect_timeout": "2s", "lb_policy": "LEAST_REQUEST",
        "load_assignment": { "cluster_name": "next", "endpoints": [{ "lb_endpoints": [endpoint] }] },
    });
    add_tls(&mut cluster, tls);
    cluster
}

fn add_tls(to: &mut Value, tls: Option<Value>) {
    if let (Some(tls), Some(object)) = (tls, to.as_object_mut()) {
        object.insert(
            "transport_socket".to_owned(),
            json!({ "name": "envoy.transport_sockets.tls", "typed_config": tls }),
        );
    }
}

fn tls(certificates: &Certificates, own: &str, peer: &str, kind: &str) -> Value {
    let file = |name: &str| json!({ "filename": certificates.path(name) });
    let common = json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{ "certificate_chain": file(&format!("{own}.pem")), "private_key": file(&format!("{own}.key")) }],
        "validation_context": { "trusted_ca": file("root.pem"),
            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": peer } }] },
    });
    let mut context = json!({
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"), "common_tls_context": common,
    });
    if kind == "DownstreamTlsContext"
        && let Some(object) = context.as_object_mut()
    {
        object.insert("require_client_certificate".to_owned(), json!(true));
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_pair_take_only_the_other_and_log_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::create(directory.path()).unwrap();
        let at = SocketAddr::from((address(2, 2), 15006));
        for (own, peer, kind) in [("server", CLIENT, "DownstreamTlsContext"), ("client", SERVER, "UpstreamTlsContext")]
        {
            let context = tls(&certificates, own, peer, kind);
            let names = context.pointer("/common_tls_context/validation_context/match_typed_subject_alt_names/0");
            assert_eq!(names.unwrap()["matcher"]["exact"], peer);
            assert_eq!(context.get("require_client_certificate").is_some(), own == "server");
            let whole = bootstrap(at, &listener(at, Some(context.clone())), &cluster(at, Some(context)));
            assert!(whole.pointer("/static_resources/clusters/0/transport_socket").is_some());
            assert!(whole.pointer("/static_resources/listeners/0/filter_chains/0/transport_socket").is_some());
            assert!(!whole.to_string().contains("access_log"));
        }
    }
}
