//! `link` as a person types it, against the links of a network whose packets nobody sends: what is typed reaches them as it
//! is meant, and what they say is told. The network itself, which needs root, is in `scenarios/tests/wan`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
};

use isthmus_scenarios::{
    socket::Question,
    state::StateDir,
    wan::{
        links::{End, Links},
        settings::Settings,
    },
};
use serde_json::{Value, json};
use support::Yard;

const LIST: &[&str] = &["link", "list", "-o", "json"];

/// Answers as a mesh does whose network this is.
fn answer(stream: &UnixStream, links: &Links) {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let answer = match serde_json::from_str(&line).unwrap() {
        Question::Links => Ok(serde_json::to_value(links.rows()).unwrap()),
        Question::Link { scope, change } => links.change(&scope, &change).map(|changed| json!({ "changed": changed })),
        Question::Heal { scope } => links.heal(&scope).map(|changed| json!({ "changed": changed })),
        other => Err(anyhow::anyhow!("nobody here knows {other:?}")),
    };
    let answer = answer.map_or_else(|why| json!({ "error": why.to_string() }), |answer| json!({ "ok": answer }));
    writeln!(&*stream, "{answer}").unwrap();
}

/// Three clusters, 5 ms from one to the other.
fn raised(yard: &Yard) {
    let end = |(name, number): (&str, u8)| End { name: name.parse().unwrap(), number };
    let like = |_: &End, _: &End| Settings { delay_us: 5_000, ..Settings::default() };
    let links = Links::new(7, [("east", 1), ("west", 2), ("north", 3)].map(end).to_vec(), like);
    std::fs::create_dir(yard.state()).unwrap();
    let listener = UnixListener::bind(StateDir::at(&yard.state()).unwrap().socket()).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(|stream| answer(&stream.unwrap(), &links)));
}

/// The directions that are not what they were.
fn changed(yard: &Yard) -> Vec<String> {
    let rows: Value = serde_json::from_str(&yard.says(LIST)).unwrap();
    let changed = rows.as_array().unwrap().iter().filter(|row| row["changed"] == true);
    changed.map(|row| format!("{}>{}", row["from"].as_str().unwrap(), row["to"].as_str().unwrap())).collect()
}

#[test]
fn links_are_changed_cut_and_healed_as_it_is_typed() {
    let yard = Yard::new(0);
    raised(&yard);
    let said = yard.says(&["link", "set", "east", "west", "--delay", "80ms", "--loss", "2", "--rate", "10mbit"]);
    assert_eq!(said, "changed 2 directions of the network between east and west\n");
    assert_eq!(changed(&yard), ["east>west", "west>east"]);
    let said = yard.says(&["link", "cut", "north", "--one-way"]);
    assert_eq!(said, "cut 2 directions of the network from north to all others\n");
    assert_eq!(changed(&yard), ["east>west", "west>east", "north>east", "north>west"]);
    let told: Value = serde_json::from_str(&yard.says(&["link", "heal", "west", "-o", "json"])).unwrap();
    assert_eq!((&told["done"], &told["directions"]), (&json!("healed"), &json!(4)));
    assert_eq!(changed(&yard), ["north>east"]);
    assert_eq!(yard.says(&["link", "heal"]), "healed 6 directions of the network between all clusters\n");
    assert!(changed(&yard).is_empty());
}

#[test]
fn a_list_reads_as_the_network_is_and_what_cannot_be_is_refused_in_one_line() {
    let yard = Yard::new(0);
    raised(&yard);
    yard.says(&["link", "set", "east", "west", "--one-way", "--loss", "0.5", "--udp", "blocked"]);
    let list = yard.says(&["link", "list"]);
    let row = |from: &str, to: &str| {
        let words = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
        let mut rows = list.lines().map(words).filter(|row| row.len() > 2 && row[0] == from && row[1] == to);
        rows.next().unwrap_or_else(|| panic!("no row from {from} to {to}:\n{list}")).join(" ")
    };
    assert!(row("east", "west").starts_with("east west 5 ms, 0.5 % lost, UDP blocked 0"), "{list}");
    assert!(row("west", "east").starts_with("west east 5 ms 0"), "{list}");
    assert!(list.ends_with("follows from the seed 7 (isthmus up --emulate-wan --seed 7)\n"), "{list}");
    let refused = yard.refuses(&["link", "cut", "east", "mars"]);
    assert!(refused.contains("no cluster mars in this network; there are east, west, north"), "{refused}");
    let refused = yard.refuses(&["link", "set", "east", "east", "--loss", "1"]);
    assert!(refused.contains("a link has two ends, and east is one"), "{refused}");
    assert_eq!(changed(&yard), ["east>west"], "what is refused changes nothing");
}
