//! Failover as an operator has it: what is in force, what would happen, what happened, and how it is taken back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Output,
};

use rustix::process::Signal;
use serde_json::Value;
use support::{Yard, wait};

const DRAIN: &[&str] = &["cluster", "drain", "us-west", "--over", "0s", "--for", "2h", "--reason", "a new kernel"];

#[test]
fn an_operator_drains_looks_drills_and_takes_it_back() {
    let yard = Yard::new(164);
    let said = yard.says(&["up", "--clusters", "3", "--detach"]);
    assert!(said.contains("isthmus failover status"), "{said}");
    wait("us-east takes reviews from itself and knows the others", || is_used(&yard, "us-east", "us-east", 3));
    what_is_unknown_is_refused_with_its_remedy(&yard);
    what_would_happen_is_told_without_a_packet(&yard);
    a_drain_is_in_force_everywhere_and_seen(&yard);
    what_is_simulated_is_what_a_drain_does(&yard);
    a_drain_of_one_cluster_by_itself_is_taken_back_where_it_was_done(&yard);
    a_service_is_evacuated_pinned_and_given_back(&yard);
    a_drill_reports_and_leaves_nothing_behind(&yard);
    a_drill_stops_when_requests_fail(&yard);
    without_a_quorum_it_is_said_who_keeps_what_was_taken_back(&yard);
    an_operator_is_asked_before_the_first_cluster(&yard);
    who_does_not_answer_is_named(&yard);
}

