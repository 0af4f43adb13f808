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
use serde_json::Value;

use crate::{
    args::{Link, Output},
    out, table,
};

pub async fn run(state: &StateDir, command: Link) -> Result<()> {
    let (question, done) = match command {
        Link::List(output) => return list(state, output).await,
        Link::Set(set) => {
            let (scope, change) = (set.ends.into(), set.faults.into());
            (Question::Link { scope, change }, "changed")
        }
        Link::Cut { ends } => (Question::Link { scope: ends.into(), change: Change::cut() }, "cut"),
        Link::Heal { cluster, other, one_way } => {
            (Question::Heal { scope: Scope { one: cluster, other, one_way } }, "healed")
        }
    };
    let answer = socket::ask(state, &question).await?;
    let (Question::Link { scope, .. } | Question::Heal { scope }) = question else { return Ok(()) };
    let count = answer.get("changed").and_then(Value::as_u64).unwrap_or(0);
    let noun = if count == 1 { "direction" } else { "directions" };
    out::line(format_args!("{done} {count} {noun} of the network {}", words(&scope)));
    Ok(())
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
    let columns: [table::Column; 9] = [
        ("FROM", |row| table::field(row, "from")),
        ("TO", |row| table::field(row, "to")),
        ("NETWORK", network),
        ("PASSED", |row| count(row, "passed")),
        ("UNDER WAY", |row| count(row, "under_way")),
        ("LOST", |row| count(row, "lost")),
        ("QUEUE FULL", |row| count(row, "queue_full")),
        ("CUT", |row| count(row, "cut")),
        ("UDP/MTU", |row| format!("{}/{}", count(row, "udp"), count(row, "too_large"))),
    ];
    table::print(&rows, output, &columns)
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
    }
}
