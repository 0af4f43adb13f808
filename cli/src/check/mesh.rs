//! Pure: what the mesh says of itself: the member of the federation; control of the other clusters, of the proxies, and of
//! what it refuses.

use std::collections::BTreeSet;

use isthmus_kubernetes::client::SYSTEM_NAMESPACE;
use serde_json::Value;

use super::finding::Finding;
use crate::{
    rollout::{list, text},
    table::{field, micros, plain},
};

/// Answers of admin endpoints; none: it did not answer, which is a finding already.
#[derive(Debug, Default)]
pub struct Mesh {
    /// The member's `/status`.
    pub member: Option<Value>,
    /// Control's clusters.
    pub clusters: Option<Value>,
    /// Control's proxies.
    pub proxies: Option<Value>,
    /// What control reads, and refuses.
    pub config: Option<Value>,
}

/// `pods`: those that there are, by name and namespace.
pub fn verdicts(mesh: &Mesh, pods: &BTreeSet<String>) -> Vec<Finding> {
    let mut all = vec![];
    all.extend(mesh.member.iter().flat_map(member));
    all.extend(mesh.clusters.iter().flat_map(|rows| list(rows, "").iter().filter_map(link)));
    all.extend(mesh.clusters.iter().flat_map(releases));
    all.extend(mesh.proxies.iter().flat_map(|rows| proxies(rows, pods)));
    all.extend(mesh.config.iter().flat_map(config));
    all
}

fn truth(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool) == Some(true)
}

fn member(status: &Value) -> Vec<Finding> {
    const WHAT: &str = "Federation";
    if !truth(status, "joined") {
        return vec![Finding::warning(WHAT, "this cluster is in no mesh yet").remedy(
            "`isthmus token create --context OTHER --cluster THIS | isthmus join --context THIS -`; the first cluster \
             begins the mesh by making a token",
        )];
    }
    let own = text(status, "/cluster");
    let members: Vec<_> =
        list(status, "/members").iter().filter(|one| !truth(one, "ejected")).map(|one| text(one, "/cluster")).collect();
    if !members.contains(&own) {
        return vec![
            Finding::error(WHAT, format!("{own} was put out of mesh {}", text(status, "/mesh")))
                .remedy("`isthmus uninstall`, install it again, and join with a new token"),
        ];
    }
    let quorum = if truth(status, "quorum") {
        let leader = field(status, "leader");
        Finding::ok(
            WHAT,
            format!("{own} is one of {} clusters of mesh {}; {leader} leads", members.len(), text(status, "/mesh")),
        )
    } else {
        let voters = field(status, "voters");
        let why =
            format!("most of the voters ({voters}) are not reached: traffic goes on, and nobody may join or leave");
        Finding::error(WHAT, why).remedy(
            "bring their clusters, or the way to them, back; of two clusters `isthmus cluster vote` gives one the only vote",
        )
    };
    let sessions: Vec<_> = list(status, "/sessions").iter().map(plain).collect();
    let reached = |name: &&str| sessions.iter().any(|session| session == name);
    let silent = members.iter().filter(|name| **name != own && !reached(name));
    let silent = silent.map(|name| {
        Finding::warning(format!("Member of {name}"), "no session leads to it")
            .remedy(format!("is {name} up, and are its gateways reached at 15443 TCP? (`isthmus check` there)"))
    });
    std::iter::once(quorum).chain(silent).collect()
}

/// The way to another cluster.
fn link(row: &Value) -> Option<Finding> {
    if truth(row, "own") {
        return None;
    }
    let what = format!("Cluster {}", text(row, "/name"));
    let (standing, why) = (text(row, "/standing"), text(row, "/why"));
    let rtt = micros(row.get("rtt_us").and_then(Value::as_u64).unwrap_or(0));
    let path = format!("{standing}, by {}, {rtt}", field(row, "transport"));
    Some(match standing {
        "alive" if text(row, "/transport") == "tcp" => Finding::note(what, format!("{path}: {why}"))
            .remedy("UDP at 15443 does not get through, so tunnels go over TCP; open it for QUIC"),
        "alive" => Finding::ok(what, path),
        "returning" => Finding::note(what, format!("{path}: {why}")),
        "dead" | "cutOff" | "unknown" => Finding::error(what, format!("{path}: {why}")).remedy(format!(
            "is it up, and are its gateways ({}) reached from here at 15443 UDP and TCP?",
            field(row, "gateways")
        )),
        _ => Finding::warning(what, format!("{path}: {why}")).remedy("`isthmus check` in that cluster says more"),
    })
}

