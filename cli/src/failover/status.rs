//! `isthmus failover status`: a row a service and importing cluster, the verbs in force above; of one service also every
//! place that may serve it.

use std::{collections::BTreeMap, fmt::Display};

use anyhow::{Result, bail};
use isthmus_control::failover::rows::{FailoverRow, PlaceRow, VerbRow};
use serde::Serialize;

use super::{
    clock::span,
    controls::{Controls, Silent, told},
    in_force::{InForce, merged},
    verbs,
};
use crate::{
    args::{Form, Look},
    listing::parse_service,
    out,
    reach::Reach,
    table,
};

/// All of it, as programs get it.
#[derive(Debug, Serialize)]
struct Seen {
    verbs: Vec<InForce>,
    rows: Vec<FailoverRow>,
    silent: Vec<Silent>,
}

pub async fn run(reach: &Reach, service: Option<&str>, look: &Look) -> Result<()> {
    let service = service.map(parse_service).transpose()?.map(|service| service.to_string());
    let controls = Controls::of(reach, &look.place).await?;
    let (rows, verbs) = tokio::try_join!(
        controls.ask::<Vec<FailoverRow>>("/api/failover"),
        controls.ask::<Vec<VerbRow>>("/api/verbs")
    )?;
    let mut seen = Seen {
        verbs: merged(&verbs.said),
        rows: sorted(rows.said.into_iter().flat_map(|(_, rows)| rows), service.as_deref()),
        silent: rows.silent,
    };
    if let Some(service) = &service {
        if seen.rows.is_empty() {
            bail!("no cluster that answers knows a service {service}; `isthmus services` lists what is known");
        }
        seen.verbs.retain(|verb| verb.service.as_ref().is_none_or(|about| about == service));
    }
    if look.output.output == Form::Json {
        out::line(serde_json::to_string_pretty(&seen)?);
        return Ok(());
    }
    out::raw(&drawn(&seen, service.is_some()));
    Ok(())
}

/// By service, the importers in the mesh's order.
fn sorted(rows: impl Iterator<Item = FailoverRow>, service: Option<&str>) -> Vec<FailoverRow> {
    let mut rows: Vec<_> = rows.filter(|row| service.is_none_or(|service| row.service == service)).collect();
    rows.sort_by(|a, b| a.service.cmp(&b.service));
    rows
}

fn drawn(seen: &Seen, with_places: bool) -> String {
    let mut text = told(&seen.silent);
    text.push_str(&verbs::lines(&seen.verbs));
    if !text.is_empty() {
        text.push('\n');
    }
    let headings = ["SERVICE", "IMPORTER", "IN USE", "TIER", "SINCE", "POLICY", "WHY", "WOULD CHANGE WHEN"];
    text.push_str(&table::of(&headings, seen.rows.iter().map(row)));
    text.push('\n');
    for row in seen.rows.iter().filter(|_| with_places) {
        text.push_str(&places(row));
    }
    text
}

fn row(row: &FailoverRow) -> Vec<String> {
    let in_use = if row.in_use.is_empty() { "nowhere".into() } else { row.in_use.clone() };
    let policy = row.policies.first().map_or("default", String::as_str);
    vec![
        row.service.clone(),
        row.importer.clone(),
        in_use,
        dash(&row.tier),
        span(row.since_seconds),
        policy.into(),
        dash(&row.why),
        dash(&row.next),
    ]
}

/// Every place of a service, as an importing cluster sends to it.
fn places(row: &FailoverRow) -> String {
    let headings =
        ["CLUSTER", "TIER", "PART", "SHARE", "HEALTHY", "LIMIT", "KEPT BACK", "REQ/S", "ERRORS", "P90", "SINCE", "WHY"];
    let table = table::of(&headings, row.places.iter().map(place));
    let mut text = format!("\n{} from {}\n{table}\n", row.service, row.importer);
    for (cluster, why) in &row.excluded {
        text.push_str(&format!("! {cluster} is not used: {why}\n"));
    }
    if row.refused_per_second > 0.0 {
        text.push_str(&format!(
            "! {:.1} requests a second are refused: no place may take them\n",
            row.refused_per_second
        ));
    }
    if row.policies.len() > 1 {
        text.push_str(&format!("policies for it, the first binds: {}\n", row.policies.join(", ")));
    }
    text
}

