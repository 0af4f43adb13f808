//! What operators do, as all clusters together know it: each control tells of every verb whether it binds its cluster;
//! here the same verb of several is one.

use std::collections::BTreeMap;

use isthmus_control::failover::rows::VerbRow;
use isthmus_core::resource::duration;
use serde::Serialize;

use super::clock::span;

/// A verb.
#[derive(Clone, Debug, Serialize)]
pub struct InForce {
    /// Its name.
    pub name: String,
    /// What it does.
    pub what: String,
    /// The service it is about; none: all.
    pub service: Option<String>,
    /// The cluster that it was done in.
    pub writer: String,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, Unix milliseconds by the writer's clock.
    pub at_ms: u64,
    /// When it ends by itself, seconds from now.
    pub ends_in_seconds: u64,
    /// What it leaves of the share, 0 to 1.
    pub leaves: f64,
    /// Whether it is not in the log yet.
    pub local: bool,
    /// Clusters that it binds.
    pub binds: Vec<String>,
    /// Clusters that know it, and that it does not bind.
    pub free: Vec<String>,
    /// Of a drill: clusters that gave it up, and why.
    pub given_up: BTreeMap<String, String>,
    /// The command that ends it.
    pub undo: String,
}

/// Merges what each cluster says; the writer's own word counts where it is there.
pub fn merged(said: &[(String, Vec<VerbRow>)]) -> Vec<InForce> {
    let mut merged = BTreeMap::<_, InForce>::new();
    for (cluster, row) in said.iter().flat_map(|(cluster, rows)| rows.iter().map(move |row| (cluster, row))) {
        let key = (row.at_ms, row.writer.clone(), row.name.clone());
        let one = merged.entry(key).or_insert_with(|| InForce::of(row));
        if row.writer == *cluster {
            one.ends_in_seconds = rest(row);
        }
        one.local |= row.local;
        if row.binds {
            one.binds.push(cluster.clone());
            one.leaves = one.leaves.min(row.leaves);
        } else {
            one.free.push(cluster.clone());
        }
        one.given_up.extend(row.given_up.clone().map(|why| (cluster.clone(), why)));
    }
    merged.into_values().collect()
}

fn rest(row: &VerbRow) -> u64 {
    duration::parse(&row.lasts).map_or(0, |lasts| lasts.as_secs().saturating_sub(row.elapsed_seconds))
}

impl InForce {
    fn of(row: &VerbRow) -> Self {
        Self {
            name: row.name.clone(),
            what: row.what.clone(),
            service: row.service.clone(),
            writer: row.writer.clone(),
            by: row.by.clone(),
            reason: row.reason.clone(),
            at_ms: row.at_ms,
            ends_in_seconds: rest(row),
            leaves: 1.0,
            local: false,
            binds: vec![],
            free: vec![],
            given_up: BTreeMap::new(),
            undo: undo(&row.verb, row.service.as_deref(), &row.cluster),
        }
    }
}

/// The command that ends a verb.
pub fn undo(verb: &str, service: Option<&str>, cluster: &str) -> String {
    match (verb, service) {
        ("evacuate", Some(service)) => format!("isthmus service restore {service} --from {cluster}"),
        ("pin", Some(service)) => format!("isthmus service unpin {service}"),
        _ => format!("isthmus cluster undrain {cluster}"),
    }
}

/// A line.
pub fn line(one: &InForce) -> String {
    let mut line = format!("{}, by {} at {}", one.what, one.by, one.writer);
    if !one.reason.is_empty() {
        line.push_str(&format!(": {}", one.reason));
    }
    if one.local {
        line.push_str("; local: it is not in the federation's log yet");
    }
    match one.binds.is_empty() {
        true => line.push_str("; in force nowhere"),
        false => line.push_str(&format!("; in force in {}", one.binds.join(", "))),
    }
    if !one.free.is_empty() {
        line.push_str(&format!(", not in {}", one.free.join(", ")));
    }
    if one.leaves < 1.0 {
        line.push_str(&format!("; leaves {:.0} %", one.leaves * 100.0));
    }
    for (cluster, why) in &one.given_up {
        line.push_str(&format!("; {cluster} gave it up: {why}"));
    }
    line.push_str(&format!("; ends in {}, at once by: {}", span(one.ends_in_seconds), one.undo));
    line
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn row(writer: &str, binds: bool) -> VerbRow {
        VerbRow {
            name: "drain-eu".into(),
            what: "drain of eu over 10m".into(),
            verb: "drain".into(),
            service: None,
            cluster: "eu".into(),
            writer: writer.into(),
            by: "ann@desk".into(),
            reason: "kernel".into(),
            at_ms: 7,
            elapsed_seconds: 60,
            lasts: "2h".into(),
            leaves: if binds { 0.4 } else { 1.0 },
            binds,
            local: false,
            given_up: None,
        }
    }

    #[test]
    fn one_verb_of_several_clusters_is_one_and_the_writers_count_is_its() {
        let mut own = row("east", true);
        (own.local, own.elapsed_seconds) = (true, 120);
        let said = [
            ("west".into(), vec![row("east", true)]),
            ("east".into(), vec![own]),
            ("eu".into(), vec![row("east", false)]),
        ];
        let merged = merged(&said);
        assert_eq!(merged.len(), 1);
        assert_eq!(
            line(&merged[0]),
            "drain of eu over 10m, by ann@desk at east: kernel; local: it is not in the federation's log yet; \
             in force in west, east, not in eu; leaves 40 %; ends in 1h 58m, at once by: isthmus cluster undrain eu"
        );
        assert_eq!(undo("drill", None, "eu"), "isthmus cluster undrain eu");
    }

    #[test]
    fn the_same_verb_of_two_writers_is_two_and_each_has_its_undo() {
        let said = [("east".into(), vec![row("east", true), row("eu", true)])];
        assert_eq!(merged(&said).len(), 2);
        assert_eq!(undo("evacuate", Some("shop/cart"), "eu"), "isthmus service restore shop/cart --from eu");
        assert_eq!(undo("pin", Some("shop/cart"), "eu"), "isthmus service unpin shop/cart");
    }
}
