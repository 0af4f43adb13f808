//! Listings: what a cluster's control knows, as a table or as JSON.

use anyhow::{Context, Result, bail};
use isthmus_core::name::ServiceName;
use isthmus_scenarios::admin;
use serde_json::Value;

use crate::{
    args::{Form, Listing, Look},
    reach::Reach,
    table::{self, Column, field},
};

pub async fn run(reach: &Reach, listing: Listing) -> Result<()> {
    match listing {
        Listing::Clusters(look) => print(reach, &look, "/api/clusters", &CLUSTERS).await,
        Listing::Services(look) => print(reach, &look, "/api/services", &SERVICES).await,
        Listing::ProxyStatus(look) => print(reach, &look, "/api/proxies", &PROXIES).await,
        Listing::Config(look) if look.output.output == Form::Json => print(reach, &look, "/api/config", &[]).await,
        Listing::Config(look) => {
            let files = ask(reach, &look, "/api/config").await?;
            table::print(&per_fault(&files), look.output, &CONFIG)
        }
        Listing::Endpoints { service, look } => {
            let service = parse_service(&service)?;
            let control = reach.control(&look.place).await?;
            let list = rows(admin::read(control, &format!("/api/endpoints?service={service}")).await?);
            if list.as_array().is_some_and(Vec::is_empty) {
                bail!("nothing answers for {service}; `isthmus services` lists what is known there");
            }
            table::print(&list, look.output, &ENDPOINTS)
        }
    }
}

async fn print(reach: &Reach, look: &Look, path: &str, columns: &[Column]) -> Result<()> {
    table::print(&ask(reach, look, path).await?, look.output, columns)
}

async fn ask(reach: &Reach, look: &Look, path: &str) -> Result<Value> {
    let control = reach.control(&look.place).await?;
    Ok(rows(admin::read(control, path).await.with_context(|| format!("control at {control} did not answer"))?))
}

/// A row a file that is good, and one for each thing that is wrong with another.
fn per_fault(files: &Value) -> Value {
    let of_file = |file: &Value| {
        let faults = file.get("errors").and_then(Value::as_array).cloned().unwrap_or_default();
        let row = |fault: &Value| {
            let mut row = file.clone();
            if let (Some(row), Some(fault)) = (row.as_object_mut(), fault.as_object()) {
                row.extend(fault.iter().filter(|(key, _)| *key != "file").map(|(k, v)| (k.clone(), v.clone())));
            }
            row
        };
        if faults.is_empty() { vec![file.clone()] } else { faults.iter().map(row).collect() }
    };
    Value::Array(files.as_array().into_iter().flatten().flat_map(of_file).collect())
}

/// `reviews.bookinfo`, `bookinfo/reviews`, or a whole host name.
pub fn parse_service(text: &str) -> Result<ServiceName> {
    if let Some((service, _)) = ServiceName::from_host(text) {
        return Ok(service);
    }
    if text.contains('/') {
        return Ok(text.parse()?);
    }
    match text.split_once('.') {
        Some((name, namespace)) => Ok(ServiceName::new(namespace, name)?),
        None => bail!("{text:?} names no service; write it as reviews.bookinfo or bookinfo/reviews"),
    }
}

/// Lists may come inside an object.
pub fn rows(answer: Value) -> Value {
    match answer {
        Value::Object(mut fields) if fields.len() == 1 => {
            fields.values_mut().next().map_or(Value::Null, std::mem::take)
        }
        other => other,
    }
}

fn micros(row: &Value) -> String {
    table::micros(row.get("rtt_us").and_then(Value::as_u64).unwrap_or(0))
}

fn percent(row: &Value) -> String {
    row.get("share").and_then(Value::as_f64).map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0))
}

fn loss(row: &Value) -> String {
    let ppm = row.get("loss_ppm").and_then(Value::as_f64);
    ppm.map_or_else(|| "-".into(), |ppm| format!("{:.2} %", ppm / 1e4))
}

fn in_force(row: &Value) -> String {
    let is = |name: &str| row.get(name).and_then(Value::as_bool).unwrap_or(false);
    let word = match (is("in_force"), is("former")) {
        (false, _) => "no",
        (true, false) => "yes",
        (true, true) => "an earlier text",
    };
    word.into()
}

