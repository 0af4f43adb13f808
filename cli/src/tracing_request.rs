//! `isthmus trace`: a real request, and every hop of it.

use anyhow::{Context, Result, bail};
use isthmus_core::name::ServiceName;
use isthmus_scenarios::admin;
use serde_json::Value;

use crate::{
    args::Trace,
    listing::parse_service,
    reach::{Control, Reach},
    table::{self, Column, field},
};

pub async fn run(reach: &Reach, trace: Trace) -> Result<()> {
    let (workload, cluster) = trace.from.split_once('@').with_context(|| {
        format!("{:?} names no workload; write it as workload@cluster, such as curl@us-east", trace.from)
    })?;
    let origin = reach.origin(workload, cluster).await?;
    let target = Target::parse(&trace.to)?;
    let port = match target.port {
        Some(port) => port,
        None => first_port(&origin.control, &target.service).await?,
    };
    let host = target.service.clusterset_host();
    let path = format!("/trace?host={host}&port={port}&path={}", escape(&target.path));
    let hops = admin::read(origin.sidecar, &path)
        .await
        .with_context(|| format!("the sidecar of {} did not trace {host}:{port}", origin.name))?;
    let list = hops.get("hops").cloned().unwrap_or(hops);
    table::print(&list, trace.output, &HOPS)?;
    match failing(&list) {
        Some(hop) => bail!("it fails at {}: {}", field(hop, "hop"), field(hop, "error")),
        None => Ok(()),
    }
}

/// `details.bookinfo[:port][/path]`, or `bookinfo/details[:port][/path]`.
struct Target {
    service: ServiceName,
    port: Option<u16>,
    path: String,
}

impl Target {
    fn parse(text: &str) -> Result<Self> {
        let slash = if text.split(['/', ':']).next().is_some_and(|first| first.contains('.')) { 0 } else { 1 };
        let cut = text.match_indices('/').nth(slash).map_or(text.len(), |(at, _)| at);
        let (name, path) = text.split_at(cut);
        let (name, port) = match name.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().with_context(|| format!("{port:?} is no port"))?)),
            None => (name, None),
        };
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Ok(Self { service: parse_service(name)?, port, path })
    }
}

/// The service's first port, as its cluster's control has it.
async fn first_port(control: &Control, service: &ServiceName) -> Result<u16> {
    let services = admin::read(control.admin, "/api/services").await?;
    let list = services.as_array().cloned().unwrap_or_default();
    let named = |row: &&Value| ["service", "name"].iter().any(|key| field(row, key) == service.to_string());
    let row = list
        .iter()
        .find(named)
        .with_context(|| format!("{} knows no service {service}; `isthmus services` lists them", control.name))?;
    let first = row.get("ports").and_then(Value::as_array).and_then(|ports| ports.first());
    let port = match first {
        Some(Value::String(text)) => text.split(['/', ':']).find_map(|part| part.parse().ok()),
        Some(port) => port.get("port").unwrap_or(port).as_u64().and_then(|port| u16::try_from(port).ok()),
        None => None,
    };
    port.with_context(|| format!("{service} has no port"))
}

fn escape(path: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn failing(list: &Value) -> Option<&Value> {
    list.as_array()?.iter().find(|hop| hop.get("ok") == Some(&Value::Bool(false)))
}

const HOPS: [Column; 6] = [
    ("HOP", |row| field(row, "hop")),
    ("WHAT", |row| field(row, "what")),
    ("TIME", |row| table::micros(row.get("micros").and_then(Value::as_u64).unwrap_or(0))),
    ("OK", |row| field(row, "ok")),
    ("IDENTITY", |row| field(row, "identity")),
    ("DETAIL", |row| {
        let error = field(row, "error");
        if error == "-" { field(row, "detail") } else { error }
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_service_with_port_and_path_if_need_be() {
        for (text, port, path) in [
            ("details.bookinfo", None, "/"),
            ("bookinfo/details", None, "/"),
            ("details.bookinfo:9080", Some(9080), "/"),
            ("details.bookinfo/details/0", None, "/details/0"),
            ("bookinfo/details:1/a?b", Some(1), "/a?b"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.service.to_string(), "bookinfo/details", "{text}");
            assert_eq!((target.port, target.path.as_str()), (port, path), "{text}");
        }
        assert_eq!(escape("/a?b=c d"), "/a%3Fb%3Dc%20d");
    }
}