/// Clusters of another release than the own one.
fn releases(rows: &Value) -> Vec<Finding> {
    let rows = list(rows, "");
    let Some(own) = rows.iter().find(|row| truth(row, "own")).map(|row| text(row, "/release")) else { return vec![] };
    let others = rows.iter().filter(|row| !["", own].contains(&text(row, "/release")));
    let differs = |row: &Value| {
        let why = format!("{}, and this cluster is of {own}", text(row, "/release"));
        Finding::note(format!("Release of {}", text(row, "/name")), why).remedy("`isthmus upgrade` in the older one")
    };
    others.map(differs).collect()
}

fn proxies(rows: &Value, pods: &BTreeSet<String>) -> Vec<Finding> {
    // Control remembers for a while those whose pods are gone; gateways go by the name of their pod alone.
    let is_there = |row: &&Value| {
        let name = text(row, "/name");
        truth(row, "connected") || pods.contains(name) || pods.contains(&format!("{name}.{SYSTEM_NAMESPACE}"))
    };
    let rows: Vec<_> = list(rows, "").iter().filter(is_there).collect();
    let wrong: Vec<_> = rows.iter().filter_map(|row| proxy(row)).collect();
    if wrong.is_empty() {
        return vec![Finding::ok("Proxies", format!("{} are connected and have what control says", rows.len()))];
    }
    wrong
}

fn proxy(row: &Value) -> Option<Finding> {
    let what = format!("Proxy {}", text(row, "/name"));
    let refusals = row.get("refusals").filter(|refusals| refusals.as_object().is_some_and(|all| !all.is_empty()));
    if let Some(refused) = row.get("registration_refused").and_then(Value::as_str) {
        return Some(
            Finding::error(what, format!("control refuses its registration: {refused}")).remedy("restart its pod"),
        );
    }
    if let Some(refusals) = refusals {
        let why = format!("it refuses of what control says: {}", plain(refusals));
        return Some(Finding::error(what, why).remedy("it may be of another release: restart its pod"));
    }
    if !truth(row, "connected") {
        let why = "it is not connected to control, and goes on with what it has";
        return Some(
            Finding::warning(what, why)
                .remedy("may it reach port 15012 of Service isthmus-control? Its log says why not"),
        );
    }
    (row.get("sent") != row.get("acked")).then(|| {
        Finding::note(what, format!("it has not taken all up yet ({} of {})", field(row, "acked"), field(row, "sent")))
    })
}

fn config(rows: &Value) -> Vec<Finding> {
    let rows = list(rows, "");
    let mut wrong = vec![];
    for row in rows {
        let what = text(row, "/file");
        for error in list(row, "/errors") {
            let place = text(error, "/field");
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            let (reason, kind) = (text(error, "/reason"), text(error, "/kind"));
            let is_in_force = truth(row, "in_force") && !matches!(kind, "void" | "conflicted");
            let found = if kind == "overridden" {
                Finding::note(what, format!("{place}{reason}"))
            } else if matches!(kind, "noService" | "noSubset" | "noCluster" | "noCapacity") {
                // It may come, and the rest of the object is in force.
                Finding::warning(what, format!("{place}{reason}"))
            } else if truth(row, "former") {
                Finding::error(what, format!("refused: {place}{reason}; what it said before holds"))
            } else if is_in_force {
                Finding::error(what, format!("{place}{reason}; the rest of it is in force"))
            } else {
                Finding::error(what, format!("refused: {place}{reason}"))
            };
            wrong.push(found.remedy(format!("`kubectl edit {}` and put that right", edit(what))));
        }
    }
    if wrong.is_empty() {
        wrong.push(Finding::ok("Configuration", format!("{} objects are in force, none is refused", rows.len())));
    }
    wrong
}

