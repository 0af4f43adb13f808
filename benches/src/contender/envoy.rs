//! Envoy as a hop and as a pair: router filter only, statistics on as by default, no access log, two workers.
//!
//! In the pair both ends hold a P-256 leaf, speak TLS 1.3 and accept only the other's SPIFFE id, as our sidecars do.

use std::{net::SocketAddr, process::Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Case, Running, WORKERS};
use crate::{
    certificates::{CLIENT, SERVER},
    http::Target,
    process::Process,
    yard::{Yard, address},
};

/// Starts Envoy for `case`.
///
/// # Errors
/// A file cannot be written or Envoy not be started.
pub fn start(case: Case, yard: &Yard) -> Result<Running> {
    let entry = SocketAddr::from((address(2, 1), 8080));
    let measured = match case {
        Case::Hop => vec![run(yard, "envoy", &listener(entry, None), &cluster(yard.backend, None))?],
        Case::Pair => {
            let middle = SocketAddr::from((address(2, 2), 15006));
            let server = listener(middle, Some(tls(yard, "server", CLIENT, "DownstreamTlsContext")));
            let client = cluster(middle, Some(tls(yard, "client", SERVER, "UpstreamTlsContext")));
            vec![
                run(yard, "envoy-server", &server, &cluster(yard.backend, None))?,
                run(yard, "envoy-client", &listener(entry, None), &client)?,
            ]
        }
    };
    Ok(Running {
        target: Target { address: entry, host: "backend".to_owned() },
        measured,
        aside: Vec::new(),
        metrics: None,
    })
}

fn run(yard: &Yard, name: &str, listener: &Value, cluster: &Value) -> Result<Process> {
    let directory = yard.directory(name)?;
    let path = directory.join("envoy.json");
    let config = json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } });
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

fn tls(yard: &Yard, own: &str, peer: &str, kind: &str) -> Value {
    let file = |name: &str| json!({ "filename": yard.certificates.path(name) });
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