fn place(one: &PlaceRow) -> Vec<String> {
    vec![
        one.cluster.clone(),
        dash(&one.tier),
        percent(one.part),
        percent(one.share),
        format!("{}/{}", one.healthy, one.total),
        one.limit.map_or_else(|| "-".into(), |limit| format!("{limit:.1}")),
        if one.limit.is_none() { "-".into() } else { format!("{:.1}/s", one.kept_back_per_second) },
        format!("{:.1}", one.requests_per_second),
        format!("{:.1} %", one.error_rate * 100.0),
        if one.p90_ms == 0 { "-".into() } else { format!("{} ms", one.p90_ms) },
        span(one.since_seconds),
        dash(&one.why),
    ]
}

/// A part of one, in hundredths.
pub fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// `us-east 60 %, us-west 40 %`.
pub fn parts<Cluster: Display>(of: &BTreeMap<Cluster, f64>) -> String {
    let mut parts: Vec<_> = of.iter().collect();
    parts.sort_by(|a, b| b.1.total_cmp(a.1));
    let words = parts.into_iter().map(|(cluster, part)| format!("{cluster} {}", percent(*part))).collect::<Vec<_>>();
    if words.is_empty() { "nowhere".into() } else { words.join(", ") }
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn place_of(cluster: &str, part: f64) -> PlaceRow {
        PlaceRow {
            tier: "near".into(),
            cluster: cluster.into(),
            part,
            share: 1.0,
            healthy: 2,
            total: 3,
            why: "path and lease hold".into(),
            next: String::new(),
            since_seconds: 70,
            limit: None,
            kept_back_per_second: 0.0,
            requests_per_second: 10.0 * part,
            error_rate: 0.0,
            p90_ms: 4,
        }
    }

    pub fn row_of(service: &str, importer: &str, places: Vec<PlaceRow>) -> FailoverRow {
        FailoverRow {
            service: service.into(),
            importer: importer.into(),
            in_use: places.first().map(|place| place.cluster.clone()).unwrap_or_default(),
            tier: "near".into(),
            why: "path and lease hold".into(),
            since_seconds: 200,
            next: String::new(),
            policies: vec![],
            places,
            excluded: [("mars".parse().unwrap(), "region mars is not allowed".to_owned())].into(),
            refused_per_second: 0.0,
        }
    }

    #[test]
    fn services_are_in_order_and_every_silent_control_and_verb_is_above_them() {
        let rows = [
            row_of("shop/cart", "us", vec![place_of("eu", 1.0)]),
            row_of("shop/a", "us", vec![]),
            row_of("shop/cart", "eu", vec![place_of("eu", 1.0)]),
        ];
        let verb = super::super::in_force::tests::row("us", true);
        let seen = Seen {
            verbs: merged(&[("us".into(), vec![verb])]),
            rows: sorted(rows.into_iter(), None),
            silent: vec![Silent { cluster: "ap".into(), why: "refused".into() }],
        };
        let text = drawn(&seen, false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "! the control of ap does not answer: refused");
        assert!(lines[1].starts_with("» drain of eu over 10m"), "{text}");
        let cells = |line: usize| lines[line].split_whitespace().take(3).collect::<Vec<_>>();
        assert_eq!(
            [cells(4), cells(5), cells(6)],
            [["shop/a", "us", "nowhere"], ["shop/cart", "us", "eu"], ["shop/cart", "eu", "eu"]]
        );
        assert!(lines[5].contains("3m 20s") && lines[5].contains("default"), "{text}");
    }

    #[test]
    fn one_service_shows_its_places_and_what_must_not_be_used() {
        let mut limited = place_of("eu", 0.25);
        (limited.limit, limited.kept_back_per_second) = (Some(12.5), 3.0);
        let row = row_of("shop/cart", "us", vec![place_of("us", 0.75), limited]);
        let text = places(&row);
        let cells = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(cells(1), "shop/cart from us");
        assert_eq!(cells(4), "eu near 25 % 100 % 2/3 12.5 3.0/s 2.5 0.0 % 4 ms 1m 10s path and lease hold");
        assert_eq!(cells(5), "! mars is not used: region mars is not allowed");
        assert_eq!(sorted([row].into_iter(), Some("shop/other")).len(), 0);
    }
}
