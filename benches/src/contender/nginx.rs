//! nginx as a hop and as a pair, and as the backend of all: keep-alive on both sides, its counters (`stub_status`) on, no access log.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Case, Running, WORKERS};
use crate::{
    certificates::NAME,
    counters::Counter,
    http::Target,
    process::Process,
    yard::{Yard, address},
};

/// What each server block of a hop has besides its listener: an upstream pool wide enough for the load on either worker.
const FORWARD: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;";

/// Where the counters of a process are.
const STATUS: u16 = 8081;

/// Starts nginx for `case`.
///
/// # Errors
/// A file cannot be written or nginx not be started.
pub fn start(case: Case, yard: &Yard) -> Result<Running> {
    let (entry, status) = (SocketAddr::from((address(3, 1), 8080)), SocketAddr::from((address(3, 1), STATUS)));
    let (measured, counted) = match case {
        Case::Hop => (vec![run(yard, "nginx", &hop(entry, yard.backend), status)?], vec![status]),
        Case::Pair => {
            let middle = SocketAddr::from((address(3, 2), 15006));
            let behind = SocketAddr::from((address(3, 2), STATUS));
            let server = run(yard, "nginx-server", &inbound(middle, yard), behind)?;
            let client = run(yard, "nginx-client", &outbound(entry, middle, yard), status)?;
            (vec![server, client], vec![behind, status])
        }
    };
    let counter = |address: SocketAddr| Counter::nginx(Target { address, host: address.to_string() });
    Ok(Running {
        target: Target { address: entry, host: "backend".to_owned() },
        measured,
        aside: Vec::new(),
        counters: counted.into_iter().map(counter).collect(),
    })
}

fn hop(entry: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "upstream next {{ server {backend}; keepalive 64; keepalive_requests 100000000; }}
         server {{ listen {entry} reuseport; keepalive_requests 100000000; location / {{ {FORWARD} proxy_pass http://next; }} }}"
    )
}

fn inbound(entry: SocketAddr, yard: &Yard) -> String {
    let file = |name| yard.certificates.path(name);
    let (root, leaf, key, backend) = (file("root.pem"), file("server.pem"), file("server.key"), yard.backend);
    format!(
        "upstream next {{ server {backend}; keepalive 64; keepalive_requests 100000000; }}
         server {{ listen {entry} ssl reuseport; keepalive_requests 100000000; ssl_protocols TLSv1.3;
           ssl_certificate {leaf}; ssl_certificate_key {key}; ssl_client_certificate {root}; ssl_verify_client on;
           location / {{ {FORWARD} proxy_pass http://next; }} }}"
    )
}

fn outbound(entry: SocketAddr, middle: SocketAddr, yard: &Yard) -> String {
    let file = |name| yard.certificates.path(name);
    let (root, leaf, key) = (file("root.pem"), file("client.pem"), file("client.key"));
    format!(
        "upstream next {{ server {middle}; keepalive 64; keepalive_requests 100000000; }}
         server {{ listen {entry} reuseport; keepalive_requests 100000000;
           location / {{ {FORWARD} proxy_pass https://next; proxy_ssl_protocols TLSv1.3; proxy_ssl_certificate {leaf};
             proxy_ssl_certificate_key {key}; proxy_ssl_trusted_certificate {root}; proxy_ssl_verify on; proxy_ssl_name {NAME}; }} }}"
    )
}

fn run(yard: &Yard, name: &str, servers: &str, status: SocketAddr) -> Result<Process> {
    let directory = yard.directory(name)?;
    let servers = format!("{servers}\nserver {{ listen {status}; location = /status {{ stub_status; }} }}");
    let config = write_config(&directory, WORKERS, &servers)?;
    Process::start(name, &directory, Command::new(&yard.tools.nginx).args(arguments(&directory, &config)))
}

/// Writes a whole configuration around server blocks.
///
/// # Errors
/// The file cannot be written.
pub fn write_config(directory: &Path, workers: usize, servers: &str) -> Result<PathBuf> {
    let (path, home) = (directory.join("nginx.conf"), directory.display());
    let text = format!(
        "user root; daemon off; worker_processes {workers}; pid {home}/pid; error_log {home}/error.log warn;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_timeout 300s; default_type text/plain; client_body_temp_path {home}/t1; proxy_temp_path {home}/t2;
fastcgi_temp_path {home}/t3; uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
{servers} }}\n"
    );
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// nginx's arguments for a configuration in its own directory.
#[must_use]
pub fn arguments(directory: &Path, config: &Path) -> Vec<String> {
    let words = ["-p".to_owned(), directory.display().to_string(), "-c".to_owned(), config.display().to_string()];
    words.into_iter().chain(["-e".to_owned(), directory.join("error.log").display().to_string()]).collect()
}