const CLUSTERS: [Column; 9] = [
    ("CLUSTER", |row| field(row, "name")),
    ("REGION", |row| field(row, "region")),
    ("ZONES", |row| field(row, "zones")),
    ("STANDING", |row| field(row, "standing")),
    ("SHARE", percent),
    ("RTT", micros),
    ("LOSS", loss),
    ("VIA", |row| field(row, "transport")),
    ("WHY", |row| field(row, "why")),
];

const SERVICES: [Column; 7] = [
    ("SERVICE", |row| field(row, "service")),
    ("PORTS", |row| field(row, "ports")),
    ("CLUSTERSET", |row| field(row, "clusterset")),
    ("GLOBAL", |row| field(row, "global")),
    ("EXPORTED", |row| field(row, "exported")),
    ("HERE", |row| field(row, "local_usable")),
    ("ELSEWHERE", |row| field(row, "remote_usable")),
];

const ENDPOINTS: [Column; 7] = [
    ("CLUSTER", |row| field(row, "cluster")),
    ("LOCALITY", |row| field(row, "locality")),
    ("ENDPOINT", |row| field(row, "endpoint")),
    ("ADDRESS", |row| field(row, "address")),
    ("STATE", |row| field(row, "state")),
    ("LABELS", |row| field(row, "labels")),
    ("IDENTITIES", |row| field(row, "identities")),
];

const CONFIG: [Column; 5] = [
    ("FILE", |row| field(row, "file")),
    ("IN FORCE", in_force),
    ("LINE", |row| field(row, "line")),
    ("FIELD", |row| field(row, "field")),
    ("WHAT IS WRONG", |row| field(row, "reason")),
];

const PROXIES: [Column; 7] = [
    ("NAME", |row| field(row, "name")),
    ("ROLE", |row| field(row, "role")),
    ("ZONE", |row| field(row, "zone")),
    ("CONNECTED", |row| field(row, "connected")),
    ("SENT", |row| field(row, "sent")),
    ("ACKED", |row| field(row, "acked")),
    ("REFUSALS", refusals),
];

/// What it refuses of the feed, and what control refuses of its registration.
fn refusals(row: &Value) -> String {
    let registration = field(row, "registration_refused");
    match (field(row, "refusals").as_str(), registration.as_str()) {
        (feed, "-") => feed.to_owned(),
        ("-", _) => format!("registration: {registration}"),
        (feed, _) => format!("{feed}; registration: {registration}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_named_in_any_of_its_ways() {
        for text in ["reviews.bookinfo", "bookinfo/reviews", "reviews.bookinfo.svc.clusterset.local"] {
            assert_eq!(parse_service(text).unwrap().to_string(), "bookinfo/reviews", "{text}");
        }
        assert!(parse_service("reviews").unwrap_err().to_string().contains("names no service"));
    }

    #[test]
    fn refusals_are_shown_whoever_refused_and_each_fault_of_a_file_has_its_row() {
        let row = |feed: Value, registration: Value| {
            refusals(&json!({"refusals": feed, "registration_refused": registration}))
        };
        assert_eq!(row(json!({}), Value::Null), "-");
        assert_eq!(row(json!({"service/a/b": "no such subset"}), Value::Null), "service/a/b=no such subset");
        assert_eq!(row(json!({}), json!("another has the name")), "registration: another has the name");
        let fault = json!({"file": "a.yaml", "line": 3, "field": "spec", "reason": "missing"});
        let files = json!([
            {"file": "a.yaml", "in_force": true, "former": false, "errors": [fault, fault]},
            {"file": "b.yaml", "in_force": true, "former": true, "errors": [fault]},
            {"file": "c.yaml", "in_force": false, "former": false, "errors": []},
        ]);
        let listed = table::render(&per_fault(&files), &CONFIG).unwrap();
        let rows = listed.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>();
        let partly = ["a.yaml", "yes", "3", "spec", "missing"];
        let former = ["b.yaml", "an", "earlier", "text", "3", "spec", "missing"];
        assert_eq!(rows, [&partly[..], &partly, &former, &["c.yaml", "no", "-", "-", "-"]]);
    }
}