fn json(yard: &Yard, args: &[&str]) -> Value {
    let said = yard.says(&[args, &["-o", "json"]].concat());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Whether an importing cluster takes reviews from this cluster, among so many places.
fn is_used(yard: &Yard, importer: &str, cluster: &str, places: usize) -> Result<(), String> {
    let status = json(yard, &["failover", "status", "reviews.bookinfo"]);
    let row = status["rows"].as_array().unwrap().iter().find(|row| row["importer"] == importer).cloned().unwrap();
    let is_so = row["in_use"] == cluster && row["places"].as_array().unwrap().len() == places;
    if is_so { Ok(()) } else { Err(row.to_string()) }
}

/// The last event of this in a cluster's history.
fn told(yard: &Yard, importer: &str, what: &str, of: &str) -> Result<Value, String> {
    let history = json(yard, &["failover", "history"]);
    let is = |event: &&Value| event["importer"] == importer && event["what"] == what && event["of"] == of;
    let last = history["events"].as_array().unwrap().iter().rfind(is).cloned();
    last.ok_or_else(|| history.to_string())
}

/// What a command prints that fails after it told all of it.
fn fails(yard: &Yard, args: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = yard.run(args);
    assert!(!status.success(), "{args:?}");
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// That a verb is over; that its end is not in the log yet is said where the log took more than two seconds.
fn is_over(said: &str, what: &str, at: &str) {
    let late = format!("the {what} is over in {at}\n  local     its end is not in the federation's log yet");
    let is_so = said.starts_with(&format!("the {what} is over, taken back in {at}")) || said.starts_with(&late);
    assert!(is_so, "{said}");
}

fn has(said: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(said.contains(part), "{part} is not in:\n{said}"));
}

fn what_is_unknown_is_refused_with_its_remedy(yard: &Yard) {
    for (args, part) in [
        (&["cluster", "drain", "mars"][..], "no cluster mars is a member of this mesh; there are"),
        (&["cluster", "undrain", "us-west"], "no drain-us-west is in force in us-east; `isthmus failover verbs` lists"),
        (&["cluster", "undrain", "mars"], "no cluster mars is a member of this mesh; there are"),
        (
            &["cluster", "drain", "us-west", "--over", "2h", "--for", "1h"],
            "take 2h until all has left (--over), and ends by itself after 1h (--for)",
        ),
        (&["cluster", "drain", "us-west", "--for", "99999999999d"], "is no time for it (--for)"),
        (&["cluster", "drain", "us-west", "--reason", "two\nlines"], "the reason has control characters"),
        (&["service", "pin", "nobody.bookinfo", "--to", "us-west"], "knows no service bookinfo/nobody"),
        (&["service", "pin", "reviews", "--to", "us-west"], "names no service; write it as reviews.bookinfo"),
        (&["failover", "status", "nobody.bookinfo"], "knows a service bookinfo/nobody"),
        (
            &["failover", "simulate", "--down", "mars"],
            "no cluster mars in this mesh; there are eu-west, us-east, us-west",
        ),
        (&["failover", "simulate", "--down", "us-east,us-west,eu-west"], "no cluster is left that could be asked"),
    ] {
        let said = yard.refuses(args);
        assert!(said.contains(part), "{args:?}: {part} is not in {said}");
    }
    assert!(yard.says(&["failover", "verbs"]).starts_with("nothing is drained"));
    // Who operates no other cluster acts for the own one alone.
    let said = yard.says(&["cluster", "drain", "eu-west", "--at", "us-west"]);
    let bound = said.lines().find(|line| line.trim_start().starts_with("binds")).unwrap_or_default();
    assert_eq!(bound.split_whitespace().skip(1).collect::<Vec<_>>(), ["us-west"], "{said}");
    // Taken back before the others heard of it, it would never have begun for them.
    wait("us-east has heard of it", || {
        told(yard, "us-east", "began for 24h, but not here", "drain of eu-west over 1m").map(drop)
    });
    yard.says(&["cluster", "undrain", "eu-west", "--at", "us-west"]);
}

fn what_would_happen_is_told_without_a_packet(yard: &Yard) {
    let said = yard.says(&["failover", "simulate", "--down", "us-west"]);
    has(&said, &["if us-west were down", "services with nowhere to go", "only us-west can serve it"]);
    has(&said, &["! the clients of us-west (", "are left out: they are gone with it", "--drained us-west"]);
    let (said, why) = fails(yard, &["failover", "simulate", "--down", "us-west", "--fail-on-loss", "-o", "json"]);
    assert!(why.contains("if us-west were down bookinfo/details from us-east would have nowhere to go"), "{why}");
    let outcome: Value = serde_json::from_str(&said).unwrap();
    let reviews = |row: &&Value| row["service"] == "bookinfo/reviews" && row["importer"] == "us-east";
    let row = outcome["services"].as_array().unwrap().iter().find(reviews).unwrap();
    assert!((row["then"]["us-east"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{row}");
    // Ratings are in the two others, so this loses nothing of them.
    let said = yard.says(&["failover", "simulate", "--down", "eu-west", "--fail-on-loss"]);
    assert!(said.contains("every service would have somewhere to go"), "{said}");
}

fn a_drain_is_in_force_everywhere_and_seen(yard: &Yard) {
    let said = yard.says(DRAIN);
    has(
        &said,
        &["drain of us-west over 0s, done in us-east by ", ": a new kernel", "binds     us-east, ", "in 2h, at "],
    );
    has(&said, &["into the federation's log", "isthmus cluster undrain us-west", "isthmus failover status"]);
    wait("us-west itself takes reviews from elsewhere", || {
        is_used(yard, "us-west", "us-east", 3).or_else(|_| is_used(yard, "us-west", "eu-west", 3))
    });
    wait("the drain is known everywhere, and written", || {
        let verbs = json(yard, &["failover", "verbs"]);
        let one = &verbs["verbs"][0];
        let everywhere = one["binds"].as_array().is_some_and(|binds| binds.len() == 3);
        if everywhere && one["local"] == false { Ok(()) } else { Err(verbs.to_string()) }
    });
    let status = yard.says(&["failover", "status", "reviews.bookinfo"]);
    has(
        &status,
        &[
            "» drain of us-west over 0s, by ",
            "a new kernel; in force in us-east, us-west, eu-west; leaves 0 %",
            "at once by: isthmus cluster undrain us-west",
        ],
    );
    has(&status, &["WOULD CHANGE WHEN", "bookinfo/reviews from us-west", "HEALTHY"]);
    has(
        &yard.says(&["failover", "history"]),
        &["IMPORTER", "drain of us-west over 0s", "began for 2h", "bookinfo/reviews"],
    );
    wait("the picture shows it", || {
        let shown = yard.says(&["status"]);
        if shown.contains("» drain of us-west over 0s") { Ok(()) } else { Err(shown) }
    });
    let said = yard.says(&["cluster", "undrain", "us-west", "--reason", "it boots"]);
    is_over(&said, "drain of us-west", "us-east");
    wait("us-west takes reviews from itself again", || is_used(yard, "us-west", "us-west", 3));
    for cluster in ["us-east", "us-west", "eu-west"] {
        wait("everybody tells who took it back, and why", || {
            let event = told(yard, cluster, "taken back", "drain of us-west over 0s")?;
            let by = event["by"].as_str().unwrap_or_default().ends_with(" at us-east");
            if by && event["why"] == "it boots" { Ok(()) } else { Err(event.to_string()) }
        });
    }
}

fn what_is_simulated_is_what_a_drain_does(yard: &Yard) {
    let simulated = json(yard, &["failover", "simulate", "--drained", "us-west"]);
    let would = simulated["services"].as_array().unwrap();
    assert!(would.iter().any(|row| row["importer"] == "us-west"), "its own clients go on: {simulated}");
    yard.says(&["cluster", "drain", "us-west", "--over", "0s"]);
    wait("every cluster sends where it was simulated", || {
        let status = json(yard, &["failover", "status"]);
        let goes = |row: &Value| {
            let is_this = |one: &&Value| one["service"] == row["service"] && one["importer"] == row["importer"];
            let would = would.iter().find(is_this).unwrap();
            row["places"].as_array().unwrap().iter().all(|place| {
                let then = would["then"][place["cluster"].as_str().unwrap()].as_f64().unwrap_or_default();
                (place["part"].as_f64().unwrap() - then).abs() < 0.01
            })
        };
        let rows = status["rows"].as_array().unwrap();
        if rows.iter().all(goes) { Ok(()) } else { Err(format!("{status}\nwould: {simulated}")) }
    });
    yard.says(&["cluster", "undrain", "us-west"]);
    wait("us-west takes reviews from itself again", || is_used(yard, "us-west", "us-west", 3));
}

fn an_operator_is_asked_before_the_first_cluster(yard: &Yard) {
    // Who operates the mesh names those who come after.
    for (before, operator) in [("us-east", "eu-west"), ("eu-west", "us-east")] {
        yard.says(&["cluster", "operators", operator, "--at", before]);
        wait("the operator's cluster does it, for all", || {
            let ran = yard.run(DRAIN);
            let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
            let is_done = ran.status.success() && said.contains(&format!("done in {operator} by "));
            // Before all have heard who operates the mesh it binds some only, and says so.
            let is_said = ran.status.success() || said.contains("it is in force in ");
            assert!(is_said, "{said}");
            if is_done { Ok(()) } else { Err(said) }
        });
        yard.says(&["cluster", "undrain", "us-west"]);
    }
    nothing_is_in_force(yard);
}

fn a_drain_of_one_cluster_by_itself_is_taken_back_where_it_was_done(yard: &Yard) {
    let said = yard.says(&["cluster", "drain", "eu-west", "--at", "eu-west"]);
    has(&said, &["done in eu-west by ", "in 24h, at "]);
    wait("us-east knows where it was done", || {
        let said = yard.run(&["cluster", "undrain", "eu-west", "--at", "us-east"]);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        if said.contains("was done in eu-west; take it back there, with --at eu-west") { Ok(()) } else { Err(said) }
    });
    is_over(&yard.says(&["cluster", "undrain", "eu-west"]), "drain of eu-west", "eu-west");
}

fn a_service_is_evacuated_pinned_and_given_back(yard: &Yard) {
    let said = yard.says(&["service", "evacuate", "reviews.bookinfo", "--from", "us-east", "--over", "0s"]);
    has(
        &said,
        &[
            "evacuation of bookinfo/reviews from us-east over 0s",
            "isthmus service restore bookinfo/reviews --from us-east",
        ],
    );
    wait("reviews are taken from elsewhere", || {
        is_used(yard, "us-east", "us-west", 3).or_else(|_| is_used(yard, "us-east", "eu-west", 3))
    });
    assert!(yard.says(&["service", "restore", "bookinfo/reviews", "--from", "us-east"]).contains("is over"));
    // What is not in the log within two seconds is said to be local.
    wait("what is taken back is in the log", || {
        let said = yard.says(&["service", "evacuate", "details.bookinfo", "--from", "us-west", "--for", "2m30s"]);
        assert!(said.contains("! nothing but us-west can serve bookinfo/details: its requests stay there"), "{said}");
        let back = json(yard, &["service", "restore", "details.bookinfo", "--from", "us-west"]);
        assert_eq!(back["taken_back"][0]["cluster"], "us-east", "{back}");
        if back["taken_back"][0]["local"] == false { Ok(()) } else { Err(back.to_string()) }
    });
    wait("the pin is in the log", || {
        let pin = json(yard, &["service", "pin", "details.bookinfo", "--to", "us-east"]);
        let doubt = pin["done"]["doubts"][0].as_str().unwrap_or_default();
        assert!(doubt.starts_with("bookinfo/details: us-east does not offer it"), "{pin}");
        if pin["done"]["local"] == false { Ok(()) } else { Err(pin.to_string()) }
    });
    yard.says(&["service", "unpin", "details.bookinfo"]);
    has(
        &yard.says(&["service", "pin", "reviews.bookinfo", "--to", "eu-west"]),
        &["isthmus service unpin bookinfo/reviews"],
    );
    wait("reviews are taken from eu-west", || is_used(yard, "us-east", "eu-west", 3));
    assert!(yard.says(&["service", "unpin", "reviews.bookinfo"]).contains("the pin of bookinfo/reviews is over"));
}

fn a_drill_reports_and_leaves_nothing_behind(yard: &Yard) {
    wait("us-west takes reviews from itself after the pin", || is_used(yard, "us-west", "us-west", 3));
    let report = json(yard, &["failover", "drill", "us-west", "--for", "10s", "--reason", "practice"]);
    assert_eq!((&report["end"]["how"], &report["cluster"]), (&"over".into(), &"us-west".into()), "{report}");
    let of = |name: &str| report["importers"].as_array().unwrap().iter().find(|one| one["importer"] == name).unwrap();
    assert!(of("us-west")["move_took_seconds"].as_f64().is_some_and(|took| took < 10.0), "{report}");
    wait("us-west takes reviews from itself again", || is_used(yard, "us-west", "us-west", 3));
    let mut stopped = yard.start(&["failover", "drill", "us-west", "--for", "1h"]);
    stopped.until("services moved");
    stopped.signal(Signal::INT);
    let (well, said) = stopped.end();
    assert!(well, "{said}");
    has(&said, &["drill of us-west begun in us-east", "Ctrl-C ends it at once", "stopped by Ctrl-C", "SLOWEST P90"]);
    has(&said, &["bookinfo/details", "it stayed"]);
    nothing_is_in_force(yard);
    // Nobody but its own command could end it before; now anybody may.
    let mut elsewhere = yard.start(&["failover", "drill", "us-west", "--for", "1h"]);
    elsewhere.until("services moved");
    let said = yard.says(&["cluster", "undrain", "us-west", "--reason", "enough"]);
    is_over(&said, "drill of us-west", "us-east");
    let (well, said) = elsewhere.end();
    assert!(well && said.contains("somebody else took it back"), "{said}");
    nothing_is_in_force(yard);
}

fn nothing_is_in_force(yard: &Yard) {
    wait("nothing is in force", || {
        let said = yard.says(&["failover", "verbs"]);
        if said.starts_with("nothing is drained") { Ok(()) } else { Err(said) }
    });
}

/// Sends requests of us-west's client to echo, which answers with this status.
fn send(status: u16, count: usize) {
    for _ in 0..count {
        let mut proxy = TcpStream::connect("127.165.11.1:15080").unwrap();
        let host = "echo.bookinfo.svc.clusterset.local:9080";
        write!(proxy, "GET http://{host}/status/{status} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        proxy.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

fn a_drill_stops_when_requests_fail(yard: &Yard) {
    send(200, 40);
    let drill = yard.start(&["failover", "drill", "eu-west", "--for", "1h"]);
    // What fails before us-west has heard of the drill is no doing of it.
    wait("us-west has heard of the drill", || told(yard, "us-west", "began for 1h", "drill of eu-west").map(drop));
    wait("the drill is given up", || {
        send(500, 1);
        told(yard, "us-west", "given up", "drill of eu-west").map(drop)
    });
    let (well, said) = drill.end();
    assert!(!well, "{said}");
    has(
        &said,
        &["STOPPED for us-west: ", "of requests fail, 0.0 % before the drill", "the drill of eu-west was stopped"],
    );
    nothing_is_in_force(yard);
}

fn without_a_quorum_it_is_said_who_keeps_what_was_taken_back(yard: &Yard) {
    for cluster in ["us-west", "eu-west"] {
        yard.says(&["cluster", "kill", cluster, "--only", "federation"]);
    }
    wait("us-east knows of no quorum", || {
        // Until it does it waits for the log, and on a busy machine for longer than the command waits for it.
        let ran = yard.run(&["cluster", "drain", "eu-west", "--for", "10m", "--at", "us-east"]);
        let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        if said.contains("  local     the federation has no quorum") { Ok(()) } else { Err(said) }
    });
    let said = yard.says(&["cluster", "undrain", "eu-west"]);
    has(&said, &["the drain of eu-west is over in us-east\n", "  local     the federation has no quorum"]);
    let said = yard.refuses(&["cluster", "undrain", "eu-west"]);
    assert!(said.contains("was taken back already"), "{said}");
    for cluster in ["us-west", "eu-west"] {
        yard.says(&["cluster", "start", cluster]);
    }
    nothing_is_in_force(yard);
}

fn who_does_not_answer_is_named(yard: &Yard) {
    yard.says(&["cluster", "kill", "eu-west", "--only", "control"]);
    for args in [&["failover", "status"], &["failover", "history"], &["failover", "verbs"]] {
        let said = yard.says(args);
        assert!(said.starts_with("! the control of eu-west does not answer: "), "{args:?}: {said}");
    }
    assert_eq!(json(yard, &["failover", "status"])["silent"][0]["cluster"], "eu-west");
    yard.says(&["cluster", "start", "eu-west"]);
}
