//! `isthmus link`: the emulated network of a mesh on this machine.

use anyhow::Result;
use isthmus_scenarios::{
    socket::{self, Question},
    state::StateDir,
    wan::{
        links::{Row, Scope},
        settings::Change,
    },
};
use serde_json::{Value, json};

use crate::{
    args::{Link, LinkSet as Set, Output},
    out, table,
};

pub async fn run(state: &StateDir, command: Link) -> Result<()> {
    let (question, done, output) = match command {
        Link::List(output) => return list(state, output).await,
        Link::Set(set) => {
            let Set { ends, faults, output } = *set;
            (Question::Link { scope: ends.into(), change: faults.into() }, "changed", output)
        }
        Link::Cut { ends, output } => (Question::Link { scope: ends.into(), change: Change::cut() }, "cut", output),
        Link::Heal { cluster, other, one_way, output } => {
            (Question::Heal { scope: Scope { one: cluster, other, one_way } }, "healed", output)
        }
    };
    let answer = socket::ask(state, &question).await?;
    let (Question::Link { scope, .. } | Question::Heal { scope }) = question else { return Ok(()) };
    let count = answer.get("changed").and_then(Value::as_u64).unwrap_or(0);
    out::line(if output.is_for_people() { said(done, count, &scope) } else { told(done, count, &scope)? });
    Ok(())
}

/// What was done, for people.
fn said(done: &str, count: u64, scope: &Scope) -> String {
    let noun = if count == 1 { "direction" } else { "directions" };
    format!("{done} {count} {noun} of the network {}", words(scope))
}

/// And for programs.
fn told(done: &str, count: u64, scope: &Scope) -> Result<String> {
    Ok(serde_json::to_string_pretty(&json!({ "done": done, "directions": count, "scope": scope }))?)
}

/// Which links a scope means.
fn words(scope: &Scope) -> String {
    match (&scope.one, &scope.other) {
        (Some(one), Some(other)) if scope.one_way => format!("from {one} to {other}"),
        (Some(one), Some(other)) => format!("between {one} and {other}"),
        (Some(one), None) if scope.one_way => format!("from {one} to all others"),
        (Some(one), None) => format!("between {one} and all others"),
        _ => "between all clusters".into(),
    }
}

async fn list(state: &StateDir, output: Output) -> Result<()> {
    let rows = socket::ask(state, &Question::Links).await?;
    let columns: [table::Column; 13] = [
        ("FROM", |row| table::field(row, "from")),
        ("TO", |row| table::field(row, "to")),
        ("NETWORK", network),
        ("PASSED", |row| count(row, "passed")),
        ("UNDER WAY", |row| count(row, "under_way")),
        ("LOST", |row| count(row, "lost")),
        ("QUEUE FULL", |row| count(row, "queue_full")),
        ("CUT", |row| count(row, "cut")),
        ("UDP/MTU", |row| format!("{}/{}", count(row, "udp"), count(row, "too_large"))),
        ("OVERRUN", |row| count(row, "overrun")),
        ("CLOSED", |row| count(row, "closed")),
        ("FOREIGN", |row| count(row, "foreign")),
        ("UNTAKEN", |row| count(row, "untaken")),
    ];
    table::print(&rows, output, &columns)?;
    let seed = rows.as_array().and_then(|rows| rows.first()).map(|row| table::field(row, "seed"));
    if let Some(seed) = seed.filter(|_| output.is_for_people()) {
        out::line(format_args!(
            "\nwhat is random follows from the seed {seed} (isthmus up --emulate-wan --seed {seed})"
        ));
    }
    Ok(())
}

fn network(row: &Value) -> String {
    let row = serde_json::from_value::<Row>(row.clone());
    row.map_or_else(|_| String::new(), |row| row.settings.to_string())
}

fn count(row: &Value, key: &str) -> String {
    row.get("counts").map_or_else(String::new, |counts| table::field(counts, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_said_in_words() {
        let name = |text: &str| Some(text.parse().unwrap());
        let scope = |one, other, one_way| words(&Scope { one, other, one_way });
        assert_eq!(scope(name("a"), name("b"), true), "from a to b");
        assert_eq!(scope(name("a"), name("b"), false), "between a and b");
        assert_eq!(scope(name("a"), None, true), "from a to all others");
        assert_eq!(scope(name("a"), None, false), "between a and all others");
        assert_eq!(scope(None, None, false), "between all clusters");
        assert_eq!(said("cut", 1, &Scope::default()), "cut 1 direction of the network between all clusters");
    }

    #[test]
    fn programs_get_what_was_done_as_json() {
        let scope = Scope { one: Some("a".parse().unwrap()), other: None, one_way: true };
        let told: Value = serde_json::from_str(&told("healed", 2, &scope).unwrap()).unwrap();
        let scope = json!({ "one": "a", "other": null, "one_way": true });
        assert_eq!(told, json!({ "done": "healed", "directions": 2, "scope": scope }));
    }
}