/// `Service/a/b` as kubectl takes it.
fn edit(file: &str) -> String {
    match file.split('/').collect::<Vec<_>>().as_slice() {
        [kind, namespace, name] => format!("-n {namespace} {} {name}", kind.to_lowercase()),
        [kind, name] => format!("{} {name}", kind.to_lowercase()),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::finding::Severity;

    fn status(changes: Value) -> Value {
        let member = |name: &str| json!({ "cluster": name, "ejected": false });
        let mut status = json!({
            "joined": true, "cluster": "east", "mesh": "mesh.local", "quorum": true, "leader": "east", "voters": ["east"],
            "members": [member("east"), member("west")], "sessions": ["west"],
        });
        status.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        status
    }

    fn severities(findings: &[Finding]) -> Vec<Severity> {
        findings.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn a_member_that_is_alone_out_or_without_most_of_the_others_says_so() {
        assert_eq!(severities(&member(&status(json!({})))), [Severity::Ok]);
        assert_eq!(severities(&member(&json!({ "joined": false }))), [Severity::Warning]);
        assert_eq!(severities(&member(&status(json!({ "quorum": false })))), [Severity::Error]);
        let silent = member(&status(json!({ "sessions": [] })));
        assert!(silent[1].what == "Member of west" && silent[1].severity == Severity::Warning);
        let ejected = member(&status(json!({ "members": [{ "cluster": "east", "ejected": true }] })));
        assert!(ejected[0].why.contains("put out of mesh"));
    }

    #[test]
    fn another_cluster_is_told_with_its_standing_and_its_path() {
        let row = |standing: &str, transport: &str| json!({ "name": "west", "own": false, "standing": standing, "transport": transport, "rtt_us": 1200, "why": "lease lost", "gateways": ["a:15443"] });
        assert_eq!(link(&row("alive", "quic")).unwrap(), Finding::ok("Cluster west", "alive, by quic, 1.2 ms"));
        assert_eq!(link(&row("alive", "tcp")).unwrap().severity, Severity::Note);
        assert_eq!(link(&row("blind", "quic")).unwrap().severity, Severity::Warning);
        let dead = link(&row("dead", "")).unwrap();
        assert!(dead.severity == Severity::Error && dead.remedy.unwrap().contains("a:15443"));
        assert_eq!(link(&json!({ "own": true })), None);
    }

    #[test]
    fn clusters_of_another_release_are_told() {
        let row = |name: &str, own: bool, release: &str| json!({ "name": name, "own": own, "release": release });
        let rows = json!([
            row("east", true, "0.2.0"),
            row("west", false, "0.1.0"),
            row("north", false, "0.2.0"),
            row("new", false, "")
        ]);
        let found = releases(&rows);
        assert_eq!(severities(&found), [Severity::Note]);
        assert_eq!(
            (found[0].what.as_str(), found[0].why.as_str()),
            ("Release of west", "0.1.0, and this cluster is of 0.2.0")
        );
    }

    #[test]
    fn proxies_that_are_away_behind_or_in_doubt_are_named() {
        let row = |connected: bool, acked: u64, refusals: Value| json!([{ "name": "p.b", "connected": connected, "sent": 2, "acked": acked, "refusals": refusals, "registration_refused": null }]);
        let judged = [
            row(true, 2, json!({})),
            row(false, 2, json!({})),
            row(true, 1, json!({})),
            row(true, 2, json!({ "a": "b" })),
        ];
        let judge = |rows: &Value, pod: &str| proxies(rows, &BTreeSet::from([pod.to_owned()]));
        assert_eq!(severities(&judge(&judged[1], "q.b")), [Severity::Ok], "its pod is gone");
        let judged: Vec<_> =
            judged.iter().flat_map(|rows| judge(rows, "p.b")).map(|finding| finding.severity).collect();
        assert_eq!(judged, [Severity::Ok, Severity::Warning, Severity::Note, Severity::Error]);
    }

    #[test]
    fn what_is_refused_is_told_with_field_and_reason() {
        let rows = json!([{ "file": "FailoverPolicy/a/b", "in_force": true, "former": true, "errors": [{ "field": "spec.tiers", "reason": "is empty" }] }]);
        let found = config(&rows);
        assert_eq!(found[0].why, "refused: spec.tiers: is empty; what it said before holds");
        assert!(found[0].remedy.as_deref().unwrap().contains("-n a failoverpolicy b"));
        let partly = json!([{ "file": "Service/a/b", "in_force": true, "errors": [{ "kind": "invalid", "field": "metadata", "reason": "odd" }] }]);
        assert_eq!(config(&partly)[0].why, "metadata: odd; the rest of it is in force");
        let void = json!([{ "file": "VirtualService/a/b", "in_force": true, "errors": [{ "kind": "conflicted", "reason": "c has it" }] }]);
        assert_eq!(config(&void)[0].why, "refused: c has it");
        let missing = json!([{ "file": "VirtualService/a/b", "in_force": true, "errors": [{ "kind": "noService", "reason": "no Service a/c" }] }]);
        let found = config(&missing);
        assert_eq!((found[0].severity, found[0].why.as_str()), (Severity::Warning, "no Service a/c"));
        let late = json!([{ "file": "FailoverPolicy/a/b", "in_force": true, "errors": [{ "kind": "overridden", "reason": "c is first" }] }]);
        assert_eq!(severities(&config(&late)), [Severity::Note]);
        assert_eq!(severities(&config(&json!([{ "file": "a", "in_force": true, "errors": [] }]))), [Severity::Ok]);
    }
}
